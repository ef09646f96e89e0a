"""Pages of an array in order that hold something else: each breaks the order in itself, or with those around it.

A page out of the same array, or of some other that rises, is in order in itself. Where two pages contradict each other
and nothing else does, either can be the foreign one, so that neither is believed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WIDE = 4
"""From one page to the next an array rises by less than one of so many parts of what it does within each: a page
that belongs elsewhere leaves out as much as a page holds."""


Keys = NDArray[np.int64] | NDArray[np.unsignedinteger]


def pages_out_of_order(keys: Keys, known: NDArray[np.bool_], pages: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pages that do not hold what they did, as far as order shows it.

    Args:
        keys: shape (n,), which never fall in a whole array.
        known: shape (n,), which of them are left.
        pages: shape (n,), the page that each lies on, never falling.
    """
    first, last, numbers = _edges(keys, known, pages)
    there = np.flatnonzero(known)
    falls = there[1:][(keys[there[1:]] < keys[there[:-1]]) & (pages[there[1:]] == pages[there[:-1]])]
    fine = ~np.isin(numbers, pages[falls])
    certain = np.zeros(len(numbers), np.bool_)
    certain[fine] = _certain(first[fine], last[fine])
    if certain.all():
        return np.empty(0, np.int64)
    certain[certain] = _joined(first[certain], last[certain], numbers[certain])
    result: NDArray[np.int64] = numbers[~certain]
    return result


def pages_in_rows(
    keys: Keys, known: NDArray[np.bool_], pages: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pages that have known keys, and the row that each is in, both shape (m,).

    Rows are of neighbours that go on at each other, and of pages on and between which keys rise in even steps. A copy
    of a page that is lost itself is in order, but in a row of its own if the pages beside it are lost as well.
    """
    first, last, numbers = _edges(keys, known, pages)
    beside, joins = _steps(first, last, numbers)
    there = np.flatnonzero(known)
    begins = np.flatnonzero(np.diff(pages[there], prepend=-1))
    low, high = there[begins], there[np.append(begins, len(there))[1:] - 1]
    steps = np.diff(keys[there], prepend=keys[there[:1]]).astype(np.int64)
    # the step to a page's first key is that from another page
    steps[begins] = steps[np.minimum(begins + 1, len(steps) - 1)]
    least, most = np.minimum.reduceat(steps, begins), np.maximum.reduceat(steps, begins)
    even = (least[1:] == most[1:]) & (least[1:] == most[:-1]) & (least[:-1] == most[:-1]) & (least[1:] > 0)
    even &= first[1:] - last[:-1] == least[1:] * (low[1:] - high[:-1])
    return numbers, np.cumsum(np.append(False, ~(beside & joins | even)))[: len(numbers)]


def _edges(keys: Keys, known: NDArray[np.bool_], pages: NDArray[np.int64]) -> tuple[Keys, Keys, NDArray[np.int64]]:
    """The first and the last key left on each page where any is, and the pages."""
    there = np.flatnonzero(known)
    begins = np.flatnonzero(np.diff(pages[there], prepend=-1))
    ends = np.append(begins, len(there))[1:] - 1
    return keys[there[begins]], keys[there[ends]], pages[there[begins]]


def _certain(first: Keys, last: Keys) -> NDArray[np.bool_]:
    """Which pages are in each of the longest chains of pages in order, by their first and last keys."""
    size = len(first)
    if (first[1:] >= last[:-1]).all():
        return np.ones(size, np.bool_)
    up_to, down_to = np.ones(size, np.int64), np.ones(size, np.int64)
    for page in range(1, size):
        up_to[page] += up_to[:page][last[:page] <= first[page]].max(initial=0)
    for page in range(size - 2, -1, -1):
        down_to[page] += down_to[page + 1 :][first[page + 1 :] >= last[page]].max(initial=0)
    through = up_to + down_to - 1
    longest = through == through.max(initial=0)
    alone = np.bincount(up_to[longest], minlength=size + 1) == 1
    result: NDArray[np.bool_] = longest & alone[up_to]
    return result


def _joined(first: Keys, last: Keys, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which pages go on where a page beside them ends, or have none beside them, nor go on at one that is not."""
    beside, joins = _steps(first, last, numbers)
    alone = np.ones(len(numbers), np.bool_)
    alone[1:] &= ~(beside | joins)
    alone[:-1] &= ~(beside | joins)
    alone[1:] |= beside & joins
    alone[:-1] |= beside & joins
    return alone


def _steps(first: Keys, last: Keys, numbers: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each page but the last has the next one beside it, and whether that goes on where it ends."""
    rises = last - first
    return np.diff(numbers) == 1, first[1:] - last[:-1] <= np.minimum(rises[1:], rises[:-1]) // WIDE
