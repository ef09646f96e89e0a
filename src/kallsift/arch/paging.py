"""How kernels' virtual addresses become physical ones, as data: one walk serves all page tables.

A mapping is page tables of some shape (`PagingMode`), or stretches of the address space that the processor itself maps
at a fixed distance (`Windows`), or both, side by side (`Segmented`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Entries = NDArray[np.uint64]

PRESENT, LEAF = 1, 2

WRITE, EXECUTE, USER = 1, 2, 4
"""What entries grant: a path through the tables grants what all entries on it do. Reading is always granted."""

EVERYTHING = WRITE | EXECUTE | USER


@dataclass(frozen=True)
class Grants:
    """Which bits of an entry grant something: those of a mask must have a value; by default, anything is granted.

    Attributes:
        write: mask and value for writing.
        execute: mask and value for execution by the kernel.
        user: mask and value for access by user space.
    """

    write: tuple[int, int] = (0, 0)
    execute: tuple[int, int] = (0, 0)
    user: tuple[int, int] = (0, 0)

    def of(self, entries: Entries) -> NDArray[np.uint8]:
        """What each entry grants, shape (n,)."""
        granted = np.zeros(len(entries), np.uint8)
        for flag, (mask, value) in ((WRITE, self.write), (EXECUTE, self.execute), (USER, self.user)):
            granted[entries & np.uint64(mask) == np.uint64(value)] |= np.uint8(flag)
        return granted


def granted_by(leaf: Grants, table: Grants | None = None) -> Callable[[Entries, int, bool], NDArray[np.uint8]]:
    """What entries of any level grant, given the bits of those that map memory and of those that point at tables."""
    above = table or Grants()
    return lambda entries, _, is_leaf: (leaf if is_leaf else above).of(entries)


@dataclass(frozen=True)
class PagingMode:
    """Page tables of one shape.

    Attributes:
        architecture: e.g. ``"x86-64"``.
        name: e.g. ``"4-level"``.
        shifts: address bits below the index of each level, from the top table to the last.
        virtual_bits: address bits that the tables translate.
        entry: dtype of a table's entry, with its byte order, which need not be the kernel's.
        classify: maps entries and their level (0 = top) to flags: PRESENT, and LEAF where no further table follows.
        target: maps entries and their level to the physical address of the next table or page.
        grants: maps entries, their level and whether they are leaves to flags: WRITE, EXECUTE, USER.
        covers: maps entries and their level to the address bits inside of what a leaf maps, where that is not what
            its level says.
        first: the lowest address that is translated; None for the upper end of the address space.
        stretches: the virtual addresses that are translated, where these are several stretches, or only a part of what
            the tables have room for; then an address' lower bits are its offset, and ``first`` says nothing.
        last_entry: dtype of the entries of the last level, where that is another one.
        signed: whether the lower half of what the tables translate lies at the lower end, where user space is.
        word_size: bytes of an address.
        byte_orders: of the kernels that use it, ``"<"``, ``">"`` or both.
        attribute_bits: bits among those of an entry's physical address that are attributes on this machine: of
            encrypted or of shared memory.
    """

    architecture: str
    name: str
    shifts: tuple[int, ...]
    virtual_bits: int
    entry: np.dtype[np.unsignedinteger]
    classify: Callable[[Entries, int], NDArray[np.uint8]]
    target: Callable[[Entries, int], Entries]
    grants: Callable[[Entries, int, bool], NDArray[np.uint8]]
    covers: Callable[[Entries, int], Entries] | None = None
    first: int | None = None
    stretches: tuple[range, ...] = ()
    last_entry: np.dtype[np.unsignedinteger] | None = None
    signed: bool = False
    word_size: int = 8
    byte_orders: str = "<"
    attribute_bits: int = 0

    @property
    def page_size(self) -> int:
        """Bytes of the smallest page."""
        return 1 << self.shifts[-1]

    def with_attributes(self, bits: int) -> PagingMode:
        """Return the same mode for a machine on which these bits of entries belong to no address."""
        if not bits:
            return self
        target, address = self.target, np.uint64(~bits & (1 << 64) - 1)
        return replace(
            self,
            target=lambda entries, level: target(entries, level) & address,
            attribute_bits=self.attribute_bits | bits,
        )

    def entry_at(self, level: int) -> np.dtype[np.unsignedinteger]:
        """The dtype of the entries of a level."""
        last = level == len(self.shifts) - 1
        return self.last_entry if last and self.last_entry is not None else self.entry

    def index(self, addresses: Entries, level: int) -> Entries:
        """The index into a table of this level for each address."""
        above = self.shifts[level - 1] if level else self.virtual_bits
        shift = self.shifts[level]
        return addresses >> np.uint64(shift) & np.uint64((1 << above - shift) - 1)

    def addresses(self, offsets: Entries) -> Entries:
        """The addresses that lie at offsets into what the tables translate, as processors write them."""
        if self.stretches:
            result = offsets
            for stretch in self.stretches:
                low = stretch.start % (1 << self.virtual_bits)
                inside = offsets - np.uint64(low) < np.uint64(stretch.stop - stretch.start)
                result = np.where(inside, offsets + np.uint64(stretch.start - low), result)
            return result
        if self.first is not None:
            return offsets + np.uint64(self.first)
        upper = np.uint64((1 << 64) - (1 << self.virtual_bits))
        if not self.signed:
            return offsets + upper
        return np.where(offsets >> np.uint64(self.virtual_bits - 1) != 0, offsets + upper, offsets)

    def inside(self, entries: Entries, level: int) -> Entries:
        """Mask of the address bits inside of what each leaf maps, shape (n,)."""
        if self.covers is None:
            return np.full(len(entries), (1 << self.shifts[level]) - 1, np.uint64)
        return (np.uint64(1) << self.covers(entries, level)) - np.uint64(1)

    def translatable(self, addresses: Entries) -> NDArray[np.bool_]:
        """Whether each address is one that these tables can translate."""
        if self.stretches:
            inside = np.zeros(len(addresses), np.bool_)
            for stretch in self.stretches:
                inside |= addresses - np.uint64(stretch.start) < np.uint64(stretch.stop - stretch.start)
            return inside
        if self.virtual_bits == 64:
            return np.ones(len(addresses), np.bool_)
        size = 1 << self.virtual_bits
        first = (1 << 64) - size if self.first is None else self.first
        result: NDArray[np.bool_] = addresses - np.uint64(first) < np.uint64(size)
        return result


@dataclass(frozen=True)
class Window:
    """A stretch of virtual addresses that stands for as many physical ones, in order."""

    virtual: int
    physical: int
    size: int


@dataclass(frozen=True)
class Windows:
    """What a processor maps without any table.

    Attributes:
        architecture: e.g. ``"mips64"``.
        name: as the architecture's manual calls it.
        windows: never overlapping.
        word_size: bytes of an address.
        byte_orders: of the kernels that use it, ``"<"``, ``">"`` or both.
    """

    architecture: str
    name: str
    windows: tuple[Window, ...]
    word_size: int = 8
    byte_orders: str = "<"

    def translatable(self, addresses: Entries) -> NDArray[np.bool_]:
        """Whether each address lies in a window."""
        return self.translate(addresses)[1]

    def translate(self, addresses: Entries) -> tuple[Entries, NDArray[np.bool_]]:
        """The physical address of each address, and a mask of those that lie in a window."""
        physical = np.zeros(len(addresses), np.uint64)
        mapped = np.zeros(len(addresses), np.bool_)
        for window in self.windows:
            offsets = addresses - np.uint64(window.virtual)
            inside = offsets < np.uint64(window.size)
            physical[inside] = offsets[inside] + np.uint64(window.physical)
            mapped |= inside
        return physical, mapped


@dataclass(frozen=True)
class Segmented:
    """Windows, and page tables for addresses that lie in none: the processor asks the kernel's code for these.

    Attributes:
        windows: what the processor maps itself.
        tables: what the kernel's code looks up; they need not be of a shape that any processor knows.
    """

    windows: Windows
    tables: PagingMode

    @property
    def architecture(self) -> str:
        """That of the windows."""
        return self.windows.architecture

    @property
    def name(self) -> str:
        """What both are called."""
        return f"{self.windows.name}; {self.tables.name}"

    @property
    def word_size(self) -> int:
        """Bytes of an address."""
        return self.windows.word_size

    @property
    def byte_orders(self) -> str:
        """Those that the tables' entries have."""
        return self.tables.byte_orders

    @property
    def page_size(self) -> int:
        """Bytes of the smallest page."""
        return self.tables.page_size

    def translatable(self, addresses: Entries) -> NDArray[np.bool_]:
        """Whether each address lies in a window, or is one that the tables can translate."""
        return self.windows.translatable(addresses) | self.tables.translatable(addresses)


