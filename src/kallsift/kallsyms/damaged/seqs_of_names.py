"""Read seqs_of_names where some of its pages are lost: every entry that survives, as far as it can be right."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.damaged.page_map import PAGE, Pages
from kallsift.kallsyms.format.seqs_of_names import SAMPLE, SAMPLED, SEQUENCE, entries_at

EDGE = 8
"""Number of the first and of the last entries that are read besides a sample: they tell a permutation from one that
begins some entries further."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """The surviving part of a permutation.

    Attributes:
        offset: offset of the first entry in the segment's data.
        entry_size: bytes of an entry, 3 or 4.
        order: shape (n,), int64; ``order[r]`` is the index of the r-th symbol by name, -1 where it is lost.
        rank: shape (n,), int64; the rank of each symbol, -1 where it is lost.
        inconsistent: number of entries on pages that are not blank which cannot be right.
    """

    offset: int
    entry_size: int
    order: NDArray[np.int64]
    rank: NDArray[np.int64]
    inconsistent: int

    @property
    def known(self) -> int:
        """Number of entries that survive."""
        return int(np.count_nonzero(self.order >= 0))

    def without(self, lost: NDArray[np.bool_]) -> Ranks:
        """Return the permutation with the entries in the mask ``lost`` lost too.

        Args:
            lost: shape (n,).
        """
        order, rank = np.where(lost, -1, self.order), self.rank.copy()
        rank[self.order[lost & (self.order >= 0)]] = -1
        return replace(self, order=order, rank=rank)


def find_ranks(data: NDArray[np.uint8], pages: Pages, end: int, count: int, byte_order: str) -> Ranks | None:
    """Return the surviving part of the permutation that follows a table, or None.

    None if too little survives, or if there is no permutation.

    Args:
        data: the segment's bytes.
        pages: the lost pages.
        end: offset behind the table before it.
        count: number of symbols.
        byte_order: ``"<"`` or ``">"``.
    """
    best: Ranks | None = None
    for entry_size in (3, 4):
        for offset in dict.fromkeys(-(-end // alignment) * alignment for alignment in (4, 8, 16, 256)):
            ranks = ranks_at(data, pages, offset, entry_size, count, byte_order)
            if ranks is not None and (best is None or ranks.known > best.known):
                best = ranks
    return best


def ranks_at(
    data: NDArray[np.uint8], pages: Pages, offset: int, entry_size: int, count: int, byte_order: str
) -> Ranks | None:
    """Return the surviving part of the permutation at an offset, or None.

    None if too little survives, or if there is no permutation.
    """
    if offset + count * entry_size > len(data):
        return None
    places = offset + np.arange(count, dtype=np.int64) * entry_size
    order = entries_at(data, places, entry_size, byte_order)
    intact = pages.intact(places, places + entry_size)
    number = pages.number(places)
    # a page that was overwritten has entries that are too high
    overwritten = np.zeros(len(pages.lost), np.bool_)
    overwritten[number[intact & (order >= count)]] = True
    inconsistent = intact & overwritten[number]
    intact &= ~inconsistent
    if np.count_nonzero(intact) < max(SAMPLED, count // 8):
        return None
    order = np.where(intact, order, -1)
    times = np.bincount(order[intact], minlength=count)
    doubled = intact & (times[np.maximum(order, 0)] > 1)
    # of a page whose entries stand twice, one copy at most is right
    copied = np.bincount(number[doubled], minlength=len(pages.lost)) * 2 > np.bincount(
        number, minlength=len(pages.lost)
    )
    if np.count_nonzero(doubled & ~copied[number]) * 50 > count or np.count_nonzero(intact & ~doubled) < count // 8:
        return None
    order[intact] = np.where(times[order[intact]] == 1, order[intact], -1)
    rank = np.full(count, -1, np.int64)
    there = np.flatnonzero(order >= 0)
    rank[order[there]] = there
    twice = int(np.count_nonzero(times > 1))
    return Ranks(offset, entry_size, order, rank, int(np.count_nonzero(inconsistent)) + twice)


def may_be_permuted(
    data: NDArray[np.uint8], pages: Pages, starts: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell which starts can begin a permutation, by a sample of its entries.

    Some entries from each start on, the first and the last ones among them, must be lower than the start's count.
    """
    ends = starts + counts * SEQUENCE
    # bound how many sampled entries can survive by the pages that do; few pages hold more than one sampled entry
    there = pages.count_left(starts, ends)
    # mostly no page survives; then the edges need not be counted
    going = np.flatnonzero((ends <= len(data)) & (there > 0))
    low, high, edge = starts[going], ends[going], EDGE * SEQUENCE
    most = there[going] * (1 + SAMPLE * PAGE // np.maximum(counts[going] * SEQUENCE, 1))
    most += EDGE * (pages.count_left(low, low + edge) + pages.count_left(high - edge, high))
    going = going[most >= SAMPLE // 4]
    seen = np.zeros(len(starts), np.int64)
    spread = [(number, SAMPLE, 0) for number in range(SAMPLE)]
    edges = [entry for number in range(EDGE) for entry in ((0, 1, number), (1, 1, -1 - number))]
    for number, parts, further in (*spread, *edges):
        place = starts[going] + (counts[going] * number // parts + further) * SEQUENCE
        intact = pages.intact(place, place + SEQUENCE)
        value = data[place].astype(np.int64) << 16 | data[place + 1].astype(np.int64) << 8 | data[place + 2]
        seen[going] += intact
        going = going[~intact | (value < counts[going])]
    result = np.zeros(len(starts), np.bool_)
    result[going] = seen[going] >= SAMPLE // 4
    return result
