"""Page tables as data: paging modes are rows, one walk serves them all.

A kernel's page table covers the upper end of the virtual address space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.memory.model import Memory

Entries = NDArray[np.uint64]

PRESENT, LEAF = 1, 2


@dataclass(frozen=True)
class PagingMode:
    """One way in which an architecture translates kernel addresses.

    Attributes:
        architecture: e.g. ``"x86-64"``.
        name: e.g. ``"4-level"``.
        shifts: address bits below the index of each level, from the top table to the last.
        virtual_bits: address bits that the tables translate; those above are all ones in a kernel address.
        entry: dtype of a table's entry.
        classify: maps entries and their level (0 = top) to flags: PRESENT, and LEAF where no further table follows.
        target: maps entries to the physical address of the next table or page.
    """

    architecture: str
    name: str
    shifts: tuple[int, ...]
    virtual_bits: int
    entry: np.dtype[np.unsignedinteger]
    classify: Callable[[Entries, int], NDArray[np.uint8]]
    target: Callable[[Entries], Entries]

    @property
    def page_size(self) -> int:
        """Bytes of the smallest page."""
        return 1 << self.shifts[-1]

    def index(self, addresses: Entries, level: int) -> Entries:
        """The index into a table of this level for each address."""
        above = self.shifts[level - 1] if level else self.virtual_bits
        shift = self.shifts[level]
        return addresses >> np.uint64(shift) & np.uint64((1 << above - shift) - 1)

    def translatable(self, addresses: Entries) -> NDArray[np.bool_]:
        """Whether each address is one of the kernel's end of the address space."""
        ones = (1 << 64) - (1 << self.virtual_bits)
        result: NDArray[np.bool_] = addresses & np.uint64(ones) == np.uint64(ones)
        return result


def translate(memory: Memory, mode: PagingMode, root: int, addresses: Entries) -> tuple[Entries, NDArray[np.bool_]]:
    """Walks a page table for many addresses at once.

    Args:
        memory: physical memory.
        mode: how to read the tables.
        root: physical address of the top table.
        addresses: virtual addresses, shape (n,), uint64.

    Returns:
        Physical addresses, shape (n,), uint64, and a mask of those that are mapped (the others are meaningless).
    """
    return walk(memory, mode, np.full(len(addresses), root, np.uint64), addresses)


def walk(memory: Memory, mode: PagingMode, roots: Entries, addresses: Entries) -> tuple[Entries, NDArray[np.bool_]]:
    """As `translate`, with a top table of its own for each address; shapes (n,) and (n,)."""
    tables = roots.copy()
    physical = np.zeros(len(addresses), np.uint64)
    mapped = np.zeros(len(addresses), np.bool_)
    alive = np.flatnonzero(mode.translatable(addresses))
    width = np.uint64(mode.entry.itemsize)
    for level, shift in enumerate(mode.shifts):
        entries, held = memory.words(tables[alive] + mode.index(addresses[alive], level) * width, mode.entry)
        flags = mode.classify(entries, level)
        usable = held & (flags & PRESENT != 0)
        targets = mode.target(entries)
        leaf = usable & (flags & LEAF != 0)
        inside = np.uint64((1 << shift) - 1)
        done = alive[leaf]
        physical[done] = (targets[leaf] & ~inside) | (addresses[done] & inside)
        mapped[done] = True
        descend = usable & ~leaf
        alive = alive[descend]
        tables[alive] = targets[descend]
    return physical, mapped
