"""Find name streams of which some pages are lost: start, number of entries, and surviving markers.

The surviving markers are used first. If none survives, the count before the names is used, if addresses confirm it. If
the count is lost as well, the addresses alone are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

import numpy as np

from kallsift.errors import Step
from kallsift.kallsyms.damaged.address_table import PartialAddressTable, aligned_down, arrays_left, table_alignment
from kallsift.kallsyms.damaged.damage_context import WITHIN, DamageContext
from kallsift.kallsyms.damaged.markers import PartialMarkers, markers_left, stream_starts
from kallsift.kallsyms.damaged.page_map import Pages
from kallsift.kallsyms.damaged.seqs_of_names import Ranks, find_ranks
from kallsift.kallsyms.damaged.stream_by_count import ENTRY_SIZES, unmarked_streams
from kallsift.kallsyms.damaged.stream_layout import NameStreamLayout
from kallsift.kallsyms.damaged.stream_start import stream_begin
from kallsift.kallsyms.damaged.symbol_count import array_counts
from kallsift.kallsyms.format.markers import GROUP
from kallsift.kallsyms.format.name_stream import MAX_SYMBOLS
from kallsift.kallsyms.format.token_table import MAX_PADDING
from kallsift.kallsyms.recovered_tables import Attempt
from kallsift.kallsyms.solvers.adjacent import COUNT_SIZE, MARKERS_WITHIN

MARKER = 4
"""Bytes of a marker that are assumed if no marker survives: the size since 4.20 (commit 80ffbaa5b1bd)."""


def marked_streams(context: DamageContext, attempt: Attempt) -> Iterator[NameStreamLayout]:
    """Yield the name streams that enough of the markers' groups confirm."""
    segment, tokens, pages = context.segment, context.tokens, context.pages
    low = max(0, tokens.offset - MARKERS_WITHIN)
    low += -(segment.start + low) % 8
    for markers in markers_left(segment.data, pages, low, tokens.offset, tokens.byte_order):
        for offset, two_byte_lengths in stream_starts(segment.data, pages, markers):
            counted = _count(context, markers, offset, two_byte_lengths)
            found = [counted] if counted else _array_counts(context, markers, offset)
            for count, place in found:
                numbers = markers.numbers(count)
                if numbers is None:
                    continue
                first = markers.offset - int(numbers[0]) * markers.width
                stream = NameStreamLayout(
                    offset, count, place, two_byte_lengths, True, numbers, markers.values, markers.width, first
                )
                is_confirmed = stream if counted else _confirmed(context, stream)
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


def _array_counts(context: DamageContext, markers: PartialMarkers, offset: int) -> Iterator[tuple[int, None]]:
    """Yield the counts that the address array allows, each with None for its offset."""
    for size in context.word_sizes:
        for count in array_counts(context, offset, markers.counts, size):
            yield count, None


def counted_streams(context: DamageContext) -> Iterator[NameStreamLayout]:
    """Yield the name streams that only the count before them and other tables show."""
    low = max(0, context.tokens.offset - WITHIN)
    low += -(context.segment.start + low) % 4
    for place, offset, count in unmarked_streams(context, low):
        stream = _unmarked(offset, count, place, _unmarked_end(context, offset, count))
        if (is_confirmed := _confirmed(context, stream)) is not None:
            yield is_confirmed


def uncounted_streams(context: DamageContext) -> Iterator[NameStreamLayout]:
    """Yield the name stream whose number of entries only the addresses tell.

    The addresses behind the token index must allow exactly one number.
    """
    # the offset of the token table stands in for that of the names, which is unknown yet
    names = context.tokens.offset
    counts = range(GROUP, min(MAX_SYMBOLS, names // ENTRY_SIZES.start) + 1)
    counts_of_arrays = (array_counts(context, names, counts, size) for size in context.word_sizes)
    streams = (
        _unmarked(names, count, None, _unmarked_end(context, names, count))
        for count in dict.fromkeys(chain.from_iterable(counts_of_arrays))
    )
    found = [stream for stream in streams if _confirmed(context, stream) is not None]
    if len(found) != 1:
        return
    stream = found[0]
    offset = stream_begin(context, stream.end, stream.count)
    if offset is not None:
        yield replace(stream, offset=offset)


def _unmarked_end(context: DamageContext, names: int, count: int) -> int:
    """Return the offset of the lost markers, if they touch the token table."""
    segment, tokens = context.segment, context.tokens
    alignment = table_alignment(segment, tokens, names, context.word_sizes[0])
    return aligned_down(segment.start, tokens.offset - -(-count // GROUP) * MARKER, alignment)


def _unmarked(offset: int, count: int, count_offset: int | None, end: int) -> NameStreamLayout:
    nothing = np.empty(0, np.int64)
    return NameStreamLayout(offset, count, count_offset, True, False, nothing, nothing, MARKER, end)


def _confirmed(context: DamageContext, stream: NameStreamLayout) -> NameStreamLayout | None:
    """Return the stream if an array of addresses confirms its count, else None.

    This is cheaper than to read the names.
    """
    for size in context.word_sizes:
        for left in arrays_left(context, stream, size):
            if not confirms_count(context, stream, left):
                continue
            ranks = ranks_left(context, stream, left)
            if stream.marked or left.newer or ranks is None:
                return stream
            alignment = table_alignment(context.segment, context.tokens, stream.offset, size)
            first = ranks.offset - stream.markers * stream.width
            return replace(stream, end=aligned_down(context.segment.start, first, alignment))
    return None


def confirms_count(context: DamageContext, stream: NameStreamLayout, left: PartialAddressTable) -> bool:
    """Tell whether an array and a permutation confirm the number of entries.

    They confirm it if all their pages that are not blank are in order. If a count stands before the names, other pages
    may be out of order, because hardly any wrong count leaves half a permutation. Without a permutation an array
    confirms the count only if the array ends before the count: an array that begins at a known place could end
    anywhere.
    """
    if np.count_nonzero(left.known) * 2 < stream.count:
        return False
    ranks = ranks_left(context, stream, left)
    if ranks is None:
        return not len(left.overwritten) and not left.newer and stream.count_offset is not None
    if stream.count_offset is not None:
        return ranks.known * 2 >= stream.count
    return not len(left.overwritten) and not ranks.inconsistent


def _count(
    context: DamageContext, markers: PartialMarkers, offset: int, two_byte_lengths: bool
) -> tuple[int, int | None] | None:
    """Return the number of entries and the offset of the word that holds it.

    None if the number cannot be told; the offset is None if the word is lost.
    """
    data, pages, byte_order = context.data, context.pages, context.tokens.byte_order
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


def ranks_left(context: DamageContext, stream: NameStreamLayout, left: PartialAddressTable) -> Ranks | None:
    """Return the surviving part of seqs_of_names, or None.

    It is read where the release puts it that has the other tables in this order.
    """
    segment, tokens = context.segment, context.tokens
    if left.newer:
        places = [left.after]
    elif stream.marked:
        places = [stream.markers_end]
    else:
        alignment = table_alignment(segment, tokens, stream.offset, left.word_size)
        places = [aligned_down(segment.start, tokens.offset - stream.count * size, alignment) for size in (3, 4)]
    found = (find_ranks(segment.data, context.pages, place, stream.count, tokens.byte_order) for place in places)
    return next((ranks for ranks in found if ranks is not None), None)
