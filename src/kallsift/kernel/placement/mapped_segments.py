"""Find page tables for memory besides the processor's windows, which no register and often no symbol names.

The top table is recognised by its content: it is in the image, each of its entries leads to a table, and most lead to
one that is empty. The format of the tables, and the bits of an entry that are a page's number, must be such that lists
run from the image through the memory that they map, and back from both ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.paging import PRESENT, PagingMode, Segmented, Windows, walk
from kallsift.arch.registry import segmented
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kernel.placement.placement import Placement
from kallsift.kernel.placement.pointers import PAGE, Words, list_heads
from kallsift.memory.memory import Memory
from kallsift.memory.segments import BytesSegment

SYMBOL = "swapper_pg_dir"

LEAST_LISTS = 2
"""Lowest number of lists that prove a way to read the tables: each list does so by two equations between words as wide
as addresses. A single module is in two lists: that of modules, and that of modules with tables of BUG()."""

MAX_ROOTS = 16
"""Highest number of top tables of each format that are tried; an image has one, and those of processes look alike only
in part."""

MAX_PLACES = 1 << 10
"""Highest number of places, for each format, at which all entries of a top table are read because a few look right."""

MAX_HEADS = 1 << 18
"""Highest number of heads of lists that are followed through one top table; of more, a sample over all of the
memory."""

MAX_FOLLOWED = 1 << 20
"""Number of heads after which no further top tables are tried."""


@dataclass(frozen=True, eq=False)
class _Heads:
    """Words that can be heads of lists, with their virtual addresses.

    Attributes:
        own: addresses of the heads, shape (n,), uint64.
        firsts: addresses of their first members, shape (n,).
        lasts: addresses of their last members, shape (n,).
    """

    own: NDArray[np.uint64]
    firsts: NDArray[np.uint64]
    lasts: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.own)

    def chosen(self, keep: NDArray[np.bool_] | slice) -> _Heads:
        return _Heads(self.own[keep], self.firsts[keep], self.lasts[keep])

    def closed(self, memory: Memory, words: Words, mode: PagingMode, root: int) -> int:
        """Return the number of lists that lead back to their heads from both ends.

        Lists are counted by their first members.
        """
        places = words.wrap(np.concatenate((self.firsts + np.uint64(words.size), self.lasts)))
        physical, mapped = walk(memory, mode, np.full(len(places), root, np.uint64), places)
        values, held = memory.words(physical, words.dtype)
        back = (mapped & held & (values == np.tile(self.own, 2))).reshape(2, -1).all(axis=0)
        return len(np.unique(self.firsts[back]))


def with_mapped_segments(memory: Memory, placement: Placement, window: BytesSegment) -> Placement:
    """Return the placement of a running kernel with its page tables, if it has any.

    These are tables beside the windows that map its image.

    Args:
        memory: physical memory.
        placement: the placement, with the mapping of the image.
        window: the image.
    """
    windows, words = placement.mapping, placement.words
    groups = segmented(windows, words.byte_order) if isinstance(windows, Windows) else ()
    if not isinstance(windows, Windows) or not groups:
        return placement
    lowest = min(stretch.start for group in groups for stretch in group[0].tables.stretches)
    heads = _heads(memory, placement, window, range(lowest, words.mask + 1))
    best: tuple[int, int, Segmented] | None = None
    followed = 0
    for group in groups:
        shape = group[0].tables
        for root, used in islice(_roots(memory, placement, window, shape), MAX_ROOTS):
            if followed > MAX_FOLLOWED:
                break
            reached = _reached(memory, heads, shape, root, used)
            followed += len(reached)
            for mapping in group if len(reached) >= LEAST_LISTS else ():
                lists = reached.closed(memory, words, mapping.tables, root)
                if lists >= LEAST_LISTS and (best is None or lists > best[0]):
                    best = lists, root, mapping
    if best is None:
        absent = (
            "no page table of this image maps memory that lists run through, so addresses outside the "
            "processor's own windows are unknown"
        )
        return placement.with_checks(Check(CheckId.MAPPED_SEGMENTS, Outcome.ABSENT, absent))
    lists, root, mapping = best
    through = f"what the table at {root:#x} maps ({mapping.tables.name})"
    detail = f"{lists} lists run from the image through {through}, and back from both ends"
    found = replace(placement, mapping=mapping, root=root)
    return found.with_checks(Check.that(CheckId.MAPPED_SEGMENTS, True, detail))


def _heads(memory: Memory, placement: Placement, window: BytesSegment, linear: range) -> _Heads:
    """Return words of the image that can be heads of lists through an address range."""
    words = placement.words
    found = list_heads(window, words, range(0, 0), linear)
    lasts, held = memory.words(found.places + np.uint64(words.size), words.dtype)
    own = words.wrap(found.places + np.uint64(placement.distance))
    return _Heads(own, found.values, lasts).chosen(held)


def _roots(
    memory: Memory, placement: Placement, window: BytesSegment, shape: PagingMode
) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Yield the possible addresses of a kernel's own top table of one format.

    They are those of a symbol, else all places at which a table looks like it.

    Yields:
        Its physical address, and a mask of the entries that do not lead to an empty table.
    """
    named = [placement.physical(symbol.address) for symbol in placement.symbols.all(SYMBOL)]
    width, shift = shape.entry.itemsize, shape.shifts[0]
    count = 1 << shape.virtual_bits - shift
    step = max(PAGE, count * width)
    places = np.array(named or range(-(-window.start // step) * step, window.end, step), np.uint64)
    for index in (0, count // 2, count - 1):
        entries, held = memory.words(places + np.uint64(index * width), shape.entry)
        places = places[held & (shape.classify(entries, 0) & PRESENT != 0)]
    own = shape.translatable(shape.addresses(np.arange(count, dtype=np.uint64) << np.uint64(shift)))
    for place in places[:MAX_PLACES].tolist():
        cells = np.uint64(place) + np.arange(count, dtype=np.uint64) * np.uint64(width)
        entries, held = memory.words(cells, shape.entry)
        if not held.all() or not (shape.classify(entries, 0) & PRESENT != 0).all():
            continue
        tables, times = np.unique(entries, return_counts=True)
        used = entries != tables[np.argmax(times)]
        # entries for addresses outside of the kernel's half lead to the empty table
        if not 0 < 2 * np.count_nonzero(used) < count or (used & ~own).any():
            continue
        if memory.words(shape.target(tables, 0), np.dtype("u1"))[1].all():
            yield place, used


def _reached(memory: Memory, heads: _Heads, shape: PagingMode, root: int, used: NDArray[np.bool_]) -> _Heads:
    """Return the heads whose two members are mapped by tables of one format.

    The bits that hold the page's number do not matter for that.

    Args:
        memory: physical memory.
        heads: heads of lists.
        shape: format of the tables.
        root: address of the top table.
        used: mask of the entries that do not lead to an empty table.
    """
    keep = np.ones(len(heads), np.bool_)
    for members in (heads.firsts, heads.lasts):
        keep &= shape.translatable(members) & used[shape.index(members, 0)]
    heads = heads.chosen(keep)
    heads = heads.chosen(slice(None, None, max(1, -(-len(heads) // MAX_HEADS))))
    roots = np.full(len(heads), root, np.uint64)
    return heads.chosen(walk(memory, shape, roots, heads.firsts)[1] & walk(memory, shape, roots, heads.lasts)[1])
