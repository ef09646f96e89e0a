"""Choose among interpretations of scattered tables by what the image confirms.

Where tables lie anywhere, more than one count, array and base can be in order. Other content of the image decides:
things that symbols name, words that equal symbols, and exports, which tell the name that belongs to an address.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from kallsift.kallsyms.evidence import Check, CheckId, Outcome, proven
from kallsift.kallsyms.recovered_tables import Layout, Tables
from kallsift.kernel.checks.ksymtab import ImageExports, find_exports
from kallsift.kernel.placement.placement import Placement
from kallsift.kernel.placement.pointer_targets import without_code_bit
from kallsift.kernel.placement.pointers import AFTER, BEFORE, Words
from kallsift.memory.memory import Memory

LANDMARKS = frozenset({CheckId.LINUX_BANNER, CheckId.KALLSYMS_SYMBOLS, CheckId.VMCOREINFO, CheckId.EXPORTS})
"""Checks that compare a symbol's address with something else than the tables."""

NEARLY = 0.9
"""Lowest share of the best reading's pointers to symbols with which another reading is almost as well confirmed."""

HALF = 0.5
"""Lowest share of its exports, likewise."""

LEAST_EXPORTS = 16
"""Lowest number of exports whose names the table has before they prove anything; real kernels have thousands."""

MOST = 0.75
"""Lowest share of them that must agree: a table that is off by one has some of them, because neighbours share
addresses."""


@dataclass(frozen=True, eq=False)
class Interpretation:
    """One way to read the tables.

    Attributes:
        tables: the tables in this reading.
        placement: their placement.
        landmarks: the checks of things that symbols name.
        exports: number of the image's exports that agree with it.
    """

    tables: Tables
    placement: Placement
    landmarks: tuple[Check, ...]
    exports: int

    @property
    def weight(self) -> int:
        """Number of pointers and exports that confirm it."""
        return self.placement.hits + self.exports

    @property
    def is_confirmed(self) -> bool:
        """True if pointers confirm it, and a landmark if the array could lie elsewhere."""
        return CheckId.POINTERS_TO_SYMBOLS in self._passed and (self._exact or bool(self._passed & LANDMARKS))

    @property
    def is_unambiguous(self) -> bool:
        """True if array and names end together, and landmarks show that they match."""
        return self.is_confirmed and self._exact and bool(self._passed & LANDMARKS) and proven(self.landmarks)

    @property
    def _exact(self) -> bool:
        return self.tables.layout is Layout.BOUNDED

    @cached_property
    def _passed(self) -> set[CheckId]:
        return {check.name for check in (*self.placement.checks, *self.landmarks) if check.outcome is Outcome.PASSED}

    def rivals(self, other: Interpretation) -> bool:
        """Tell whether it differs from another reading, and is almost as well confirmed.

        A reading that stops before the common end of names and addresses does not differ.
        """
        symbols, others = self.placement.symbols, other.placement.symbols
        alike = symbols.begins(others) if other._exact else symbols.same_as(others)
        return (
            self.placement.hits >= NEARLY * other.placement.hits
            and self.exports >= HALF * other.exports
            and not (alike and symbols.word_size == others.word_size)
        )


class Interpretations:
    """All readings of one kernel's tables that were found so far."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._found: list[Interpretation] = []
        self._exports: dict[tuple[Words, int], ImageExports] = {}

    def add(self, tables: Tables, placement: Placement, landmarks: tuple[Check, ...]) -> bool:
        """Keep a further reading if the image confirms it; tell whether it does."""
        exports = self._image_exports(tables, placement)
        if placement.code_bit:
            exports = replace(exports, addresses=without_code_bit(exports.addresses, placement.symbols))
        agreeing, contrary = exports.compared(placement.symbols)
        if agreeing + contrary >= LEAST_EXPORTS:
            detail = f"{agreeing} of {agreeing + contrary} symbols that the image exports by name have their addresses"
            landmarks = (*landmarks, Check.that(CheckId.EXPORTS, agreeing >= MOST * (agreeing + contrary), detail))
        if tables.rivals:
            landmarks = (*landmarks, _names_check(tables, placement, landmarks, exports))
        reading = Interpretation(tables, placement, landmarks, agreeing)
        if reading.is_confirmed:
            self._found.append(reading)
        return reading.is_confirmed

    @property
    def is_unambiguous(self) -> bool:
        """True if one of them makes less exact ones unnecessary."""
        return any(reading.is_unambiguous for reading in self._found)

    def best(self) -> Interpretation | None:
        """Return the reading that is confirmed best, or None.

        It is not proven if another one is almost as well confirmed. None if there is no reading.
        """
        given = self._memory.hints.word_size
        wanted = [reading for reading in self._found if given in (None, reading.tables.word_size)]
        if not wanted:
            return None
        # an array whose base was read is preferred to one whose base had to be found
        best = max(wanted, key=lambda reading: (reading.weight, not reading.tables.array.needs_base))
        rivals = sum(reading.rivals(best) for reading in self._found)
        if not rivals:
            return best
        detail = f"{rivals} other interpretations of the tables score almost as high"
        return replace(best, landmarks=(*best.landmarks, Check.that(CheckId.ONLY_READING, False, detail)))

    def _image_exports(self, tables: Tables, placement: Placement) -> ImageExports:
        key = placement.words, placement.distance
        if key not in self._exports:
            window = self._memory.around(tables.array_address, BEFORE, AFTER)
            self._exports[key] = find_exports(window, placement.words, placement.distance)
        return self._exports[key]


def _names_check(tables: Tables, placement: Placement, landmarks: tuple[Check, ...], exports: ImageExports) -> Check:
    """Check that an array belongs to its names, and not to those of a kernel nearby.

    Words that equal addresses do not show that, and in two builds of one kernel most names agree.
    """
    passed = {check.name for check in landmarks if check.outcome is Outcome.PASSED}
    symbols = placement.symbols
    rivals = (replace(symbols, characters=names.characters, bounds=names.bounds) for names in tables.rivals)
    tied = CheckId.KALLSYMS_SYMBOLS in passed or (
        CheckId.EXPORTS in passed
        and all(exports.compared(rival)[0] < HALF * exports.compared(symbols)[0] for rival in rivals)
    )
    detail = f"another kernel nearby has {len(symbols)} names too"
    if tied:
        return Check.that(CheckId.NAMES_OF_ADDRESSES, True, f"{detail}, but these names belong to the addresses")
    detail += ", and nothing shows which kernel the addresses belong to"
    return Check.that(CheckId.NAMES_OF_ADDRESSES, False, detail, is_quoted=True)
