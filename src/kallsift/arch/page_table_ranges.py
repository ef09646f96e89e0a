"""List everything that a page table maps, by one walk over all of its tables, level by level."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.paging import EVERYTHING, LEAF, PRESENT, Entries, PagingMode
from kallsift.arrays import distinct
from kallsift.errors import UnmappedError
from kallsift.memory.memory import Memory

BATCH = 512
"""Number of tables that are processed together."""

MAX_TABLES = 1 << 17
"""Highest number of tables of one level: as many as 256 GiB of memory need in pages of 4 KiB.

A table that several entries lead to is counted once for each.
"""

MAX_SHARED = 16
"""Number of shared tables of each level that are tested for being empty."""

MAX_RANGES = 1 << 22
"""Highest number of ranges before adjacent ranges are merged."""


@dataclass(frozen=True, eq=False, repr=False)
class MappedRanges:
    """The ranges that a page table maps, by virtual address; neighbours that adjoin differ in some property.

    Attributes:
        starts: virtual address of each range, shape (n,), uint64, ascending.
        sizes: size of each in bytes, shape (n,), uint64.
        physical: physical address of each one's first byte, shape (n,), uint64; the other bytes follow in order.
        page_bits: address bits inside of a page, shape (n,), uint8.
        grants: `WRITE`, `EXECUTE` and `USER` flags, shape (n,), uint8.
        whole: True if this is everything; False where the tables lead to more than any machine has.
    """

    starts: Entries
    sizes: Entries
    physical: Entries
    page_bits: NDArray[np.uint8]
    grants: NDArray[np.uint8]
    whole: bool = True

    def __repr__(self) -> str:
        return f"<MappedRanges: {len(self):,} ranges, {int(self.sizes.sum()):,} bytes>"

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def offsets(self) -> Entries:
        """Virtual less physical address of each range, modulo 2^64, shape (n,)."""
        return self.starts - self.physical

    def chosen(self, keep: NDArray[np.bool_] | NDArray[np.intp] | slice) -> MappedRanges:
        """Return some of the ranges."""
        columns = (self.starts, self.sizes, self.physical)
        starts, sizes, physical = (column[keep] for column in columns)
        return MappedRanges(starts, sizes, physical, self.page_bits[keep], self.grants[keep], self.whole)

    def inside(self, start: int, end: int) -> MappedRanges:
        """Return the ranges between two addresses, cut at them; ``end`` may be 2^64."""
        if not len(self) or end <= start:
            return self.chosen(slice(0, 0))
        # addresses of last bytes, because 2^64, the end of the address space, is no uint64
        lasts = self.starts + (self.sizes - np.uint64(1))
        found = self.chosen(
            slice(
                int(np.searchsorted(lasts, np.uint64(start))),
                int(np.searchsorted(self.starts, np.uint64(end - 1), side="right")),
            )
        )
        if not len(found):
            return found
        starts: Entries = np.maximum(found.starts, np.uint64(start))
        lasts = np.minimum(found.starts + (found.sizes - np.uint64(1)), np.uint64(end - 1))
        physical = found.physical + (starts - found.starts)
        return MappedRanges(starts, lasts - starts + np.uint64(1), physical, found.page_bits, found.grants, found.whole)

    def merged(self, *, contiguous: bool = True) -> MappedRanges:
        """Return the ranges with adjoining ones merged if they are alike.

        They must agree in page size and rights and, if ``contiguous``, also adjoin in physical memory.
        """
        if not len(self):
            return self
        breaks = self.starts[1:] != self.starts[:-1] + self.sizes[:-1]
        breaks |= (self.page_bits[1:] != self.page_bits[:-1]) | (self.grants[1:] != self.grants[:-1])
        if contiguous:
            breaks |= self.physical[1:] != self.physical[:-1] + self.sizes[:-1]
        first = np.concatenate(([0], np.flatnonzero(breaks) + 1))
        return MappedRanges(
            self.starts[first],
            np.add.reduceat(self.sizes, first),
            self.physical[first],
            self.page_bits[first],
            self.grants[first],
            self.whole,
        )


@dataclass(frozen=True, eq=False)
class _Tables:
    """Tables of one level, in the order in which entries lead to them; one table can occur several times.

    Attributes:
        places: physical address of each, shape (n,).
        bases: offset of the part of the address space that each translates, shape (n,).
        grants: rights that the entries on the way to it grant, shape (n,).
    """

    places: Entries
    bases: Entries
    grants: NDArray[np.uint8]

    def chosen(self, keep: NDArray[np.bool_] | slice) -> _Tables:
        return _Tables(self.places[keep], self.bases[keep], self.grants[keep])


def mapped_ranges(memory: Memory, mode: PagingMode, root: int) -> MappedRanges:
    """Return everything that the page table at ``root`` maps.

    Tables that the memory does not hold map nothing.

    Args:
        memory: physical memory.
        mode: shape of the tables.
        root: physical address of the top table.
    """
    level_tables = _Tables(np.array([root], np.uint64), np.zeros(1, np.uint64), np.full(1, EVERYTHING, np.uint8))
    found: list[MappedRanges] = []
    count, whole = 0, True
    for level in range(len(mode.shifts)):
        below: list[_Tables] = []
        met = 0
        for leaves, tables in _looked_at(memory, mode, level, level_tables):
            count += len(leaves)
            met += len(tables.places)
            if count > MAX_RANGES or met > MAX_TABLES:
                whole = False
                break
            found.append(leaves)
            below.append(tables)
        if not below:
            break
        level_tables = _Tables(
            np.concatenate([tables.places for tables in below]),
            np.concatenate([tables.bases for tables in below]),
            np.concatenate([tables.grants for tables in below]),
        )
        level_tables = level_tables.chosen(~_empty(memory, mode, level + 1, level_tables.places))
    return _sorted(mode, found, whole)


def _empty(memory: Memory, mode: PagingMode, level: int, places: Entries) -> NDArray[np.bool_]:
    """Return which tables of one level map nothing.

    Only the tables that most entries lead to are tested; kernels of mips share empty tables.
    """
    shared, times = np.unique(places, return_counts=True)
    most = np.argsort(-times, kind="stable")[:MAX_SHARED]
    candidates = shared[most[times[most] > 1]]
    empty = [place for place in candidates.tolist() if _maps_nothing(memory, mode, level, place)]
    return np.isin(places, np.array(empty, np.uint64))


def _maps_nothing(memory: Memory, mode: PagingMode, level: int, place: int) -> bool:
    """Tell whether a table maps nothing.

    It has no entries, or all of its entries lead to one table that maps nothing.
    """
    for below in range(level, len(mode.shifts)):
        _, entries = _entries(memory, np.array([place], np.uint64), _count(mode, below), mode.entry_at(below))
        flags = mode.classify(entries, below)
        present = flags & PRESENT != 0
        if not present.any():
            return True
        targets = distinct(mode.target(entries[present], below))
        if (flags[present] & LEAF).any() or len(targets) > 1:
            return False
        place = int(targets[0])
    return False


def _count(mode: PagingMode, level: int) -> int:
    """Return the number of entries of a table of one level."""
    return 1 << (mode.shifts[level - 1] if level else mode.virtual_bits) - mode.shifts[level]


def _looked_at(memory: Memory, mode: PagingMode, level: int, tables: _Tables) -> Iterator[tuple[MappedRanges, _Tables]]:
    """Yield the ranges that tables of one level map, and the tables that they lead to.

    The ranges have offsets in place of addresses. Some tables are processed at a time.
    """
    shift = np.uint64(mode.shifts[level])
    count = _count(mode, level)
    for low in range(0, len(tables.places), BATCH):
        batch = tables.chosen(slice(low, low + BATCH))
        held, entries = _entries(memory, batch.places, count, mode.entry_at(level))
        flags = mode.classify(entries, level)
        present = flags & PRESENT != 0
        leaf = np.flatnonzero(present & (flags & LEAF != 0))
        table = np.flatnonzero(present & (flags & LEAF == 0))
        owner, bases = held[leaf // count], (leaf % count).astype(np.uint64) << shift
        inside = mode.inside(entries[leaf], level)
        starts = batch.bases[owner] + bases
        leaves = MappedRanges(
            starts,
            np.full(len(leaf), 1 << int(shift), np.uint64),
            mode.target(entries[leaf], level) & ~inside | starts & inside,
            np.bitwise_count(inside).astype(np.uint8),
            mode.grants(entries[leaf], level, True) & batch.grants[owner],
        )
        owner, bases = held[table // count], (table % count).astype(np.uint64) << shift
        yield (
            leaves.merged(),
            _Tables(
                mode.target(entries[table], level),
                batch.bases[owner] + bases,
                mode.grants(entries[table], level, False) & batch.grants[owner],
            ),
        )


def _entries(
    memory: Memory, places: Entries, count: int, dtype: np.dtype[np.unsignedinteger]
) -> tuple[NDArray[np.intp], Entries]:
    """Return the indices of the tables that the memory holds, and their entries.

    The entries of the tables stand one behind the other.
    """
    held, parts = [], [np.empty(0, np.uint8)]
    for number, place in enumerate(places.tolist()):
        try:
            parts.append(memory.read(place, count * dtype.itemsize))
        except UnmappedError:
            continue
        held.append(number)
    return np.array(held, np.intp), np.concatenate(parts).view(dtype).astype(np.uint64)


def _sorted(mode: PagingMode, found: list[MappedRanges], whole: bool) -> MappedRanges:
    """Return all ranges in the order of their addresses."""
    nowhere, nothing = np.empty(0, np.uint64), np.empty(0, np.uint8)
    parts = [*found, MappedRanges(nowhere, nowhere, nowhere, nothing, nothing)]
    starts = mode.addresses(np.concatenate([part.starts for part in parts]))
    order = np.argsort(starts, kind="stable")
    return MappedRanges(
        starts[order],
        np.concatenate([part.sizes for part in parts])[order],
        np.concatenate([part.physical for part in parts])[order],
        np.concatenate([part.page_bits for part in parts])[order],
        np.concatenate([part.grants for part in parts])[order],
        whole,
    ).merged()
