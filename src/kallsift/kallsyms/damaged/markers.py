"""Recover the surviving part of damaged markers, and the start of the name stream that most of them confirm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.damaged.page_map import Pages
from kallsift.kallsyms.format.markers import GROUP, MAX_ENTRY
from kallsift.kallsyms.format.name_stream import LIKELY_LAST_GROUP, entry_sizes, is_padding, landing
from kallsift.kallsyms.format.token_table import MAX_PADDING

LEAST = 4
"""Lowest number of neighbouring markers in a piece."""

LONG = 16
"""Number of neighbouring markers that cannot be other words by chance."""

MOST_RUNS = 3
"""Highest number of runs that are followed, those with most markers first."""

VOTERS = 48
"""Approximate number of groups that vote on the start of the stream."""

LEAST_VOTES = 3

LEAST_SHARE = 8
"""One of this many voters at least must agree; with a fourth of the pages lost, every other one does."""

LARGEST = 1 << 28
"""Highest size of a name stream in bytes, and so of a marker's value."""

WIDEST_GROUP = 8192
"""Highest size of a group in bytes that is assumed where its marker is lost; true groups have some 3,000."""


@dataclass(frozen=True, eq=False)
class PartialMarkers:
    """A run of markers, some of them lost.

    Attributes:
        offset: offset of the first survivor in the segment's data.
        width: bytes of a marker.
        places: position of each survivor, counted in markers from the first survivor, shape (k,), int64.
        values: value of each survivor, shape (k,), int64.
        before: highest number of markers that can have been lost directly before the first survivor.
        after: highest number of markers that can have been lost directly behind the last survivor.
    """

    offset: int
    width: int
    places: NDArray[np.int64]
    values: NDArray[np.int64]
    before: int
    after: int

    @property
    def end(self) -> int:
        """Offset behind the last survivor."""
        return self.offset + (int(self.places[-1]) + 1) * self.width

    @property
    def counts(self) -> range:
        """Range of the possible numbers of entries."""
        last = int(self.places[-1])
        first = 0 if self.values[0] == 0 else 1
        return range((last + first) * GROUP + 1, (last + 1 + self.after + (self.before if first else 0)) * GROUP + 1)

    def numbers(self, count: int) -> NDArray[np.int64] | None:
        """Return the number of each survivor among all markers of ``count`` entries.

        None if it cannot be told.
        """
        if self.values[0] == 0:
            return self.places
        if self.after:
            return None
        return self.places + (-(-count // GROUP) - 1 - int(self.places[-1]))

    def last_group(self, data: NDArray[np.uint8], pages: Pages, offset: int, two_byte_lengths: bool) -> int | None:
        """Return the number of entries, by a walk from the last marker to its group's end.

        None if a byte of the last group is lost too, or if the group does not end where the markers begin.
        """
        if self.after or self.values[0] != 0:
            return None
        place, entries = offset + int(self.values[-1]), 0
        while entries < GROUP and place < self.offset and not is_padding(data, place, self.offset):
            head, length = entry_sizes(data[place : place + 2], two_byte_lengths)
            size = int(np.broadcast_to(head, 2)[0]) + int(length[0])
            if not length[0] or not pages.intact(np.array([place]), np.array([place + size]))[0]:
                return None
            place, entries = place + size, entries + 1
        return int(self.places[-1]) * GROUP + entries if is_padding(data, place, self.offset) else None


def markers_left(data: NDArray[np.uint8], pages: Pages, low: int, high: int, byte_order: str) -> list[PartialMarkers]:
    """Return runs of markers in ``data[low:high]``, some of whose pages are lost.

    Those of which most markers survive come first.
    """
    found: list[PartialMarkers] = []
    for width in (4, 8):
        words = np.frombuffer(data[low : low + (high - low) // width * width].tobytes(), f"{byte_order}u{width}")
        if len(words) < LEAST:
            continue
        starts = low + np.arange(len(words), dtype=np.int64) * width
        steps = words[1:] - words[:-1]
        rises = (steps >= 2 * GROUP) & (steps <= GROUP * MAX_ENTRY)
        there = pages.intact(starts, starts + width)
        if len(overwritten := _overwritten(_pieces(rises, there), words, pages.number(starts))):
            there = pages.without(overwritten).intact(starts, starts + width)
        pieces = _pieces(rises, there)
        found += [
            _gathered(run, words, there, low, width)
            for run in _runs(pieces, words, there)
            if int(words[run[-1][1] - 1]) < min(len(data), LARGEST)
        ]
    return sorted(found, key=lambda run: -len(run.values))[:MOST_RUNS]


def _pieces(rises: NDArray[np.bool_], there: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return start and end of neighbouring words that are all intact and rise."""
    fits = there[1:] & there[:-1] & rises
    edges = np.flatnonzero(np.diff(np.concatenate(([False], fits, [False])).astype(np.int8)))
    return [(int(a), int(b) + 1) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a + 1 >= LEAST]


def _overwritten(
    pieces: list[tuple[int, int]], words: NDArray[np.unsignedinteger], numbers: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the pages around long pieces that begin or end at page borders.

    These pages, before or behind the piece, are overwritten, because the markers do not continue on them.
    """
    found = []
    for first, end in pieces:
        if end - first < LONG:
            continue
        if first and words[first] != 0 and words[first - 1] != 0 and numbers[first - 1] != numbers[first]:
            found.append(numbers[first - 1])
        if end < len(words) and numbers[end] != numbers[end - 1]:
            found.append(numbers[end])
    return np.array(found, np.int64)


def _runs(
    pieces: list[tuple[int, int]], words: NDArray[np.unsignedinteger], there: NDArray[np.bool_]
) -> Iterator[list[tuple[int, int]]]:
    """Yield lists of pieces between which all words are lost.

    The words rise from one piece to the next as markers do.
    """
    run: list[tuple[int, int]] = []
    for piece in pieces:
        if run:
            end = run[-1][1]
            rise = int(words[piece[0]]) - int(words[end - 1])
            apart = piece[0] - end + 1
            if there[end : piece[0]].any() or not 2 * GROUP * apart <= rise <= WIDEST_GROUP * apart:
                yield run
                run = []
        run.append(piece)
    if run:
        yield run


def _gathered(
    run: list[tuple[int, int]], words: NDArray[np.unsignedinteger], there: NDArray[np.bool_], low: int, width: int
) -> PartialMarkers:
    first, last = run[0][0], run[-1][1]
    if words[first] != 0 and first and words[first - 1] == 0 and there[first - 1] and words[first] >= 2 * GROUP:
        # zero stands before the first survivor: it is the first marker, though no piece has a step of that size
        first -= 1
        run = [(first, run[0][1]), *run[1:]]
    places = np.concatenate([np.arange(a, b) for a, b in run])
    before = int(np.argmax(there[:first][::-1])) if there[:first].any() else first
    after = int(np.argmax(there[last:])) if there[last:].any() else len(there) - last
    return PartialMarkers(low + first * width, width, places - first, words[places].astype(np.int64), before, after)


def stream_starts(data: NDArray[np.uint8], pages: Pages, markers: PartialMarkers) -> Iterator[tuple[int, bool]]:
    """Yield the start of the stream for which most groups end at their next markers.

    With it comes whether lengths take two bytes. Nothing is yielded if too few groups agree.
    """
    values, places = markers.values, markers.places
    pairs = np.flatnonzero(np.diff(places) == 1)
    pairs = pairs[:: max(1, len(pairs) // VOTERS)]
    end = markers.offset - markers.before * markers.width * int(values[0] != 0)
    high = markers.offset - int(values[-1])
    low = max(0, end - int(values[-1]) - LIKELY_LAST_GROUP - MAX_PADDING - markers.after * WIDEST_GROUP)
    if high <= low or not len(pairs):
        return
    best: tuple[int, int, bool] | None = None
    region = data[low : markers.offset]
    for two_byte_lengths in (True, False):
        walked = landing(region, two_byte_lengths)
        votes = np.zeros(high - low, np.int32)
        for pair in pairs:
            here, there = int(values[pair]), int(values[pair + 1])
            starts = np.arange(here, here + high - low)
            votes += walked[np.minimum(starts, len(region))] - starts == there - here
        start = int(votes.argmax())
        if best is None or votes[start] > best[0]:
            best = (int(votes[start]), low + start, two_byte_lengths)
        if best[0] * 2 >= len(pairs):
            break
    if best is not None and best[0] >= max(LEAST_VOTES, len(pairs) // LEAST_SHARE):
        yield best[1], best[2]
