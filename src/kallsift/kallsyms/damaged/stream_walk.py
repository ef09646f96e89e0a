"""Read entries out of a damaged stream, from every surviving marker on and behind each lost page.

Forwards from a marker every entry is certain up to the first lost byte. Backwards from a marker, to the lost page
before it, it is not known at which byte an entry begins. But a walk from any byte soon falls into step with the true
entries. So of the walks that begin behind the lost page and reach the marker, the longest is taken. Its first entries
are left out, of which fewer than `UNTRUSTED` could be there by chance, and it is believed only from where no other long
walk differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.damaged.page_map import PAGE, Pages, page_begin
from kallsift.kallsyms.damaged.verified_groups import proving_pages, suspected_pages, whole_groups
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

NEIGHBOURS = 3
"""Number of groups before and behind a group whose first letters its entries may have."""

DOUBLINGS = 20
"""Walks have two to this power entries at most."""


@dataclass(frozen=True, eq=False)
class Entries:
    """Entries of a stream, some of them unknown.

    Attributes:
        heads: offset of each entry's length in the segment's data, shape (n,), int64; -1 where unknown.
        ends: offset behind its last code, shape (n,), int64; -1 where unknown.
        proven: shape (n,), mask of the entries on pages that groups prove which end at their markers: these pages are
            not overwritten.
        pages: shape (m,), mask of the pages that such groups prove, counted as `Pages` does.
        untrusted: indices of uncertain entries, for each walk from behind a lost page into a certain entry, in their
            order.
        untrusted_heads: offsets of those entries' lengths.
        unanchored_chains: for each walk between two lost pages, offsets of the lengths of its entries, and the end of
            the last one; the indices of these entries are unknown, and the first `UNTRUSTED_OF_ANY` are uncertain
            besides.
    """

    heads: NDArray[np.int64]
    ends: NDArray[np.int64]
    proven: NDArray[np.bool_]
    pages: NDArray[np.bool_]
    untrusted: tuple[NDArray[np.int64], ...]
    untrusted_heads: tuple[NDArray[np.int64], ...]
    unanchored_chains: tuple[NDArray[np.int64], ...]


def resync_from_markers(
    data: NDArray[np.uint8],
    pages: Pages,
    offset: int,
    known: NDArray[np.int64],
    values: NDArray[np.int64],
    count: int,
    firsts: NDArray[np.uint8],
    letters: NDArray[np.bool_],
    two_byte_lengths: bool,
    end: int,
) -> tuple[Entries, NDArray[np.int64]]:
    """Return all entries that can be read from a stream with lost pages.

    Args:
        data: the segment's bytes.
        pages: its lost pages.
        offset: offset of the first entry.
        known: numbers of the surviving markers, ascending, shape (k,).
        values: those markers, shape (k,).
        count: number of entries of the stream.
        firsts: shape (256,), the first character of each token.
        letters: shape (256,), whether an entry can begin with a character.
        two_byte_lengths: whether a length may take two bytes.
        end: offset that the stream does not reach beyond.

    Returns:
        The entries, and the pages that are not blank but must be overwritten, counted from the first; if there are any,
        the
        entries are only those behind markers.
    """
    # one byte more, because the last entry can end exactly at ``end``
    region = data[offset : end + 1]
    following = following_entries(region, pages, offset, letters[firsts], two_byte_lengths)
    # the first marker is zero, whether it survives or not
    markers = {0: 0, **dict(zip(known.tolist(), values.tolist(), strict=True))}
    anchors = markers.copy()
    heads = np.full(count, -1, np.int64)
    broken = _forwards(pages, offset, following, markers, anchors, heads)
    groups = list(whole_groups(data, offset, end, markers, heads, following))
    proving = proving_pages(pages, offset, groups, heads)
    suspects = suspected_pages(pages, offset, markers, broken, groups, proving)
    # entries whose index a marker gives, and not only the number of entries counted
    indexed = np.isin(np.arange(count) // GROUP, list(markers))
    for first, last in groups:
        indexed[first:last] = True
    boundaries = np.array(sorted(value for value in anchors.values() if value < len(region)), np.int64)
    fitting = _with_local_letters(following, region, heads, boundaries, firsts, two_byte_lengths)
    untrusted: list[NDArray[np.int64]] = []
    untrusted_heads: list[NDArray[np.int64]] = []
    for number, value in anchors.items():
        last = number * GROUP - 1
        if number == 0 or last >= count or heads[last] >= 0 or value >= len(region) or len(suspects):
            continue
        low = _last_lost(pages, offset, value)
        if low >= value:
            continue
        walk, certain = _backwards(fitting, low, value, UNTRUSTED)
        if not len(walk):
            # no neighbour has such a letter: any letter is allowed, but more entries are uncertain then
            walk, certain = _backwards(following, low, value, UNTRUSTED_OF_ANY)
        indices = number * GROUP - np.arange(len(walk), 0, -1)
        free = (indices >= 0) & (heads[np.maximum(indices, 0)] < 0)
        trusted = free & (np.arange(len(walk)) >= certain)
        heads[indices[trusted]] = walk[trusted]
        indexed[indices[trusted]] = number in markers
        untrusted.append(indices[free & ~trusted])
        untrusted_heads.append(walk[free & ~trusted] + offset)
    walks = walks_adrift(following, pages, offset, boundaries, len(region)) if not len(suspects) else ()
    unanchored_chains = tuple(walk + offset for walk in walks)
    there = heads >= 0
    ends = np.full(count, -1, np.int64)
    ends[there] = following[heads[there]] + offset
    heads[there] += offset
    unproven = Pages(pages.first, ~proving)
    indexed[there] &= unproven.intact(heads[there], ends[there])
    return Entries(
        heads, ends, indexed & there, proving, tuple(untrusted), tuple(untrusted_heads), unanchored_chains
    ), suspects


def _with_local_letters(
    following: NDArray[np.int64],
    region: NDArray[np.uint8],
    heads: NDArray[np.int64],
    boundaries: NDArray[np.int64],
    firsts: NDArray[np.uint8],
    two_byte_lengths: bool,
) -> NDArray[np.int64]:
    """Return `following_entries` only for entries whose letter occurs around them.

    The letters are those of certain entries in the same group and its neighbours.
    """
    groups = len(boundaries)
    if not groups:
        return following
    head, _ = entry_sizes(region, two_byte_lengths)
    codes = np.append(region, 0)[np.minimum(np.arange(len(region)) + head, len(region))]
    letters = firsts[codes]
    own = np.clip(np.searchsorted(boundaries, np.arange(len(region)), side="right") - 1, 0, groups - 1)
    certain = heads[heads >= 0]
    seen = np.zeros((groups, 256), np.bool_)
    seen[own[certain], letters[certain]] = True
    around = seen.copy()
    for distance in range(1, NEIGHBOURS + 1):
        around[distance:] |= seen[:-distance]
        around[:-distance] |= seen[distance:]
    fitting = following.copy()
    fitting[:-1][~around[own, letters]] = len(region)
    return fitting


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


def _forwards(
    pages: Pages,
    offset: int,
    following: NDArray[np.int64],
    markers: dict[int, int],
    anchors: dict[int, int],
    heads: NDArray[np.int64],
) -> dict[int, int]:
    """Walk from each marker to the next lost byte or marker; find lost markers.

    The entries are written to ``heads``, markers that were found to ``anchors``.

    Returns:
        The markers from which a walk comes to a wrong place, and that place: some page on the way is overwritten. As
        nothing tells which, no entry from such a marker to the next surviving one is believed.
    """
    outside, source, broken = len(following) - 1, 0, dict[int, int]()
    walks = dict(zip(anchors, _group_walks(following, [*anchors.values()]), strict=True))
    for number in range(-(-len(heads) // GROUP)):
        source = number if number in markers else source
        place = anchors.get(number)
        if place is None or place >= outside:
            continue
        last = min(len(heads), (number + 1) * GROUP)
        places = walks[number] if number in walks else _group_walks(following, [place])[0]
        ends = np.flatnonzero(places[1:] == outside)
        walk = places[: min(int(ends[0]) if len(ends) else GROUP, last - number * GROUP)]
        place = int(places[len(walk)])
        whole = len(walk) == last - number * GROUP
        following_marker = anchors.get(number + 1)
        if not whole and pages.intact(*(np.array([place + offset + more]) for more in (0, FIRST_WHOLE)))[0]:
            # no byte is lost here, so a page before it is overwritten
            broken[source] = place
            continue
        if whole and following_marker is not None and following_marker != place:
            broken[source] = max(place, following_marker)
            continue
        if whole and following_marker is None and last == (number + 1) * GROUP:
            anchors[number + 1] = place
        heads[number * GROUP : number * GROUP + len(walk)] = walk
    for source in broken:
        number = source
        while number == source or (number in anchors and number not in markers):
            heads[number * GROUP : (number + 1) * GROUP] = -1
            if number != source:
                del anchors[number]
            number += 1
    return broken


def _group_walks(following: NDArray[np.int64], starts: list[int]) -> NDArray[np.int64]:
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


def _last_lost(pages: Pages, offset: int, value: int) -> int:
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


def _backwards(
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