Mapping = PagingMode | Windows | Segmented


class HoldsWords(Protocol):
    """What page tables are read from: a memory, or what translates its own addresses into another's."""

    def words(self, addresses: Entries, dtype: np.dtype[np.unsignedinteger]) -> tuple[Entries, NDArray[np.bool_]]:
        """As `Memory.words`."""


def translate(
    memory: HoldsWords, mapping: Mapping, root: int | None, addresses: Entries
) -> tuple[Entries, NDArray[np.bool_]]:
    """The physical addresses of many virtual ones at once.

    Args:
        memory: physical memory.
        mapping: how addresses are translated.
        root: physical address of the top table; None for windows.
        addresses: virtual addresses, shape (n,), uint64.

    Returns:
        Physical addresses, shape (n,), uint64, and a mask of those that are mapped (the others are meaningless).
    """
    if isinstance(mapping, Windows):
        return mapping.translate(addresses)
    if isinstance(mapping, Segmented):
        physical, mapped = mapping.windows.translate(addresses)
        rest = np.flatnonzero(~mapped)
        physical[rest], mapped[rest] = translate(memory, mapping.tables, root, addresses[rest])
        return physical, mapped
    return walk(memory, mapping, np.full(len(addresses), root or 0, np.uint64), addresses)


def walk(
    memory: HoldsWords, mode: PagingMode, roots: Entries, addresses: Entries, displaced: Entries | None = None
) -> tuple[Entries, NDArray[np.bool_]]:
    """As `translate` by page tables, with a top table of its own for each address.

    Args:
        memory: physical memory.
        mode: how addresses are translated.
        roots: physical address of each one's top table, shape (n,).
        addresses: virtual addresses, shape (n,).
        displaced: how far above its physical address, modulo 2^64, a byte is to be read for each, shape (n,).
    """
    tables = roots.copy()
    physical = np.zeros(len(addresses), np.uint64)
    mapped = np.zeros(len(addresses), np.bool_)
    alive = np.flatnonzero(mode.translatable(addresses))
    for level in range(len(mode.shifts)):
        entry = mode.entry_at(level)
        places = tables[alive] + mode.index(addresses[alive], level) * np.uint64(entry.itemsize)
        if displaced is not None:
            places += displaced[alive]
        # neighbours share all tables but the last, and the entries that lead there
        is_shared = len(places) > 1 and bool((places == places[0]).all())
        entries, held = memory.words(places[:1] if is_shared else places, entry)
        flags = mode.classify(entries, level)
        usable = held & (flags & PRESENT != 0)
        targets = mode.target(entries, level)
        leaf = usable & (flags & LEAF != 0)
        if is_shared:
            entries, usable, targets, leaf = (column.repeat(len(places)) for column in (entries, usable, targets, leaf))
        inside = mode.inside(entries[leaf], level)
        done = alive[leaf]
        physical[done] = (targets[leaf] & ~inside) | (addresses[done] & inside)
        mapped[done] = True
        descend = usable & ~leaf
        alive = alive[descend]
        tables[alive] = targets[descend]
    return physical, mapped
