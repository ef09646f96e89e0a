"""Translate virtual addresses to physical ones, by page tables that are described as data.

A mapping is page tables of some shape (`PagingMode`), or parts of the address space that the processor maps at a fixed
distance (`Windows`), or both side by side (`Segmented`). One walk serves all page tables.
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
"""Rights that entries grant; reading is always granted.

A path through the tables grants the rights that all entries on it grant.
"""

EVERYTHING = WRITE | EXECUTE | USER


@dataclass(frozen=True)
class Grants:
    """The bits of an entry that grant rights: the bits of a mask must have a value. By default, a right is granted.

    Attributes:
        write: mask and value for writing.
        execute: mask and value for execution by the kernel.
        user: mask and value for access by user space.
    """

    write: tuple[int, int] = (0, 0)
    execute: tuple[int, int] = (0, 0)
    user: tuple[int, int] = (0, 0)

    def of(self, entries: Entries) -> NDArray[np.uint8]:
        """Return the rights that each entry grants, shape (n,)."""
        granted = np.zeros(len(entries), np.uint8)
        for flag, (mask, value) in ((WRITE, self.write), (EXECUTE, self.execute), (USER, self.user)):
            granted[entries & np.uint64(mask) == np.uint64(value)] |= np.uint8(flag)
        return granted


def granted_by(leaf: Grants, table: Grants | None = None) -> Callable[[Entries, int, bool], NDArray[np.uint8]]:
    """Return a function for the rights that entries of any level grant.

    Args:
        leaf: bits of the entries that map memory.
        table: bits of the entries that point to tables; None if these grant everything.
    """
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
        covers: maps entries and their level to the address bits inside of the memory that a leaf maps; None where the
            level alone tells them.
        first: lowest address that is translated; None for the upper end of the address space.
        stretches: ranges of virtual addresses that are translated, where there are several, or only a part of the size
            that the tables allow. Then the lower bits of an address are its offset, and ``first`` is not used.
        last_entry: dtype of the entries of the last level, where it is another one.
        signed: True if the lower half of the translated range lies at the lower end, where user space is.
        word_size: size of an address in bytes.
        byte_orders: byte orders of the kernels that use it, ``"<"``, ``">"`` or both.
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
        """Size of the smallest page in bytes."""
        return 1 << self.shifts[-1]

    def with_attributes(self, bits: int) -> PagingMode:
        """Return the mode for a machine where these bits of entries are no address bits."""
        if not bits:
            return self
        target, address = self.target, np.uint64(~bits & (1 << 64) - 1)
        return replace(
            self,
            target=lambda entries, level: target(entries, level) & address,
            attribute_bits=self.attribute_bits | bits,
        )

    def entry_at(self, level: int) -> np.dtype[np.unsignedinteger]:
        """Return the dtype of the entries of a level."""
        last = level == len(self.shifts) - 1
        return self.last_entry if last and self.last_entry is not None else self.entry

    def index(self, addresses: Entries, level: int) -> Entries:
        """Return each address's index into a table of a level."""
        above = self.shifts[level - 1] if level else self.virtual_bits
        shift = self.shifts[level]
        return addresses >> np.uint64(shift) & np.uint64((1 << above - shift) - 1)

    def addresses(self, offsets: Entries) -> Entries:
        """Return the virtual addresses at offsets into the translated range.

        The addresses are as processors write them, with sign extension where the mode has it.
        """
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
        """Return the mask of the address bits inside of each leaf's memory, shape (n,)."""
        if self.covers is None:
            return np.full(len(entries), (1 << self.shifts[level]) - 1, np.uint64)
        return (np.uint64(1) << self.covers(entries, level)) - np.uint64(1)

    def translatable(self, addresses: Entries) -> NDArray[np.bool_]:
        """Return which addresses are in the range that these tables can translate."""
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
    """A range of virtual addresses that stands for physical addresses in the same order."""

    virtual: int
    physical: int
    size: int


@dataclass(frozen=True)
class Windows:
    """The ranges that a processor maps without any table.

    Attributes:
        architecture: e.g. ``"mips64"``.
        name: name in the architecture's manual.
        windows: the ranges, which never overlap.
        word_size: size of an address in bytes.
        byte_orders: byte orders of the kernels that use it, ``"<"``, ``">"`` or both.
    """

    architecture: str
    name: str
    windows: tuple[Window, ...]
    word_size: int = 8
    byte_orders: str = "<"

    def translatable(self, addresses: Entries) -> NDArray[np.bool_]:
        """Return which addresses lie in a window."""
        return self.translate(addresses)[1]

    def translate(self, addresses: Entries) -> tuple[Entries, NDArray[np.bool_]]:
        """Return the physical address of each address, and which lie in a window."""
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
    """Windows, and page tables for all other addresses; the processor asks the kernel's code to walk these tables.

    Attributes:
        windows: ranges that the processor maps itself.
        tables: tables that the kernel's code walks; their shape need not be one that any processor knows.
    """

    windows: Windows
    tables: PagingMode

    @property
    def architecture(self) -> str:
        """Architecture of the windows."""
        return self.windows.architecture

    @property
    def name(self) -> str:
        """Names of the windows and the tables."""
        return f"{self.windows.name}; {self.tables.name}"

    @property
    def word_size(self) -> int:
        """Size of an address in bytes."""
        return self.windows.word_size

    @property
    def byte_orders(self) -> str:
        """Byte orders of the tables' entries."""
        return self.tables.byte_orders

    @property
    def page_size(self) -> int:
        """Size of the smallest page in bytes."""
        return self.tables.page_size

    def translatable(self, addresses: Entries) -> NDArray[np.bool_]:
        """Return which addresses lie in a window or can be translated by the tables."""
        return self.windows.translatable(addresses) | self.tables.translatable(addresses)


Mapping = PagingMode | Windows | Segmented


class HoldsWords(Protocol):
    """A source of page tables: a memory, or an object that translates its own addresses into another memory's."""

    def words(self, addresses: Entries, dtype: np.dtype[np.unsignedinteger]) -> tuple[Entries, NDArray[np.bool_]]:
        """Read words at addresses, as `Memory.words` does."""


def translate(
    memory: HoldsWords, mapping: Mapping, root: int | None, addresses: Entries
) -> tuple[Entries, NDArray[np.bool_]]:
    """Translate many virtual addresses to physical ones at once.

    Args:
        memory: physical memory.
        mapping: way in which addresses are translated.
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
    """Translate addresses by page tables, with a separate top table for each address.

    The result is like that of `translate`.

    Args:
        memory: physical memory.
        mode: shape of the tables.
        roots: physical address of each address's top table, shape (n,).
        addresses: virtual addresses, shape (n,).
        displaced: for each address, the distance from the physical address of an entry to the address where it is read,
            modulo 2^64, shape (n,); None for 0.
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
        # addresses close to each other share all tables but the last one, and the entries that lead there
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
