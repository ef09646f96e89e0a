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


def pages_out_of_order(
    keys: NDArray[np.int64] | NDArray[np.unsignedinteger], known: NDArray[np.bool_], pages: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The pages that do not hold what they did, as far as order shows it.

    Args:
        keys: shape (n,), which never fall in a whole array.
        known: shape (n,), which of them are left.
        pages: shape (n,), the page that each lies on, never falling.
    """
    there = np.flatnonzero(known)
    own = pages[there]
    begins = np.flatnonzero(np.diff(own, prepend=-1))
    numbers = own[begins]
    left = keys[there]
    falls = np.flatnonzero((left[1:] < left[:-1]) & (own[1:] == own[:-1])) + 1
    fine = ~np.isin(numbers, own[falls])
    ends = np.append(begins[1:], len(there)) - 1
    certain = np.zeros(len(numbers), np.bool_)
    certain[fine] = _certain(left[begins[fine]], left[ends[fine]])
    if certain.all():
        return np.empty(0, np.int64)
    certain[certain] = _joined(left[begins[certain]], left[ends[certain]], numbers[certain])
    result: NDArray[np.int64] = numbers[~certain]
    return result


def _certain(
    first: NDArray[np.int64] | NDArray[np.unsignedinteger], last: NDArray[np.int64] | NDArray[np.unsignedinteger]
) -> NDArray[np.bool_]:
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


def _joined(
    first: NDArray[np.int64] | NDArray[np.unsignedinteger],
    last: NDArray[np.int64] | NDArray[np.unsignedinteger],
    numbers: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which pages go on where a page beside them ends, or have none beside them, nor go on at one that is not."""
    beside = np.diff(numbers) == 1
    rises = last - first
    joins = first[1:] - last[:-1] <= np.minimum(rises[1:], rises[:-1]) // WIDE
    alone = np.ones(len(numbers), np.bool_)
    alone[1:] &= ~(beside | joins)
    alone[:-1] &= ~(beside | joins)
    alone[1:] |= beside & joins
    alone[:-1] |= beside & joins
    return alone
