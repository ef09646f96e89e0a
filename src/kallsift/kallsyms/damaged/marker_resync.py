"""Read all entries of a damaged stream that its surviving markers lead to, forwards and backwards.

Forwards from a marker every entry is certain up to the first lost byte. Backwards from a marker, to the lost page
before it, the longest walk that reaches the marker is taken (see `kallsift.kallsyms.damaged.stream_walk`). It is
believed only from where no other long walk differs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.damaged.damage_context import DamageContext
from kallsift.kallsyms.damaged.page_map import Pages
from kallsift.kallsyms.damaged.stream_layout import NameStreamLayout
from kallsift.kallsyms.damaged.stream_walk import (
    FIRST_WHOLE,
    UNTRUSTED,
    UNTRUSTED_OF_ANY,
    following_entries,
    group_walks,
    last_lost,
    walk_back,
    walks_adrift,
)
from kallsift.kallsyms.damaged.verified_groups import proving_pages, suspected_pages, whole_groups
from kallsift.kallsyms.format.markers import GROUP
from kallsift.kallsyms.format.name_stream import entry_sizes

NEIGHBOURS = 3
"""Number of groups before and behind a group whose first letters its entries may have."""


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


def resync_from_markers(context: DamageContext, stream: NameStreamLayout) -> tuple[Entries, NDArray[np.int64]]:
    """Return all entries that can be read from a stream with lost pages.

    Args:
        context: the memory with the stream.
        stream: its layout, with the markers that survive.

    Returns:
        The entries, and the pages that are not blank but must be overwritten, counted from the first; if there are any,
        the entries are only those behind markers.
    """
    pages, offset = context.pages, stream.offset
    walks = _MarkerWalks(context, stream)
    broken = walks.forwards()
    groups = list(whole_groups(context.data, offset, stream.end, walks.markers, walks.heads, walks.following))
    proving = proving_pages(pages, offset, groups, walks.heads)
    suspects = suspected_pages(pages, offset, walks.markers, broken, groups, proving)
    walks.note_indexed(groups)
    if len(suspects):
        return walks.entries(proving, ()), suspects
    walks.backwards()
    chains = walks_adrift(walks.following, pages, offset, walks.boundaries, len(walks.region))
    return walks.entries(proving, chains), suspects


class _MarkerWalks:
    """The entries that walks from markers come to; all their offsets count from the first entry.

    Attributes:
        region: the bytes of the stream.
        following: the end of the entry that begins at each byte, as `following_entries` gives it.
        markers: offset of the entry that each marker leads to, by the marker's number.
        anchors: the same, with the lost markers that walks have found.
        heads: offset of each entry's length, shape (n,); -1 where unknown.
        indexed: mask of the entries whose index a marker gives, and not only the number of entries counted; shape (n,).
        untrusted: indices of uncertain entries and the offsets of their lengths, for each walk backwards.
    """

    def __init__(self, context: DamageContext, stream: NameStreamLayout) -> None:
        self.context, self.stream = context, stream
        # one byte more, because the last entry can end exactly at the end of the stream
        self.region = context.data[stream.offset : stream.end + 1]
        self.following = following_entries(
            self.region, context.pages, stream.offset, context.can_begin, stream.two_byte_lengths
        )
        # the first marker is zero, whether it survives or not
        self.markers = {0: 0, **dict(zip(stream.numbers.tolist(), stream.values.tolist(), strict=True))}
        self.anchors = self.markers.copy()
        self.heads = np.full(stream.count, -1, np.int64)
        self.indexed = np.zeros(stream.count, np.bool_)
        self.untrusted: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

    @property
    def boundaries(self) -> NDArray[np.int64]:
        """Offset of the first entry of each group that is known, in their order, shape (k,)."""
        return np.array(sorted(value for value in self.anchors.values() if value < len(self.region)), np.int64)

    def forwards(self) -> dict[int, int]:
        """Walk from each marker to the next lost byte or marker; find lost markers.

        Returns:
            The markers from which a walk comes to a wrong place, and that place: some page on the way is overwritten.
            As nothing tells which, no entry from such a marker to the next surviving one is believed.
        """
        anchors, heads, outside = self.anchors, self.heads, len(self.region)
        source, broken = 0, dict[int, int]()
        walks = dict(zip(anchors, group_walks(self.following, [*anchors.values()]), strict=True))
        for number in range(-(-len(heads) // GROUP)):
            source = number if number in self.markers else source
            place = anchors.get(number)
            if place is None or place >= outside:
                continue
            last = min(len(heads), (number + 1) * GROUP)
            places = walks[number] if number in walks else group_walks(self.following, [place])[0]
            ends = np.flatnonzero(places[1:] == outside)
            walk = places[: min(int(ends[0]) if len(ends) else GROUP, last - number * GROUP)]
            place = int(places[len(walk)])
            whole = len(walk) == last - number * GROUP
            following_marker = anchors.get(number + 1)
            if not whole and self._is_intact_at(place):
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
            self._forget(source)
        return broken

    def _is_intact_at(self, place: int) -> bool:
        """Tell whether no byte is lost where an entry begins."""
        low, high = (np.array([place + self.stream.offset + more]) for more in (0, FIRST_WHOLE))
        return bool(self.context.pages.intact(low, high)[0])

    def _forget(self, source: int) -> None:
        """Leave out the entries from a marker to the next surviving one, and the markers that were found there."""
        number = source
        while number == source or (number in self.anchors and number not in self.markers):
            self.heads[number * GROUP : (number + 1) * GROUP] = -1
            if number != source:
                del self.anchors[number]
            number += 1

    def note_indexed(self, groups: Iterable[tuple[int, int]]) -> None:
        """Note the entries of whole groups, and of those behind a marker, as those whose index a marker gives."""
        self.indexed[np.isin(np.arange(len(self.indexed)) // GROUP, list(self.markers))] = True
        for first, last in groups:
            self.indexed[first:last] = True

    def backwards(self) -> None:
        """Walk to each marker whose group before it is unknown, from the lost page before the marker."""
        fitting, heads = self._with_local_letters(), self.heads
        for number, value in self.anchors.items():
            last = number * GROUP - 1
            if number == 0 or last >= len(heads) or heads[last] >= 0 or value >= len(self.region):
                continue
            low = last_lost(self.context.pages, self.stream.offset, value)
            if low >= value:
                continue
            walk, certain = walk_back(fitting, low, value, UNTRUSTED)
            if not len(walk):
                # no neighbour has such a letter: any letter is allowed, but more entries are uncertain then
                walk, certain = walk_back(self.following, low, value, UNTRUSTED_OF_ANY)
            indices = number * GROUP - np.arange(len(walk), 0, -1)
            free = (indices >= 0) & (heads[np.maximum(indices, 0)] < 0)
            trusted = free & (np.arange(len(walk)) >= certain)
            heads[indices[trusted]] = walk[trusted]
            self.indexed[indices[trusted]] = number in self.markers
            self.untrusted.append((indices[free & ~trusted], walk[free & ~trusted]))

    def _with_local_letters(self) -> NDArray[np.int64]:
        """Return ``following`` only for entries whose letter occurs around them.

        The letters are those of certain entries in the same group and its neighbours.
        """
        region, boundaries, firsts = self.region, self.boundaries, self.context.firsts
        groups = len(boundaries)
        if not groups:
            return self.following
        head, _ = entry_sizes(region, self.stream.two_byte_lengths)
        codes = np.append(region, 0)[np.minimum(np.arange(len(region)) + head, len(region))]
        letters = firsts[codes]
        own = np.clip(np.searchsorted(boundaries, np.arange(len(region)), side="right") - 1, 0, groups - 1)
        certain = self.heads[self.heads >= 0]
        seen = np.zeros((groups, 256), np.bool_)
        seen[own[certain], letters[certain]] = True
        around = seen.copy()
        for distance in range(1, NEIGHBOURS + 1):
            around[distance:] |= seen[:-distance]
            around[:-distance] |= seen[distance:]
        fitting = self.following.copy()
        fitting[:-1][~around[own, letters]] = len(region)
        return fitting

    def entries(self, proving: NDArray[np.bool_], chains: Iterable[NDArray[np.int64]]) -> Entries:
        """Return what was found, with offsets in the segment's data.

        Args:
            proving: mask of the pages that groups prove, counted as `Pages` does.
            chains: the walks between two lost pages.
        """
        offset, heads = self.stream.offset, self.heads.copy()
        there = heads >= 0
        ends = np.full(len(heads), -1, np.int64)
        ends[there] = self.following[heads[there]] + offset
        heads[there] += offset
        proven = self.indexed & there
        proven[there] &= Pages(self.context.pages.first, ~proving).intact(heads[there], ends[there])
        return Entries(
            heads,
            ends,
            proven,
            proving,
            tuple(indices for indices, _ in self.untrusted),
            tuple(places + offset for _, places in self.untrusted),
            tuple(walk + offset for walk in chains),
        )
