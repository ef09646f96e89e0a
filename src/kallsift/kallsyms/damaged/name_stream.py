"""Name streams some of whose pages are lost: where they begin, how many entries they have, and what markers are left.

The markers that survive are asked first; where none does, the count before the names is, if addresses bear it out; and
where that is lost as well, the addresses themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import Step
from kallsift.kallsyms.damaged.address_table import Left, aligned_down, arrays_left, table_alignment
from kallsift.kallsyms.damaged.markers import MarkersLeft, markers_left, stream_starts
from kallsift.kallsyms.damaged.page_map import Pages
from kallsift.kallsyms.damaged.stream_by_count import ENTRY_SIZES, unmarked_streams
from kallsift.kallsyms.damaged.stream_start import stream_begin
from kallsift.kallsyms.damaged.symbol_count import array_counts
from kallsift.kallsyms.format.markers import GROUP
from kallsift.kallsyms.format.name_stream import MAX_SYMBOLS
from kallsift.kallsyms.format.seqs_of_names import Ranks, find_ranks
from kallsift.kallsyms.format.token_table import MAX_PADDING, TokenTable
from kallsift.kallsyms.recovered_tables import Attempt
from kallsift.kallsyms.solvers.adjacent import COUNT_SIZE, MARKERS_WITHIN
from kallsift.memory.memory import Segment

WITHIN = 16 << 20
"""How far from the token table another table lies at most, in bytes."""

MARKER = 4
"""Bytes of a marker, where none is left to show it: as many since 4.20 (commit 80ffbaa5b1bd)."""


@dataclass(frozen=True, eq=False)
class StreamLeft:
    """Where the names begin, how many there are, and what is known of their markers.

    Attributes:
        offset: of the first entry, or, if nothing tells that, of the lost page that it lies on.
        count: entries.
        count_offset: where that stands; None if it is lost.
        two_byte_lengths: whether a length may take two bytes.
        marked: whether any marker survives.
        numbers: of the markers that do, shape (k,).
        values: those markers, shape (k,).
        width: bytes of a marker.
        end: where the markers begin, or, if none survives, would if nothing lay between them and the token table.
    """

    offset: int
    count: int
    count_offset: int | None
    two_byte_lengths: bool
    marked: bool
    numbers: NDArray[np.int64]
    values: NDArray[np.int64]
    width: int
    end: int

    @property
    def size(self) -> int:
        """Bytes of the stream at most."""
        return self.end - self.offset

    @property
    def markers(self) -> int:
        """How many markers there are, lost ones included."""
        return -(-self.count // GROUP)

    @property
    def markers_end(self) -> int:
        """Offset behind the markers."""
        return self.end + self.markers * self.width


def marked_streams(
    segment: Segment, tokens: TokenTable, word_sizes: Sequence[int], pages: Pages, attempt: Attempt
) -> Iterator[StreamLeft]:
    """Name streams for which enough of the markers' groups speak."""
    low = max(0, tokens.offset - MARKERS_WITHIN)
    low += -(segment.start + low) % 8
    for markers in markers_left(segment.data, pages, low, tokens.offset, tokens.byte_order):
        for offset, two_byte_lengths in stream_starts(segment.data, pages, markers):
            counted = _count(segment.data, pages, markers, offset, two_byte_lengths, tokens.byte_order)
            found = [counted] if counted else _array_counts(segment, tokens, word_sizes, pages, markers, offset)
            for count, place in found:
                numbers = markers.numbers(count)
                if numbers is None:
                    continue
                first = markers.offset - int(numbers[0]) * markers.width
                stream = StreamLeft(
                    offset, count, place, two_byte_lengths, True, numbers, markers.values, markers.width, first
                )
                borne_out = stream if counted else _borne_out(segment, tokens, word_sizes, pages, stream)
                if borne_out is not None:
                    yield borne_out
                    break
            else:
                if counted is None and _first_page_lost(pages, offset):
                    message = f"the names begin at {segment.start + offset:#x}, but how many there are is lost"
                    attempt.reached(2, Step.NUM_SYMS, message)
                    attempt.damaged = True


def _first_page_lost(pages: Pages, names: int) -> bool:
    """Whether the page is lost that the count before the names stands on."""
    return not bool(pages.intact(np.array([names - COUNT_SIZE]), np.array([names]))[0])


def _array_counts(
    segment: Segment, tokens: TokenTable, word_sizes: Sequence[int], pages: Pages, markers: MarkersLeft, offset: int
) -> Iterator[tuple[int, None]]:
    """Counts that the address array says, nowhere else written."""
    for size in word_sizes:
        for count in array_counts(segment, pages, tokens, offset, markers.counts, size):
            yield count, None


def counted_streams(
    segment: Segment,
    tokens: TokenTable,
    word_sizes: Sequence[int],
    pages: Pages,
    firsts: NDArray[np.uint8],
    letters: NDArray[np.bool_],
) -> Iterator[StreamLeft]:
    """Name streams for which nothing speaks but the count before them."""
    low = max(0, tokens.offset - WITHIN)
    low += -(segment.start + low) % 4
    for place, offset, count in unmarked_streams(
        segment.data, pages, low, tokens.offset, tokens.byte_order, firsts, letters
    ):
        end = _unmarked_end(segment, tokens, offset, count, word_sizes[0])
        stream = _unmarked(offset, count, place, end)
        if (borne_out := _borne_out(segment, tokens, word_sizes, pages, stream)) is not None:
            yield borne_out


