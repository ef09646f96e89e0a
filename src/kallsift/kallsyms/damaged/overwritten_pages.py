"""Find overwritten pages of an ordered array: each is out of order in itself, or with the pages around it.

A page out of the same array, or of another one that rises, is in order in itself. If two pages contradict each other
and nothing else does, either can be the overwritten one, so neither is trusted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WIDE = 4
"""Divisor of the rise within a page: from one page to the next an array rises by less than this part of its rise within
each of the two. A page that belongs elsewhere leaves out as much as a page holds."""


Keys = NDArray[np.int64] | NDArray[np.unsignedinteger]


def pages_out_of_order(keys: Keys, known: NDArray[np.bool_], pages: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pages that are overwritten, as far as the order shows it.

    Args:
        keys: shape (n,); they never fall in a whole array.
        known: shape (n,), mask of the keys that survive.
        pages: shape (n,), the page of each key, never falling.
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
    """Return the pages that have known keys, and the row that each belongs to.

    Both have the shape (m,). A row consists of neighbouring pages that continue each other, or on and between which
    keys rise in even steps. A copy of a lost page of the array is in order, but is a row of its own if the pages beside
    it are lost as well.
    """
    first, last, numbers = _edges(keys, known, pages)
    beside, joins = _steps(first, last, numbers)
    there = np.flatnonzero(known)
    begins = np.flatnonzero(np.diff(pages[there], prepend=-1))
    low, high = there[begins], there[np.append(begins, len(there))[1:] - 1]
    steps = np.diff(keys[there], prepend=keys[there[:1]]).astype(np.int64)
    # the step to a page's first key comes from another page, so it is replaced by the next step
    steps[begins] = steps[np.minimum(begins + 1, len(steps) - 1)]
    least, most = np.minimum.reduceat(steps, begins), np.maximum.reduceat(steps, begins)
    even = (least[1:] == most[1:]) & (least[1:] == most[:-1]) & (least[:-1] == most[:-1]) & (least[1:] > 0)
    even &= first[1:] - last[:-1] == least[1:] * (low[1:] - high[:-1])
    return numbers, np.cumsum(np.append(False, ~(beside & joins | even)))[: len(numbers)]


def _edges(keys: Keys, known: NDArray[np.bool_], pages: NDArray[np.int64]) -> tuple[Keys, Keys, NDArray[np.int64]]:
    """Return the first and the last known key of each page, and the pages.

    Pages without a known key are left out.
    """
    there = np.flatnonzero(known)
    begins = np.flatnonzero(np.diff(pages[there], prepend=-1))
    ends = np.append(begins, len(there))[1:] - 1
    return keys[there[begins]], keys[there[ends]], pages[there[begins]]


def _certain(first: Keys, last: Keys) -> NDArray[np.bool_]:
    """Tell which pages are in all of the longest chains of pages in order.

    The pages are given by their first and last keys.
    """
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
    """Tell which pages continue a neighbouring page, or contradict none.

    A page passes if it joins a page beside it. It also passes if it has no page beside it and joins none further away.
    """
    beside, joins = _steps(first, last, numbers)
    alone = np.ones(len(numbers), np.bool_)
    alone[1:] &= ~(beside | joins)
    alone[:-1] &= ~(beside | joins)
    alone[1:] |= beside & joins
    alone[:-1] |= beside & joins
    return alone


def _steps(first: Keys, last: Keys, numbers: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell which pages have the next one as neighbour, and which of the next continue.

    Both masks are for all pages but the last. A page continues another if the step between them is small.
    """
    rises = last - first
    return np.diff(numbers) == 1, first[1:] - last[:-1] <= np.minimum(rises[1:], rises[:-1]) // WIDE
