"""Hold one kernel as it was recovered, with the evidence for it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from kallsift.addresses import PhysicalAddress, VirtualAddress
from kallsift.arch.paging import Mapping, PagingMode
from kallsift.arch.registry import mapping_named
from kallsift.kallsyms.evidence import Check, proven
from kallsift.kallsyms.recovered_tables import Damage
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.memory.memory import AddressSpace, Memory, printable


class State(Enum):
    """The state of a kernel that was found in a source."""

    RUNNING = "running"
    """Its own page table maps it, and its data point to memory outside its image."""
    STALE = "stale copy"
    """It ran: its words were relocated, or point to memory outside the image. Nothing shows that it still runs."""
    IMAGE = "image file"
    """It is as the linker made it: a kernel image, or the copy of one in a machine's memory."""
    GUEST = "nested guest"
    """It runs in a virtual machine on the machine whose memory this is."""
    TABLES = "tables alone"
    """Nothing tells where its tables are mapped, so only the tables themselves were found."""
    PANICKED = "panicked"
    """It panicked, and its capture kernel runs instead of it."""


class Role(Enum):
    """The role of a kernel that ran beside other kernels, by its own variables."""

    ORDINARY = "ordinary"
    """Nothing shows that it ended, or that it runs for another kernel."""
    PANICKED = "panicked"
    """It panicked."""
    CAPTURE = "capture kernel"
    """It was started to save the memory of a kernel that panicked (kdump)."""
    REPLACED = "replaced"
    """It started another kernel in its place (kexec)."""


@dataclass(frozen=True, repr=False)
class TableLocation:
    """The location of one of the kernel's tables.

    Attributes:
        name: the table's name in the kernel source without ``kallsyms_``, e.g. ``token_table``.
        physical: address of its first byte in the source.
        virtual: address of its first byte where the image is mapped.
        size: size in bytes.
    """

    name: str
    physical: PhysicalAddress
    virtual: VirtualAddress
    size: int

    def __repr__(self) -> str:
        return f"<TableLocation {self.name} at {self.virtual:#x}, physical {self.physical:#x}, {self.size:,} bytes>"


@dataclass(frozen=True, eq=False, repr=False)
class Kernel:
    """One kernel found in a source.

    Attributes:
        symbols: the whole built-in table in the kernel's own order.
        evidence: all checks and their outcomes.
        state: whether it runs, and what it is otherwise.
        byte_order: ``"<"`` or ``">"``.
        architecture: e.g. ``x86-64``; None if neither a page table nor an image header told it.
        banner: the ``Linux version ...`` line; None if it was not found.
        encoding: name of the address encoding, e.g. ``"self-relative"``.
        tables: locations of the tables, in the order of their addresses.
        virtual_base: address of ``_text`` (or ``_stext``) in the running kernel.
        physical_base: physical address of the same byte.
        kaslr_slide: virtual base less the address that it was linked at; None if that is unknown.
        page_table_root: physical address of the kernel's own top-level table.
        mapping: the translation of addresses, by page tables of one mode or by windows; None if it is unknown.
        role: its role beside other kernels.
        others: states of the other kernels that were found in the source; None for one that was not examined.
        memory: the memory in which it was found: the source, or the image that was unpacked from it.
        distance: virtual address less address in ``memory`` of each byte of the image, modulo 2^64.
        damage: the lost pages of its tables; empty where none is lost.
        is_placed: whether anything tells where it is mapped; if not, ``distance`` leads to no byte of ``memory``, and
            the addresses of ``tables`` are guesses.
        left_out: the work that was left out because the search had used its budget; None if nothing was left out.
        lists: number of lists that run from its image through other memory and back, which shows it alive; not all are
            counted if there are many.
    """

    symbols: SymbolTable
    evidence: tuple[Check, ...]
    state: State
    byte_order: str
    architecture: str | None
    banner: str | None
    encoding: str
    tables: tuple[TableLocation, ...]
    virtual_base: VirtualAddress | None
    physical_base: PhysicalAddress | None
    kaslr_slide: int | None
    page_table_root: PhysicalAddress | None
    mapping: Mapping | None
    memory: Memory
    distance: int
    damage: tuple[Damage, ...] = ()
    lists: int = 0
    is_placed: bool = True
    role: Role = Role.ORDINARY
    others: tuple[State | None, ...] = ()
    left_out: str | None = None

    def __repr__(self) -> str:
        """Return one line that tells kernels apart."""
        release = (self.banner or "of unknown release").removeprefix("Linux version ").split(" ")[0]
        base = "" if self.virtual_base is None else f" at {self.virtual_base:#x}"
        trust = "proven" if self.proven else "not proven"
        name = printable(f"{release} {self.architecture or 'of unknown architecture'}")
        return f"<Kernel {name}: {self.state.value}{base}, {trust}, {len(self.symbols):,} symbols>"

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a pickle, with names in place of the mapping.

        A mapping is made of functions, which a pickle cannot hold.
        """
        mapping = self.mapping
        named = None if mapping is None else (mapping.architecture, mapping.name, self.byte_order, self.attribute_bits)
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init} | {"mapping": named}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state from a pickle; find the mapping by its names."""
        if state["mapping"] is not None:
            *names, attribute_bits = state["mapping"]
            mapping = mapping_named(*names)
            if isinstance(mapping, PagingMode):
                mapping = mapping.with_attributes(attribute_bits)
            state = state | {"mapping": mapping}
        self.__dict__.update(state)

    @property
    def paging(self) -> str | None:
        """Mode of its page table, e.g. ``"4-level"``; None if no mapping is known."""
        return None if self.mapping is None else self.mapping.name

    @property
    def attribute_bits(self) -> int:
        """Address bits in page-table entries that mark encrypted or shared memory.

        0 if there are none.
        """
        return self.mapping.attribute_bits if isinstance(self.mapping, PagingMode) else 0

    @property
    def has_memory(self) -> bool:
        """True if the kernel's memory outside of its image is present and mapped."""
        return self.memory.image is None and self.state in (State.RUNNING, State.GUEST, State.PANICKED)

    @property
    def has_readable_tables(self) -> bool:
        """True if all pages of its tables are readable, also those read after the proof."""
        return all(self.memory.is_readable(table.physical, table.size) for table in self.tables)

    def place(self, address: int) -> int:
        """Return the location of an address of its memory in the source.

        This is the address itself, or the offset in the file if the memory is an image's.
        """
        image = self.memory.image
        return address if image is None or self.memory.space is not AddressSpace.FILE else address + image.skipped

    @property
    def proven(self) -> bool:
        """True if the kernel is proven.

        It is proven if every essential check passed or was absent, and if it is the running kernel, or the source is
        its image.
        """
        wanted = State.RUNNING if self.memory.image is None else State.IMAGE
        return self.state is wanted and proven(self.evidence)
