"""Find the rights that a page table grants at single addresses, without a walk over the whole table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.paging import EVERYTHING, LEAF, PRESENT, Entries, HoldsWords, Mapping, PagingMode, Segmented


def granted(memory: HoldsWords, mapping: Mapping, root: int | None, addresses: Entries) -> NDArray[np.uint8]:
    """Return the rights at each virtual address.

    The rights are `WRITE`, `EXECUTE` and `USER` flags, shape (n,), 0 where nothing is mapped. Addresses that a
    processor maps without tables have all rights.

    Args:
        memory: physical memory.
        mapping: way in which addresses are translated.
        root: physical address of the top table; None for windows.
        addresses: virtual addresses, shape (n,), uint64.
    """
    if isinstance(mapping, PagingMode):
        return _of_tables(memory, mapping, root or 0, addresses)
    windows = mapping.windows if isinstance(mapping, Segmented) else mapping
    found = np.where(windows.translatable(addresses), EVERYTHING, 0).astype(np.uint8)
    if isinstance(mapping, Segmented):
        rest = np.flatnonzero(found == 0)
        found[rest] = _of_tables(memory, mapping.tables, root or 0, addresses[rest])
    return found


def _of_tables(memory: HoldsWords, mode: PagingMode, root: int, addresses: Entries) -> NDArray[np.uint8]:
    """Return the rights at each address, by page tables.

    A path through the tables grants the rights that all entries on it grant.
    """
    tables = np.full(len(addresses), root, np.uint64)
    path = np.full(len(addresses), EVERYTHING, np.uint8)
    found = np.zeros(len(addresses), np.uint8)
    alive = np.flatnonzero(mode.translatable(addresses))
    for level in range(len(mode.shifts)):
        entry = mode.entry_at(level)
        places = tables[alive] + mode.index(addresses[alive], level) * np.uint64(entry.itemsize)
        entries, held = memory.words(places, entry)
        flags = mode.classify(entries, level)
        usable = held & (flags & PRESENT != 0)
        leaf, table = usable & (flags & LEAF != 0), usable & (flags & LEAF == 0)
        found[alive[leaf]] = path[alive[leaf]] & mode.grants(entries[leaf], level, True)
        path[alive[table]] &= mode.grants(entries[table], level, False)
        tables[alive[table]] = mode.target(entries, level)[table]
        alive = alive[table]
    return found
