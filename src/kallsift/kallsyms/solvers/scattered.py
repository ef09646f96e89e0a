"""Find tables in any order, at any distance from each other, between any neighbours.

Only one thing is assumed of the location of a table: it lies within `WITHIN` bytes of the token table. What
`kallsift.kallsyms.solvers.adjacent` takes from adjacency must follow from the tables themselves here: the count is a
word that some table of the right size confirms, and an array ends where its order does. This is slower, so it is tried
last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from heapq import merge

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import Step
from kallsift.kallsyms.evidence import Check, CheckId
from kallsift.kallsyms.format.address_table import AddressArray, Run, find_runs, windows, with_bases
from kallsift.kallsyms.format.markers import find_markers
from kallsift.kallsyms.format.name_codes import compression_check
from kallsift.kallsyms.format.name_stream import MAX_STARTS, Names, Stream, find_streams
from kallsift.kallsyms.format.seqs_of_names import Sequences, scan_sequences, sorted_by_name
from kallsift.kallsyms.format.token_table import TokenTable
from kallsift.kallsyms.recovered_tables import Attempt, Layout, Listed, TableExtent, Tables
from kallsift.kallsyms.solvers.adjacent import (
    COUNT_SIZE,
    aligned_starts,
    array_rows,
    assemble,
    blank_page,
    expand_checked,
    index_check,
    markers_check,
    order_check,
    sequences_check,
    sequences_rows,
    token_rows,
)
from kallsift.kallsyms.solvers.other_tables import OtherTables, other_tables
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.memory.memory import BytesSegment

WITHIN = 16 << 20
"""Highest distance of another table from the token table, in bytes."""

LEAST_MARKERS = 3
"""Lowest number of markers: fewer fit too many streams by chance where nothing says where to look."""

MAX_RUNS = 16
"""Highest number of runs of words that are followed as markers, the longest first."""

BLOCK = 4 << 20
"""Bytes in which the starts of streams are searched at once."""


@dataclass(frozen=True, eq=False)
class _Listing:
    """Names whose number stands as a word in memory.

    Attributes:
        names: the stream.
        ends: whether it is known that there are no more names.
        counts: offsets of the words that hold the count, those nearest to the names first.
        sequences: the permutation that sorts the names, if there is one.
        characters: type letters and names end to end.
        bounds: start of each symbol in ``characters``, and the end of the last one.
        letters: the check of the type letters.
    """

    names: Names
    ends: bool
    counts: NDArray[np.int64]
    sequences: Sequences | None
    characters: NDArray[np.uint8]
    bounds: NDArray[np.int64]
    letters: Check

    def count_offset(self, array: AddressArray, taken: list[TableExtent]) -> int | None:
        """Return the offset of the count, or None.

        It is the offset that the symbols give, else the one nearest to the names; never one in a table.
        """
        free = self.counts
        for low, high in ((array.offset, array.offset + array.size), *((row.offset, row.end) for row in taken)):
            free = free[(free + COUNT_SIZE <= low) | (free >= high)]
        if self._own is not None and len(free) > 1:
            first, second = array.addresses(array.offset)[list(self._own)].view(np.int64).tolist()
            wanted = self.names.offset + second - first
            # the lower half of a big-endian count of 64 bits is four bytes behind its start
            named = free[(free == wanted) | (free == wanted + COUNT_SIZE)]
            free = named if len(named) else free
        return int(free[0]) if len(free) else None

    @cached_property
    def _own(self) -> tuple[int, int] | None:
        """Indices of the symbols ``kallsyms_names`` and ``kallsyms_num_syms``, or None."""
        table = SymbolTable(np.zeros(len(self.bounds) - 1, np.uint64), self.characters, self.bounds, 8)
        names, count = table.find("kallsyms_names"), table.find("kallsyms_num_syms")
        return None if names is None or count is None else (names, count)


@dataclass(frozen=True, eq=False)
class _Surroundings:
    """The part ``data[low:high]`` in which the tables are looked for, and the same as words of four bytes."""

    data: NDArray[np.uint8]
    low: int
    high: int
    words: NDArray[np.unsignedinteger]


def recover_anywhere(
    segment: BytesSegment, tokens: TokenTable, word_sizes: Sequence[int], attempt: Attempt
) -> Iterator[Tables]:
    """Yield the tables around a token table, at any distance from it.

    Arguments are those of `kallsift.kallsyms.solvers.adjacent.recover_tables`.
    """
    here = f"token table at {segment.start + tokens.offset:#x}"
    attempt.reached(1, Step.NAMES, f"{here}, but no markers around it fit a name stream")
    around = _surroundings(segment, tokens)
    data = around.data
    runs: dict[int, list[Run]] = {}
    streams = _streams(around, tokens)
    for stream in streams:
        markers = stream.markers
        others: OtherTables | None = None
        attempt.reached(3, Step.ADDRESSES, f"{here} with some {stream.least} names, but no array of addresses in order")
        listings = {
            len(listing.names.starts): listing for listing in _listings(segment, around, tokens, stream, attempt)
        }
        checked_codes: dict[int, Check] = {}
        for word_size in word_sizes:
            if word_size not in runs:
                found = find_runs(data, around.low, around.high, word_size, tokens.byte_order, stream.least)
                runs[word_size] = list(found)
        # the likeliest arrays of all word sizes come before less likely ones of any
        ranked = merge(*(_ranked(runs[size], size, list(listings)) for size in word_sizes), key=lambda entry: entry[:2])
        for loose, _, word_size, array, begins in ranked:
            listing = listings[len(array.words)]
            if loose and listing.sequences is None and stream.trimmed:
                # nothing confirms the count: the names may be damaged behind these
                continue
            names, sequences = listing.names, listing.sequences
            rows = [
                TableExtent("names", names.offset, names.size),
                TableExtent("markers", markers.offset, markers.size),
                *token_rows(tokens),
            ]
            taken = rows if sequences is None else [*rows, TableExtent("", sequences.offset, sequences.size)]
            if any(array.offset < row.end and row.offset < array.offset + array.size for row in taken):
                continue
            if blank_page(segment, array.offset, array.size) is not None:
                continue
            place = listing.count_offset(array, taken)
            if place is None:
                continue
            # computed only here, because most token tables lead to no array
            others = others or other_tables(segment, (around.low, around.high), tokens, stream, streams, word_sizes)
            if others.claim(array):
                continue
            rivals = others.rivals(len(array.words), Listed(listing.characters, listing.bounds))
            rows.append(TableExtent("num_syms", place, COUNT_SIZE))
            count = f"the count {len(array.words)} stands at {segment.start + place:#x}"
            num_syms = Check.that(CheckId.NUM_SYMS, True, count)
            # many arrays can belong to one listing, so its check is kept
            if (codes := checked_codes.get(len(array.words))) is None:
                codes = checked_codes[len(array.words)] = compression_check(data, listing.names, tokens)
            checks = (index_check(tokens), markers_check(markers), num_syms, listing.letters, codes)
            by_name = sequences_check(sequences, listing.characters, listing.bounds)
            for based in with_bases(data, array, (word_size, tokens.byte_order), aligned_starts(rows)):
                based_rows = (*rows, *array_rows(based, word_size), *sequences_rows(sequences))
                tables = assemble(
                    segment, word_size, tokens, based_rows, based, listing.characters, listing.bounds,
                    (*checks, order_check(based), by_name),
                )  # fmt: skip
                # a base behind the array ends it, even where half of the base would continue the order
                ends = based.relative_base_offset is not None and array.offset < based.relative_base_offset
                exact = listing.ends and (not loose or (begins and ends and not based.needs_base))
                yield replace(tables, layout=Layout.BOUNDED if exact else Layout.AMBIGUOUS, rivals=rivals)


def _ranked(
    runs: list[Run], word_size: int, counts: Sequence[int]
) -> Iterator[tuple[bool, int, int, AddressArray, bool]]:
    """Yield the arrays in runs, the likeliest first.

    Yields:
        Whether the array is loose, its rank, the word size, the array, and whether it begins where it can.
    """
    for rank, (array, begins, ends) in enumerate(windows(runs, counts)):
        yield not (begins and ends), rank, word_size, array, begins


def _surroundings(segment: BytesSegment, tokens: TokenTable) -> _Surroundings:
    # a table whose entries have eight bytes is aligned to eight at least
    low = max(0, tokens.offset - WITHIN)
    low += -(segment.start + low) % 8
    high = min(tokens.offset + WITHIN, len(segment.data))
    raw = segment.data[low : low + max(0, high - low) // 4 * 4]
    return _Surroundings(segment.data, low, high, np.frombuffer(raw.tobytes(), f"{tokens.byte_order}u4"))


def _streams(around: _Surroundings, tokens: TokenTable) -> list[Stream]:
    """Return the streams that markers prove, those with most markers first."""
    data, low, high = around.data, around.low, around.high
    # the longest run of each start suffices: `find_streams` cuts it where its markers no longer hold
    longest = {
        (markers.offset, markers.width): markers
        for markers in reversed(list(find_markers(data, low, high, tokens.byte_order, MAX_RUNS)))
        if len(markers.values) >= LEAST_MARKERS
    }
    candidates = list(longest.values())
    found: list[Stream] = []
    for block in range(low, high, BLOCK):
        for stream in find_streams(data, candidates, block, min(block + BLOCK, high), LEAST_MARKERS):
            table = stream.markers
            if stream.counted(stream.least).end <= table.offset or table.offset + table.size <= stream.offset:
                found.append(stream)
        if len(found) >= MAX_STARTS:
            break
    return sorted(found, key=lambda stream: -len(stream.markers.values))


def _listings(
    segment: BytesSegment, around: _Surroundings, tokens: TokenTable, stream: Stream, attempt: Attempt
) -> Iterator[_Listing]:
    """Yield the stream with each count that stands somewhere as a word.

    With it comes a permutation of that many symbols if there is one. The stream ends before the next table at the
    latest. If a permutation sorts the names, its count is the only one.
    """
    known = [row.offset for row in token_rows(tokens)] + [stream.markers.offset]
    room = min((offset for offset in known if offset > stream.offset), default=len(segment.data))
    inside = stream.counted(int(np.count_nonzero(stream.starts + stream.lengths <= room)))
    if len(inside.starts) < stream.least:
        return
    expanded = expand_checked(segment, tokens, inside, attempt, least=stream.least)
    if expanded is None:
        return
    characters, bounds, letters = expanded
    counts = range(stream.least, len(bounds))
    standing = _standing(around, stream, counts)
    for sequences in scan_sequences(around.data, around.low, around.high, counts, tokens.byte_order):
        count = len(sequences.order)
        end = bounds[count]
        if count in standing and sorted_by_name(sequences.order, characters[:end], bounds[: count + 1]):
            names, places = stream.counted(count), standing[count]
            yield _Listing(names, True, places, sequences, characters[:end], bounds[: count + 1], letters)
            return
    for count, places in standing.items():
        names, end, ends = stream.counted(count), bounds[count], count == counts.stop - 1
        yield _Listing(names, ends, places, None, characters[:end], bounds[: count + 1], letters)


def _standing(around: _Surroundings, stream: Stream, counts: range) -> dict[int, NDArray[np.int64]]:
    """Return the offsets of the words that hold each count.

    Those nearest to the names come first.
    """
    hits = np.flatnonzero((around.words >= counts.start) & (around.words < counts.stop))
    places = hits.astype(np.int64) * COUNT_SIZE + around.low
    order = np.lexsort((np.abs(places - stream.offset), around.words[hits]))
    values, first = np.unique(around.words[hits][order], return_index=True)
    return dict(zip(values.tolist(), np.split(places[order], first[1:]), strict=True)) if len(hits) else {}