def uncounted_streams(
    segment: Segment,
    tokens: TokenTable,
    word_sizes: Sequence[int],
    pages: Pages,
    firsts: NDArray[np.uint8],
    letters: NDArray[np.bool_],
) -> Iterator[StreamLeft]:
    """The name stream of as many entries as the addresses behind the token index, where only one number fits these."""
    counts = range(GROUP, min(MAX_SYMBOLS, tokens.offset // ENTRY_SIZES.start) + 1)
    told = (array_counts(segment, pages, tokens, tokens.offset, counts, size) for size in word_sizes)
    # the token table stands for the names, whose place is unknown yet
    streams = (
        _unmarked(tokens.offset, count, None, _unmarked_end(segment, tokens, tokens.offset, count, word_sizes[0]))
        for count in dict.fromkeys(chain.from_iterable(told))
    )
    found = [stream for stream in streams if _borne_out(segment, tokens, word_sizes, pages, stream) is not None]
    if len(found) != 1:
        return
    stream = found[0]
    offset = stream_begin(segment.data, pages, stream.end, stream.count, firsts, letters)
    if offset is not None:
        yield replace(stream, offset=offset)


def _unmarked_end(segment: Segment, tokens: TokenTable, names: int, count: int, word_size: int) -> int:
    """Where the lost markers begin if nothing lies between them and the token table."""
    alignment = table_alignment(segment, tokens, names, word_size)
    return aligned_down(segment.start, tokens.offset - -(-count // GROUP) * MARKER, alignment)


def _unmarked(offset: int, count: int, count_offset: int | None, end: int) -> StreamLeft:
    nothing = np.empty(0, np.int64)
    return StreamLeft(offset, count, count_offset, True, False, nothing, nothing, MARKER, end)


def _borne_out(
    segment: Segment, tokens: TokenTable, word_sizes: Sequence[int], pages: Pages, stream: StreamLeft
) -> StreamLeft | None:
    """The stream if an array bears its count out, which is cheaper to see than to read the names; else None."""
    for size in word_sizes:
        for left in arrays_left(segment, pages, tokens, stream.offset, stream.count, stream.count_offset, size):
            if not bears_out(segment, tokens, pages, stream, left):
                continue
            ranks = ranks_left(segment, tokens, pages, stream, left)
            if stream.marked or left.newer or ranks is None:
                return stream
            alignment = table_alignment(segment, tokens, stream.offset, size)
            first = ranks.offset - stream.markers * stream.width
            return replace(stream, end=aligned_down(segment.start, first, alignment))
    return None


def bears_out(segment: Segment, tokens: TokenTable, pages: Pages, stream: StreamLeft, left: Left) -> bool:
    """Whether nothing but blank pages is amiss in an array of as many entries, and in the permutation of as many.

    If a count stands before the names, other pages may be amiss, for next to no other count leaves half a permutation.
    Without a permutation an array bears the count out only where it ends before it: one that begins at a known place
    could end anywhere.
    """
    if np.count_nonzero(left.known) * 2 < stream.count:
        return False
    ranks = ranks_left(segment, tokens, pages, stream, left)
    if ranks is None:
        return not len(left.strange) and not left.newer and stream.count_offset is not None
    if stream.count_offset is not None:
        return ranks.known * 2 >= stream.count
    return not len(left.strange) and not ranks.strange


def _count(
    data: NDArray[np.uint8], pages: Pages, markers: MarkersLeft, offset: int, two_byte_lengths: bool, byte_order: str
) -> tuple[int, int | None] | None:
    """How many entries there are, and where that stands, if it still does."""
    counts = markers.counts
    for place in range(offset - COUNT_SIZE, max(-1, offset - MAX_PADDING - COUNT_SIZE), -4):
        if not pages.intact(np.array([place]), np.array([place + 4]))[0]:
            break
        value = int(np.frombuffer(data[place : place + COUNT_SIZE].tobytes(), f"{byte_order}u4")[0])
        if value in counts:
            return value, place
        if value:
            break
    # the count is lost, or something else is there: the last group ends where the markers begin
    last = markers.last_group(data, pages, offset, two_byte_lengths)
    return None if last is None else (last, None)


def ranks_left(segment: Segment, tokens: TokenTable, pages: Pages, stream: StreamLeft, left: Left) -> Ranks | None:
    """What is left of seqs_of_names where the release that has the other tables so puts it."""
    if left.newer:
        places = [left.after]
    elif stream.marked:
        places = [stream.markers_end]
    else:
        alignment = table_alignment(segment, tokens, stream.offset, left.word_size)
        places = [aligned_down(segment.start, tokens.offset - stream.count * size, alignment) for size in (3, 4)]
    found = (find_ranks(segment.data, pages, place, stream.count, tokens.byte_order) for place in places)
    return next((ranks for ranks in found if ranks is not None), None)
