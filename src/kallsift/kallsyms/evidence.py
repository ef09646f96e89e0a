"""Define the checks of a recovered kernel and their outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum


class CheckId(StrEnum):
    """Name of an equation that is checked.

    The values are shown to users; docs/evidence.md has a row for each.
    """

    ADDRESS_ORDER = "address order"
    MARKERS = "markers"
    NAMES = "names"
    NAME_CODES = "name codes"
    NUM_SYMS = "num_syms"
    SEQS_OF_NAMES = "seqs_of_names"
    TOKEN_INDEX = "token index"
    TYPE_LETTERS = "type letters"
    HEADER = "header"
    DAMAGE = "damage"
    BASE = "base"
    BANNER_PLACE = "banner's place"
    DISTANCE = "distance"
    FIRST_BYTE = "first byte"
    MAPPED_SEGMENTS = "mapped segments"
    OWN_NAME = "own name"
    PAGE_TABLE = "page table"
    PLACEMENT = "placement"
    POINTER_DISTANCE = "pointers' distance"
    POINTERS_TO_STRINGS = "pointers to strings"
    POINTERS_TO_SYMBOLS = "pointers to symbols"
    SELF_POINTERS = "self-pointers"
    STRING_DISTANCE = "strings' distance"
    VIRTUAL_ADDRESSES = "virtual addresses"
    WORD_SIZE = "word size"
    ALIVE = "alive"
    ATTRIBUTE_BITS = "attribute bits"
    DISPLACEMENT = "displacement"
    HOLE = "hole"
    RAM = "RAM"
    RANGES = "ranges"
    KALLSYMS_SYMBOLS = "kallsyms_*"
    LINUX_BANNER = "linux_banner"
    SINITTEXT = "_sinittext"
    START_BTF = "__start_BTF"
    PER_CPU_OFFSET = "__per_cpu_offset"
    VMCOREINFO = "VMCOREINFO"
    CR3 = "CR3"
    TTBR1 = "TTBR1"
    LSTAR = "LSTAR"
    VBAR = "VBAR"
    IDT = "IDT"
    INITIAL_DATA = "initial data"
    LINK_ADDRESS = "link address"
    MACHINE = "machine"
    NAMES_OF_ADDRESSES = "names of addresses"
    ONLY_KERNEL = "only kernel"
    ONLY_READING = "only reading"
    OTHER_TABLES = "other tables"
    PROCESSES = "processes"
    RUNNING_KERNEL = "running kernel"
    EXPORTS = "exports"
    HELD_TWICE = "held twice"
    SIBLING_SYMBOLS = "sibling symbols"
    EXPORTS_TWICE = "exports twice"
    BTF_FUNCTIONS = "BTF functions"
    NAMED_POINTERS = "named pointers"
    FUNCTION_STARTS = "function starts"
    LINKER_ARRAYS = "linker arrays"
    STATIC_KEYS = "static keys"


class Outcome(Enum):
    """The outcome of one check."""

    PASSED = "passed"
    FAILED = "failed"
    ABSENT = "absent"
    """The source has nothing to check against; this speaks neither for nor against the result."""


@dataclass(frozen=True)
class Check:
    """One equation that a true table must fulfil, and its outcome.

    Attributes:
        name: the equation.
        outcome: the outcome of the check.
        detail: one sentence with the figures.
        essential: whether the table counts as unproven when this check fails.
        is_quoted: whether the line that says why a kernel is not proven quotes the detail too.
    """

    name: CheckId
    outcome: Outcome
    detail: str
    essential: bool = True
    is_quoted: bool = False

    @classmethod
    def that(cls, name: CheckId, holds: bool, detail: str, *, essential: bool = True, is_quoted: bool = False) -> Check:
        """Return a check that passed if ``holds``, else failed."""
        return cls(name, Outcome.PASSED if holds else Outcome.FAILED, detail, essential, is_quoted)


def proven(checks: tuple[Check, ...]) -> bool:
    """Return whether no essential check failed."""
    return not any(check.essential and check.outcome is Outcome.FAILED for check in checks)
