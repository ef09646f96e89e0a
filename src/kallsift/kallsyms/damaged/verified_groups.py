"""Prove pages of a name stream by groups of names that lead from one marker to the next.

A page that no such group proves can be an overwritten one that continues as names do: a walk falls into step on any
piece of a name stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.damaged.page_map import Pages
from kallsift.kallsyms.format.markers import GROUP
from kallsift.kallsyms.format.name_stream import is_padding

LEAST_ENTRIES = 16
"""Lowest number of entries of such a group that must begin on a page: the last one of few can end at the marker by
chance."""


def whole_groups(
    data: NDArray[np.uint8],
    offset: int,
    end: int,
    markers: dict[int, int],
    heads: NDArray[np.int64],
    following: NDArray[np.int64],
) -> Iterator[tuple[int, int]]:
    """Yield ranges of entries that lead from one marker to the next, or to the end.

    Each range is the index of the first entry and the index behind the last one.
    """
    numbers = sorted(markers)
    for number, after in zip(numbers, [*numbers[1:], None], strict=True):
        first, last = number * GROUP, len(heads) if after is None else after * GROUP
        if not first < last <= len(heads) or (heads[first:last] < 0).any():
            continue
        place = int(following[heads[last - 1]])
        if place == markers[after] if after is not None else is_padding(data, place + offset, end):
            yield first, last


def proving_pages(
    pages: Pages, offset: int, groups: Iterable[tuple[int, int]], heads: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell which pages enough entries of whole groups begin on; a mask of all pages."""
    proving = np.zeros(len(pages.lost), np.bool_)
    for first, last in groups:
        numbers, entries = np.unique(pages.number(heads[first:last] + offset), return_counts=True)
        proving[numbers[entries >= LEAST_ENTRIES]] = True
    return proving


def suspected_pages(
    pages: Pages,
    offset: int,
    markers: dict[int, int],
    broken: dict[int, int],
    groups: Iterable[tuple[int, int]],
    proving: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Return the pages that seem overwritten: walks go wrong, but nothing is blank.

    A walk goes wrong if it breaks off or its group does not end at the next marker. Pages are not suspected if a group
    that ends at its marker proves them. But if such groups prove all pages of a wrong walk, one of them ends there by
    chance, and none of them is believed.
    """
    whole = {first // GROUP for first, _ in groups}
    ends = {number: markers[number + 1] for number in markers if number not in whole and number + 1 in markers}
    untrusted = np.zeros(len(pages.lost), np.bool_)
    for number, end in (broken | ends).items():
        value = markers[number]
        first, last = pages.number(np.array([value, max(value, end - 1)]) + offset)
        own = slice(first, last + 1)
        if pages.lost[own].any():
            continue
        untrusted[own] = True
        if proving[own].all():
            proving[own] = False
    return np.flatnonzero(untrusted & ~proving)
