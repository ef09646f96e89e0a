"""Find name streams of which some pages are lost: start, number of entries, and surviving markers.

The surviving markers are used first. If none survives, the count before the names is used, if addresses confirm it. If
the count is lost as well, the addresses alone are used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import Step
from kallsift.kallsyms.damaged.address_table import PartialAddressTable, aligned_down, arrays_left, table_alignment
from kallsift.kallsyms.damaged.markers import PartialMarkers, markers_left, stream_starts
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
from kallsift.memory.memory import BytesSegment

WITHIN = 16 << 20
"""Highest distance of another table from the token table, in bytes."""

MARKER = 4
"""Bytes of a marker that are assumed if no marker survives: the size since 4.20 (commit 80ffbaa5b1bd)."""


@dataclass(frozen=True, eq=False)
class NameStreamLayout:
    """The extent of a damaged name stream, its number of entries, and its surviving markers.

    Attributes:
        offset: offset of the first entry, or, if nothing tells that, of the lost page that it lies on.
        count: number of entries.
        count_offset: offset of the word with the count; None if it is lost.
        two_byte_lengths: whether a length may take two bytes.
        marked: whether any marker survives.
        numbers: numbers of the surviving markers, shape (k,).
        values: those markers, shape (k,).
        width: bytes of a marker.
        end: offset at which the markers begin; if none survives, the offset at which they would begin if nothing lay
            between them and the token table.
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
        """Highest possible size of the stream in bytes."""
        return self.end - self.offset

    @property
    def markers(self) -> int:
        """Number of markers, lost ones included."""
        return -(-self.count // GROUP)

    @property
    def markers_end(self) -> int:
        """Offset behind the markers."""
        return self.end + self.markers * self.width


def marked_streams(
    segment: BytesSegment, tokens: TokenTable, word_sizes: Sequence[int], pages: Pages, attempt: Attempt
) -> Iterator[NameStreamLayout]:
    """Yield the name streams that enough of the markers' groups confirm."""
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
                stream = NameStreamLayout(
                    offset, count, place, two_byte_lengths, True, numbers, markers.values, markers.width, first
                )
                is_confirmed = stream if counted else _confirmed(segment, tokens, word_sizes, pages, stream)
                if is_confirmed is not None:
                    yield is_confirmed
                    break
            else:
                if counted is None and _first_page_lost(pages, offset):
                    message = f"the names begin at {segment.start + offset:#x}, but how many there are is lost"
                    attempt.reached(2, Step.NUM_SYMS, message)
                    attempt.damaged = True


def _first_page_lost(pages: Pages, names: int) -> bool:
    """Tell whether the page with the count before the names is lost."""
    return not bool(pages.intact(np.array([names - COUNT_SIZE]), np.array([names]))[0])


def _array_counts(
    segment: BytesSegment,
    tokens: TokenTable,
    word_sizes: Sequence[int],
    pages: Pages,
    markers: PartialMarkers,
    offset: int,
) -> Iterator[tuple[int, None]]:
    """Yield the counts that the address array allows, each with None for its offset."""
    for size in word_sizes:
        for count in array_counts(segment, pages, tokens, offset, markers.counts, size):
            yield count, None


def counted_streams(
    segment: BytesSegment,
    tokens: TokenTable,
    word_sizes: Sequence[int],
    pages: Pages,
    firsts: NDArray[np.uint8],
    letters: NDArray[np.bool_],
) -> Iterator[NameStreamLayout]:
    """Yield the name streams that only the count before them and other tables show."""
    low = max(0, tokens.offset - WITHIN)
    low += -(segment.start + low) % 4
    for place, offset, count in unmarked_streams(
        segment.data, pages, low, tokens.offset, tokens.byte_order, firsts, letters
    ):
        end = _unmarked_end(segment, tokens, offset, count, word_sizes[0])
        stream = _unmarked(offset, count, place, end)
        if (is_confirmed := _confirmed(segment, tokens, word_sizes, pages, stream)) is not None:
            yield is_confirmed


def uncounted_streams(
    segment: BytesSegment,
    tokens: TokenTable,
    word_sizes: Sequence[int],
    pages: Pages,
    firsts: NDArray[np.uint8],
    letters: NDArray[np.bool_],
) -> Iterator[NameStreamLayout]:
    """Yield the name stream whose number of entries only the addresses tell.

    The addresses behind the token index must allow exactly one number.
    """
    counts = range(GROUP, min(MAX_SYMBOLS, tokens.offset // ENTRY_SIZES.start) + 1)
    counts_of_arrays = (array_counts(segment, pages, tokens, tokens.offset, counts, size) for size in word_sizes)
    # the offset of the token table stands in for that of the names, which is unknown yet
    streams = (
        _unmarked(tokens.offset, count, None, _unmarked_end(segment, tokens, tokens.offset, count, word_sizes[0]))
        for count in dict.fromkeys(chain.from_iterable(counts_of_arrays))
    )
    found = [stream for stream in streams if _confirmed(segment, tokens, word_sizes, pages, stream) is not None]
    if len(found) != 1:
        return
    stream = found[0]
    offset = stream_begin(segment.data, pages, stream.end, stream.count, firsts, letters)
    if offset is not None:
        yield replace(stream, offset=offset)


def _unmarked_end(segment: BytesSegment, tokens: TokenTable, names: int, count: int, word_size: int) -> int:
    """Return the offset of the lost markers, if they touch the token table."""
    alignment = table_alignment(segment, tokens, names, word_size)
    return aligned_down(segment.start, tokens.offset - -(-count // GROUP) * MARKER, alignment)


def _unmarked(offset: int, count: int, count_offset: int | None, end: int) -> NameStreamLayout:
    nothing = np.empty(0, np.int64)
    return NameStreamLayout(offset, count, count_offset, True, False, nothing, nothing, MARKER, end)


def _confirmed(
    segment: BytesSegment, tokens: TokenTable, word_sizes: Sequence[int], pages: Pages, stream: NameStreamLayout
) -> NameStreamLayout | None:
    """Return the stream if an array of addresses confirms its count, else None.

    This is cheaper than to read the names.
    """
    for size in word_sizes:
        for left in arrays_left(segment, pages, tokens, stream.offset, stream.count, stream.count_offset, size):
            if not confirms_count(segment, tokens, pages, stream, left):
                continue
            ranks = ranks_left(segment, tokens, pages, stream, left)
            if stream.marked or left.newer or ranks is None:
                return stream
            alignment = table_alignment(segment, tokens, stream.offset, size)
            first = ranks.offset - stream.markers * stream.width
            return replace(stream, end=aligned_down(segment.start, first, alignment))
    return None


def confirms_count(
    segment: BytesSegment, tokens: TokenTable, pages: Pages, stream: NameStreamLayout, left: PartialAddressTable
) -> bool:
    """Tell whether an array and a permutation confirm the number of entries.

    They confirm it if all their pages that are not blank are in order. If a count stands before the names, other pages
    may be out of order, because hardly any wrong count leaves half a permutation. Without a permutation an array
    confirms the count only if the array ends before the count: an array that begins at a known place could end
    anywhere.
    """
    if np.count_nonzero(left.known) * 2 < stream.count:
        return False
    ranks = ranks_left(segment, tokens, pages, stream, left)
    if ranks is None:
        return not len(left.overwritten) and not left.newer and stream.count_offset is not None
    if stream.count_offset is not None:
        return ranks.known * 2 >= stream.count
    return not len(left.overwritten) and not ranks.inconsistent


def _count(
    data: NDArray[np.uint8], pages: Pages, markers: PartialMarkers, offset: int, two_byte_lengths: bool, byte_order: str
) -> tuple[int, int | None] | None:
    """Return the number of entries and the offset of the word that holds it.

    None if the number cannot be told; the offset is None if the word is lost.
    """
    counts = markers.counts
    for place in range(offset - COUNT_SIZE, max(-1, offset - MAX_PADDING - COUNT_SIZE), -4):
        if not pages.intact(np.array([place]), np.array([place + 4]))[0]:
            break
        value = int(np.frombuffer(data[place : place + COUNT_SIZE].tobytes(), f"{byte_order}u4")[0])
        if value in counts:
            return value, place
        if value:
            break
    # the count is lost or overwritten, but the last group ends where the markers begin
    last = markers.last_group(data, pages, offset, two_byte_lengths)
    return None if last is None else (last, None)


def ranks_left(
    segment: BytesSegment, tokens: TokenTable, pages: Pages, stream: NameStreamLayout, left: PartialAddressTable
) -> Ranks | None:
    """Return the surviving part of seqs_of_names, or None.

    It is read where the release puts it that has the other tables in this order.
    """
    if left.newer:
        places = [left.after]
    elif stream.marked:
        places = [stream.markers_end]
    else:
        alignment = table_alignment(segment, tokens, stream.offset, left.word_size)
        places = [aligned_down(segment.start, tokens.offset - stream.count * size, alignment) for size in (3, 4)]
    found = (find_ranks(segment.data, pages, place, stream.count, tokens.byte_order) for place in places)
    return next((ranks for ranks in found if ranks is not None), None)
