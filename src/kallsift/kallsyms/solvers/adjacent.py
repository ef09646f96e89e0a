"""Find tables that lie as every release so far puts them: each table touches another one.

A chain of generators works on candidates: each generator extends a candidate, or drops it where its equation fails. If
nothing is found, `kallsift.kallsyms.solvers.scattered` looks for the tables in any order and at any distance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import Step
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kallsyms.format.address_encodings import AddressArray
from kallsift.kallsyms.format.address_table import find_arrays
from kallsift.kallsyms.format.markers import Markers, find_markers
from kallsift.kallsyms.format.name_codes import compression_check
from kallsift.kallsyms.format.name_stream import (
    GROUPS_TRIED,
    LIKELY_LAST_GROUP,
    Names,
    expand,
    find_num_syms,
    find_streams,
    is_padding,
)
from kallsift.kallsyms.format.seqs_of_names import Sequences, find_sequences, names_out_of_order, sorted_by_name
from kallsift.kallsyms.format.token_table import INDEX_SIZE, MAX_PADDING, TokenTable
from kallsift.kallsyms.recovered_tables import Attempt, TableExtent, Tables, in_order
from kallsift.memory.segments import BytesSegment

MARKERS_WITHIN = 2 << 20
"""Highest distance in bytes between the markers' start and the token table: seqs_of_names lies between them in 6.1 to
6.3."""

TYPE_LETTERS = np.frombuffer(b"ABDRTVWabdrtvw?GgSsNnCcIiUu-", np.uint8)
"""Letters that nm prints; each entry begins with one of them."""

STREAM_PASSES = 24
"""Number of passes over all bytes in which a stream of names can begin, for the budget."""

COUNT_SIZE = 4
"""Bytes of num_syms that are read: it is as wide as a word up to 4.19, but no kernel needs more than 32 bits."""

PAGE = 4096


@dataclass(frozen=True, eq=False)
class _Listing:
    """Names that are proved, and the extents of their tables."""

    names: Names
    rows: tuple[TableExtent, ...]
    num_syms: Check
    markers: Check


def recover_tables(
    segment: BytesSegment,
    tokens: TokenTable,
    word_sizes: Sequence[int],
    attempt: Attempt,
    markers: Sequence[Markers] | None = None,
) -> Iterator[Tables]:
    """Yield all ways in which tables around a token table agree; mostly one.

    Args:
        segment: the memory with the token table.
        tokens: the proved token table.
        word_sizes: sizes of an address in bytes, in the order in which they are tried.
        attempt: the record of the furthest step that was reached.
        markers: the markers of the names, where there is no token table; None to look for them before it.
    """
    here = _here(segment, tokens)
    if tokens.stored:
        attempt.reached(1, Step.NAMES, f"{here}, but no markers near it fit a name stream")
    for listing in _listings(segment, tokens, attempt, markers):
        count = len(listing.names.starts)
        expanded = expand_checked(segment, tokens, listing.names, attempt)
        if expanded is None:
            continue
        characters, bounds, letters = expanded
        attempt.reached(
            3, Step.ADDRESSES, f"{here} with {count} names, but no array of {count} addresses in order near it"
        )
        with ThreadPoolExecutor() as threads:
            checked = threads.submit(compression_check, segment.data, listing.names, tokens)
            arrays = [entry for size in word_sizes for entry in _address_arrays(segment, tokens, listing, size)]
            codes = checked.result()
        # arrays whose base was read come first, then those that lie closest to a table
        arrays.sort(key=lambda entry: entry[:2])
        by_name: dict[int | None, Check] = {}
        for _, _, word_size, array in arrays:
            if (blank := blank_page(segment, array.offset, array.size)) is not None:
                attempt.reached(3, Step.ADDRESSES, f"{here} with {count} names, but the page at {blank:#x} is blank")
                continue
            rows = in_order(*listing.rows, *token_rows(tokens), *array_rows(array, word_size))
            sequences = find_sequences(segment.data, [row.end for row in rows], count, tokens.byte_order)
            # most arrays have the same permutation, so it is checked once
            place = None if sequences is None else sequences.offset
            if place not in by_name:
                by_name[place] = sequences_check(sequences, characters, bounds)
            checks = (index_check(tokens), listing.markers, listing.num_syms, letters, codes)
            yield Tables(
                segment, word_size, tokens.byte_order, in_order(*rows, *sequences_rows(sequences)), array, characters,
                bounds, (*checks, order_check(array), by_name[place]),
            )  # fmt: skip


def order_check(array: AddressArray) -> Check:
    """Return the check of the address array, which its search has proved."""
    detail = f"{len(array.words)} entries never decrease as {array.encoding.name}"
    return Check.that(CheckId.ADDRESS_ORDER, True, detail)


def sequences_rows(sequences: Sequences | None) -> tuple[TableExtent, ...]:
    """Return the extent of the permutation, if there is one."""
    return () if sequences is None else (TableExtent("seqs_of_names", sequences.offset, sequences.size),)


def token_rows(tokens: TokenTable) -> tuple[TableExtent, ...]:
    """Return the extents of the token table and its index."""
    if not tokens.stored:
        return ()
    table = TableExtent("token_table", tokens.offset, tokens.size)
    if tokens.index_offset is None:
        return (table,)
    return table, TableExtent("token_index", tokens.index_offset, INDEX_SIZE)


def array_rows(array: AddressArray, word_size: int) -> tuple[TableExtent, ...]:
    """Return the extents of the array and its base."""
    row = TableExtent("addresses" if array.encoding.name == "absolute" else "offsets", array.offset, array.size)
    if array.relative_base_offset is None:
        return (row,)
    return row, TableExtent("relative_base", array.relative_base_offset, word_size)


def aligned_starts(rows: Sequence[TableExtent]) -> list[int]:
    """Return the offsets of the tables whose start the assembler aligned.

    That leaves out num_syms, which may be the end of a wider word.
    """
    return [row.offset for row in rows if row.name != "num_syms"]


def index_check(tokens: TokenTable) -> Check:
    """Return the check of the token table, which its index has proved."""
    if not tokens.stored:
        return Check(CheckId.TOKEN_INDEX, Outcome.ABSENT, "the names are not compressed")
    return Check.that(CheckId.TOKEN_INDEX, True, f"256 offsets equal the starts of 256 strings ({tokens.size} bytes)")


def markers_check(markers: Markers) -> Check:
    """Return the check of the name stream, which its markers have proved."""
    return Check.that(
        CheckId.MARKERS,
        True,
        f"all {len(markers.values)} markers ({markers.width} bytes each) are the offsets of every 256th entry",
    )


def expand_checked(
    segment: BytesSegment, tokens: TokenTable, names: Names, attempt: Attempt, least: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.int64], Check] | None:
    """Return the characters, the bounds and the check of the type letters of a stream.

    None if an entry lacks its letter or its name. With ``least``, the entries before the first such one are returned,
    if there are at least so many.
    """
    characters, bounds = expand(segment.data, names, tokens)
    letters = np.isin(characters[np.minimum(bounds[:-1], len(characters) - 1)], TYPE_LETTERS)
    wrong = np.flatnonzero((np.diff(bounds) < 2) | ~letters)
    count = int(wrong[0]) if len(wrong) else len(letters)
    if count < (len(letters) if least is None else least):
        here = _here(segment, tokens)
        attempt.reached(2, Step.NAMES, f"{here}: {len(wrong)} names start with no type letter")
        return None
    check = Check.that(CheckId.TYPE_LETTERS, True, f"all {count} entries start with a letter of nm")
    return characters[: bounds[count]], bounds[: count + 1], check


def _here(segment: BytesSegment, tokens: TokenTable) -> str:
    """Return the beginning of messages about these tables."""
    place = segment.start + tokens.offset
    return f"{'token table' if tokens.stored else 'end of the markers of plain names'} at {place:#x}"


def _listings(
    segment: BytesSegment, tokens: TokenTable, attempt: Attempt, candidates: Sequence[Markers] | None
) -> Iterator[_Listing]:
    """Yield name streams that touch markers before the token table.

    Each stream comes with its markers and its count.
    """
    data = segment.data
    here = _here(segment, tokens)
    high = tokens.offset - (segment.start + tokens.offset) % 8 + 8
    low = high - min(high // 8 * 8, MARKERS_WITHIN)
    for markers in find_markers(data, low, high, tokens.byte_order) if candidates is None else candidates:
        # the stream ends where the markers begin; the size of its last group is unknown
        last_start = markers.offset - int(markers.values[-1])
        first = max(0, last_start - LIKELY_LAST_GROUP - MAX_PADDING)
        room = last_start - first + int(markers.values[min(len(markers.values) - 1, GROUPS_TRIED)])
        if not attempt.can_afford("markers", STREAM_PASSES * max(0, room)):
            continue
        found: list[_Listing] = []
        for stream in find_streams(data, [markers], first, last_start):
            for count in stream.counts():
                names = stream.counted(count)
                if not is_padding(data, names.end, markers.offset):
                    continue
                rows = [
                    TableExtent("names", names.offset, names.size),
                    TableExtent("markers", markers.offset, markers.size),
                ]
                if (place := find_num_syms(data, names.offset, count, tokens.byte_order)) is not None:
                    rows.append(TableExtent("num_syms", place, COUNT_SIZE))
                    num_syms = Check.that(CheckId.NUM_SYMS, True, f"the count {count} stands before the names")
                elif tokens.stored and is_padding(data, max(0, names.offset - 8), names.offset):
                    num_syms = Check(CheckId.NUM_SYMS, Outcome.ABSENT, "nothing but zeros stands before the names")
                else:
                    message = f"{here}, but what stands before the {count} names is not their count"
                    attempt.reached(2, Step.NAMES, message)
                    continue
                found.append(_Listing(names, tuple(rows), num_syms, markers_check(markers)))
        # streams that two equations prove come first: one that begins inside the names can touch the markers by chance
        yield from sorted(found, key=lambda listing: listing.num_syms.outcome is not Outcome.PASSED)


def _address_arrays(
    segment: BytesSegment, tokens: TokenTable, listing: _Listing, word_size: int
) -> Iterator[tuple[bool, int, int, AddressArray]]:
    """Yield arrays that fit and touch a table.

    They lie behind the token index (6.4 and later) or before the names (earlier).

    Yields:
        Whether the array's base is lost, the gap between the array and the table, the word size, and the array.
    """
    data, count = segment.data, len(listing.names.starts)
    rows = (*listing.rows, *token_rows(tokens))
    room = count * word_size + 2 * MAX_PADDING + 16

    def gap(array: AddressArray) -> int | None:
        """Return the padding between the array and the nearest table that it touches.

        None if it touches none, or overlaps one.
        """
        last = array_rows(array, word_size)[-1].end
        if any(array.offset < row.end and row.offset < last for row in rows):
            return None
        gaps = [array.offset - row.end for row in rows if is_padding(data, row.end, array.offset)]
        gaps += [row.offset - last for row in rows if is_padding(data, last, row.offset)]
        return min(gaps, default=None)

    behind, before = tokens.end, listing.names.offset
    arrays: list[AddressArray] = []
    words, starts = (word_size, tokens.byte_order), aligned_starts(rows)
    for low, high in ((behind, behind + room), (before - room, before)):
        low = max(low - (segment.start + low) % word_size, 0)
        arrays += find_arrays(data, low, high, count, words, starts)
    for array in arrays:
        if (distance := gap(array)) is not None:
            yield array.needs_base, distance, word_size, array


def blank_page(segment: BytesSegment, offset: int, size: int) -> int | None:
    """Return the address of the first page of zeros in a table; None if there is none.

    A page that a dump lacks is often filled with zeros, and leading zeros are in order under most encodings.
    """
    for page in range(max(0, offset - (segment.start + offset) % PAGE), offset + size, PAGE):
        if not segment.data[page : page + PAGE].any():
            return segment.start + page
    return None


def sequences_check(sequences: Sequences | None, characters: NDArray[np.uint8], bounds: NDArray[np.int64]) -> Check:
    """Check that the permutation sorts the names."""
    if sequences is None:
        return Check(CheckId.SEQS_OF_NAMES, Outcome.ABSENT, "no permutation follows a table (normal up to 6.1.41)")
    if sorted_by_name(sequences.order, characters, bounds):
        text = f"a permutation of all {len(sequences.order)} symbols ({sequences.entry_size} bytes each)"
        return Check.that(CheckId.SEQS_OF_NAMES, True, f"{text} that sorts them by name")
    falls = names_out_of_order(sequences.order, characters, bounds)
    pairs = "pair of neighbours is" if len(falls) == 1 else "pairs of neighbours are"
    detail = f"{len(falls)} {pairs} in the wrong order among {len(sequences.order)} sorted names: {falls[0]}"
    return Check.that(CheckId.SEQS_OF_NAMES, False, detail, is_quoted=True)
