"""Walk over the entries of a damaged stream, from one length to the next.

Where a page is lost, it is not known at which byte behind it an entry begins. But a walk from any byte soon falls into
step with the true entries. So of the walks that begin behind the lost page, the longest is taken. Its first entries are
uncertain, of which fewer than `UNTRUSTED` could be there by chance.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.damaged.page_map import PAGE, Pages, page_begin
from kallsift.kallsyms.format.markers import GROUP, MAX_ENTRY
from kallsift.kallsyms.format.name_stream import entry_sizes

FIRST_WHOLE = 130
"""Bytes behind a lost page within which an entry begins: no entry of one length byte takes more."""

UNTRUSTED = 7
"""Number of entries at the beginning of a walk that are not believed without other proof."""

UNTRUSTED_OF_ANY = 15
"""The same number where an entry may begin with any letter, not only with those of its neighbours."""

RIVAL = 3
"""Lowest number of entries that a walk must have of its own to make a longer one uncertain."""

DOUBLINGS = 20
"""Walks have two to this power entries at most."""


def following_entries(
    region: NDArray[np.uint8], pages: Pages, offset: int, letters: NDArray[np.bool_], two_byte_lengths: bool
) -> NDArray[np.int64]:
    """Return the end of the entry that begins at each byte of a region.

    The result has the shape (n + 1,); it is n where no entry can begin.
    """
    outside = len(region)
    head, length = entry_sizes(region, two_byte_lengths)
    place = np.arange(outside)
    end = place + head + length
    possible = (length > 0) & (head + length <= MAX_ENTRY) & (end <= outside)
    possible[possible] &= letters[region[(place + head)[possible]]]
    possible[possible] &= pages.intact(place[possible] + offset, end[possible] + offset)
    return np.append(np.where(possible, end, outside), outside)


def group_walks(following: NDArray[np.int64], starts: list[int]) -> NDArray[np.int64]:
    """Return the entries of a group from each start on, and its end.

    Shape (n, GROUP + 1). Where no entry can begin, the rest is the number of bytes of the region.
    """
    places = np.empty((GROUP + 1, len(starts)), np.int64)
    places[0] = np.minimum(starts, len(following) - 1)
    for entry in range(GROUP):
        places[entry + 1] = following[places[entry]]
    return places.T


def _walked(following: NDArray[np.int64], low: int, high: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Tell which of the walks from ``low`` on reach ``high``, and count their entries.

    There is a walk from each byte. The entries are those before ``high``, or before the walk ends elsewhere. Shapes
    (high - low + 1,). Walks of 2, 4, 8 ... entries are made by composing each with itself, all at once.
    """
    size = high - low
    # the index behind that of ``high`` stands for all walks that lead elsewhere
    inner = following[low:high] - low
    reached = np.append(np.where(inner <= size, inner, size + 1), [size, size + 1])
    steps = np.ones(size + 2, np.int64)
    steps[reached == size + 1] = 0
    steps[size] = 0
    for _ in range(DOUBLINGS):
        further = reached[reached]
        if np.array_equal(further, reached):
            break
        steps += steps[reached]
        reached = further
    return reached[: size + 1] == size, steps[: size + 1]


def last_lost(pages: Pages, offset: int, value: int) -> int:
    """Return the end of the last lost page before a marker, relative to the stream.

    0 if there is none.
    """
    page = int(pages.number(np.array([value + offset - 1]))[0])
    lost = np.flatnonzero(pages.lost[: page + 1])
    return max(0, (int(lost[-1]) + 1) * PAGE + pages.first - offset) if len(lost) else 0


def walks_adrift(
    following: NDArray[np.int64], pages: Pages, offset: int, boundaries: NDArray[np.int64], size: int
) -> Iterator[NDArray[np.int64]]:
    """Yield the longest walk between each two lost pages without a marker in between.

    Its first entries are uncertain.
    """
    first, last = pages.number(np.array([offset, offset + size]))
    lost = np.flatnonzero(pages.lost[first : last + 1]) + first
    gaps = np.flatnonzero(np.diff(lost) > 1)
    if not len(gaps):
        return
    outside = len(following) - 1
    for low_page, high_page in zip((lost[gaps] + 1).tolist(), lost[gaps + 1].tolist(), strict=True):
        low, high = (page * PAGE + pages.first - offset for page in (low_page, high_page))
        if low < 0 or ((boundaries >= low) & (boundaries < high)).any():
            continue
        high = min(high, outside)
        if low >= high:
            continue
        whole = longest_walk(following, low, high)
        if pages.intact(whole[-1:] + offset, whole[-1:] + offset + FIRST_WHOLE)[0]:
            # no byte is lost where the walk ends, so its last page is overwritten; drop the entries that reach into it
            whole = whole[whole <= page_begin(int(whole[-1]), pages.first - offset)]
        if len(whole) > 2 * UNTRUSTED_OF_ANY:
            yield whole


def longest_walk(following: NDArray[np.int64], low: int, high: int) -> NDArray[np.int64]:
    """Return the longest of the walks from the first bytes behind ``low``.

    The result is the offsets of its entries, and the offset at which it leads nowhere.
    """
    _, steps = _walked(following, low, high)
    walk = [low + int(np.argmax(steps[: min(FIRST_WHOLE, high - low)]))]
    while (place := int(following[walk[-1]])) != len(following) - 1:
        walk.append(place)
    return np.array(walk, np.int64)


def walk_back(
    following: NDArray[np.int64],
    low: int,
    high: int,
    untrusted: int,
) -> tuple[NDArray[np.int64], int]:
    """Return the longest walk from a lost page to a marker.

    The second value is the number, in the walk, of its first certain entry.

    Args:
        following: the end of the entry that begins at each byte.
        low: offset at which the lost page ends.
        high: offset that the marker gives.
        untrusted: number of the walk's first entries that are never certain.
    """
    arrives, steps = _walked(following, low, high)
    begins = low + np.flatnonzero(arrives[: min(FIRST_WHOLE, high - low)])
    leaves = begins[~np.isin(begins, following[begins])]
    if not len(leaves):
        return np.empty(0, np.int64), 0
    longest = leaves[np.argmax(steps[leaves - low])]
    walk = [int(longest)]
    while (place := int(following[walk[-1]])) != high:
        walk.append(place)
    numbers = {place: number for number, place in enumerate(walk)}
    certain = untrusted
    for leaf in leaves.tolist():
        place, own = leaf, 0
        while place != high and place not in numbers:
            place, own = int(following[place]), own + 1
        if own >= RIVAL:
            certain = max(certain, numbers.get(place, len(walk)))
    return np.array(walk, np.int64), certain
