"""Kernel: what was recovered of one kernel, with the evidence for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kallsift.addresses import PhysicalAddress, VirtualAddress
from kallsift.kallsyms.evidence import Check, proven
from kallsift.kallsyms.table import SymbolTable


class State(Enum):
    """What a kernel in the dump is."""

    RUNNING = "running"
    """Its own page table maps it, and its data point into memory outside its image."""
    UNPLACED = "unplaced"
    """The table is whole, but nothing says that it is mapped where it lies: a stale copy or an image file."""


@dataclass(frozen=True)
class TablePlace:
    """Where one of the kernel's tables lies.

    Attributes:
        name: the table's name in the kernel source without ``kallsyms_``, e.g. ``token_table``.
        physical: address of its first byte in the source.
        virtual: the same where the image is mapped.
        size: bytes.
    """

    name: str
    physical: PhysicalAddress
    virtual: VirtualAddress
    size: int


@dataclass(frozen=True, eq=False)
class Kernel:
    """One kernel found in a source.

    Attributes:
        symbols: the whole built-in table in the kernel's own order.
        evidence: every check, and how it came out.
        state: running or not.
        architecture: e.g. ``x86-64``; None if no page table or image header told.
        banner: the ``Linux version ...`` line, None if not found.
        encoding: name of the address encoding, e.g. ``"self-relative"``.
        tables: places of the tables, in the order of their addresses.
        virtual_base: address of ``_text`` (or ``_stext``) in the running kernel.
        physical_base: the same byte's physical address.
        kaslr_slide: virtual base less the address it was linked at, None if that cannot be known.
        page_table_root: physical address of the kernel's own top-level table.
        paging: the mode of that table, e.g. ``"4-level"``.
    """

    symbols: SymbolTable
    evidence: tuple[Check, ...]
    state: State
    architecture: str | None
    banner: str | None
    encoding: str
    tables: tuple[TablePlace, ...]
    virtual_base: VirtualAddress | None
    physical_base: PhysicalAddress | None
    kaslr_slide: int | None
    page_table_root: PhysicalAddress | None
    paging: str | None

    @property
    def proven(self) -> bool:
        """Whether every essential check passed and the kernel is known to be the running one."""
        return self.state is State.RUNNING and proven(self.evidence)
