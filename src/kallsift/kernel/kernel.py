"""Kernel: what was recovered of one kernel, with the evidence for it."""

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
    """What a kernel in the dump is."""

    RUNNING = "running"
    """Its own page table maps it, and its data point into memory outside its image."""
    STALE = "stale copy"
    """It ran: its words were relocated or point into memory outside the image. Nothing says that it still does."""
    IMAGE = "image file"
    """As the linker made it: a kernel image, or the copy of one that a machine's memory holds."""
    GUEST = "nested guest"
    """It runs in a virtual machine, of the machine whose memory this is."""
    TABLES = "tables alone"
    """Nothing tells where its tables are mapped, and so nothing of it but these was seen."""
    PANICKED = "panicked"
    """It panicked, and its capture kernel runs instead of it."""


class Role(Enum):
    """What a kernel that ran is beside others, by its own variables."""

    ORDINARY = "ordinary"
    """Nothing says that it ended, or that it runs for another one."""
    PANICKED = "panicked"
    """It panicked."""
    CAPTURE = "capture kernel"
    """It was started to save the memory of a kernel that panicked (kdump)."""
    REPLACED = "replaced"
    """It has started another kernel in its place (kexec)."""


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        return f"<TablePlace {self.name} at {self.virtual:#x}, physical {self.physical:#x}, {self.size:,} bytes>"


@dataclass(frozen=True, eq=False, repr=False)
class Kernel:
    """One kernel found in a source.

    Attributes:
        symbols: the whole built-in table in the kernel's own order.
        evidence: every check, and how it came out.
        state: running or not.
        byte_order: ``"<"`` or ``">"``.
        architecture: e.g. ``x86-64``; None if no page table or image header told.
        banner: the ``Linux version ...`` line, None if not found.
        encoding: name of the address encoding, e.g. ``"self-relative"``.
        tables: places of the tables, in the order of their addresses.
        virtual_base: address of ``_text`` (or ``_stext``) in the running kernel.
        physical_base: the same byte's physical address.
        kaslr_slide: virtual base less the address it was linked at, None if that cannot be known.
        page_table_root: physical address of the kernel's own top-level table.
        mapping: how addresses are translated: by page tables of which mode, by windows; None if nothing is known to.
        role: what it is beside other kernels.
        others: states of the other kernels that were met in the source, None where they were not looked at.
        memory: what it was found in: the source, or the image that was unpacked from it.
        distance: virtual address less address in ``memory`` of each byte of the image, modulo 2^64.
        damage: what its tables lost; empty where nothing was.
        is_placed: whether anything tells where it is mapped; if not, ``distance`` leads to no byte of ``memory``, and
            the addresses of ``tables`` are guesses.
        left_out: what was left out when the search had cost as much as its source is worth; None if nothing was.
        lists: lists that run from its image through other memory and back, not all, if many: what shows it alive.
    """

    symbols: SymbolTable
    evidence: tuple[Check, ...]
    state: State
    byte_order: str
    architecture: str | None
    banner: str | None
    encoding: str
    tables: tuple[TablePlace, ...]
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
        """Give a pickle the names of what translates addresses: it is made of functions, which none can hold."""
        mapping = self.mapping
        named = None if mapping is None else (mapping.architecture, mapping.name, self.byte_order, self.attribute_bits)
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init} | {"mapping": named}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Find what translates addresses again by its names."""
        if state["mapping"] is not None:
            *names, attribute_bits = state["mapping"]
            mapping = mapping_named(*names)
            if isinstance(mapping, PagingMode):
                mapping = mapping.with_attributes(attribute_bits)
            state = state | {"mapping": mapping}
        self.__dict__.update(state)

    @property
    def paging(self) -> str | None:
        """The mode of its page table, e.g. ``"4-level"``; None if nothing is known to map it."""
        return None if self.mapping is None else self.mapping.name

    @property
    def attribute_bits(self) -> int:
        """Bits of addresses in page-table entries that mark encrypted or shared memory; 0 if none do."""
        return self.mapping.attribute_bits if isinstance(self.mapping, PagingMode) else 0

    @property
    def has_memory(self) -> bool:
        """Whether the memory is there that the kernel had beside its image, mapped as it had it."""
        return self.memory.image is None and self.state in (State.RUNNING, State.GUEST, State.PANICKED)

    @property
    def has_readable_tables(self) -> bool:
        """Whether no page of its tables turned out to be unreadable, be it after they were proven."""
        return all(self.memory.is_readable(table.physical, table.size) for table in self.tables)

    def place(self, address: int) -> int:
        """Return where an address of its memory lies: the same, or the offset in the file where that is an image's."""
        image = self.memory.image
        return address if image is None or self.memory.space is not AddressSpace.FILE else address + image.skipped

    @property
    def proven(self) -> bool:
        """Whether every essential check passed, and the kernel is the running one or the source is its image."""
        wanted = State.RUNNING if self.memory.image is None else State.IMAGE
        return self.state is wanted and proven(self.evidence)
