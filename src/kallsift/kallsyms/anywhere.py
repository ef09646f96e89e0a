"""The solver for tables in any order, at any distance from each other, between any neighbours.

Nothing is assumed of where a table lies but that it is within `WITHIN` of the token table. What adjacency says in
`kallsift.kallsyms.recover` must follow from the tables themselves here: the count is a word that some table of the
right size bears out, an array ends where its order does. Slower, so it is asked last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.encodings import Run, find_runs, windows, with_bases
from kallsift.kallsyms.evidence import Check
from kallsift.kallsyms.names import MAX_STARTS, Names, Stream, find_markers, find_streams
from kallsift.kallsyms.recover import (
    COUNT_SIZE,
    array_rows,
    assemble,
    blank_page,
    expand_checked,
    index_check,
    markers_check,
    token_rows,
)
from kallsift.kallsyms.sequences import Sequences, scan_sequences, sorted_by_name
from kallsift.kallsyms.tables import Attempt, Layout, Row, Tables, in_order
from kallsift.kallsyms.tokens import TokenTable
from kallsift.memory.model import Segment

WITHIN = 16 << 20
"""How far from the token table another table lies at most, in bytes."""

LEAST_MARKERS = 3
"""Fewer fit too many streams by chance where nothing says where to look."""

MAX_RUNS = 16
"""Runs of words that are followed as markers, the longest first."""

BLOCK = 4 << 20
"""Bytes at whose each a stream is tried at once."""


@dataclass(frozen=True, eq=False)
class _Listing:
    """Names of which there are as many as a word says."""

    names: Names
    count_offset: int
    sequences: Sequences | None
    characters: NDArray[np.uint8]
    bounds: NDArray[np.int64]
    letters: Check


@dataclass(frozen=True, eq=False)
class _Surroundings:
    """What the tables are looked for in: ``data[low:high]``, and the same as words of four bytes."""

    data: NDArray[np.uint8]
    low: int
    high: int
    words: NDArray[np.unsignedinteger]


def recover_anywhere(
    segment: Segment, tokens: TokenTable, word_sizes: Sequence[int], attempt: Attempt
) -> Iterator[Tables]:
    """As `kallsift.kallsyms.recover.recover_tables`, wherever the tables lie."""
    here = f"token table at {segment.start + tokens.offset:#x}"
    attempt.reached(1, "names", f"{here}, but no markers around it fit a name stream")
    around = _surroundings(segment, tokens)
    data = around.data
    runs: dict[int, list[Run]] = {}
    for stream in _streams(around, tokens):
        markers = stream.markers
        attempt.reached(3, "addresses", f"{here} with some {stream.least} names, but no array of addresses in order")
        listings = {
            len(listing.names.starts): listing for listing in _listings(segment, around, tokens, stream, attempt)
        }
        for word_size in word_sizes:
            if word_size not in runs:
                found = find_runs(data, around.low, around.high, word_size, tokens.byte_order, stream.least)
                runs[word_size] = list(found)
        ranked = [
            (not exact, rank, size, array)
            for size in word_sizes
            for rank, (array, exact) in enumerate(windows(runs[size], list(listings)))
        ]
        # the likeliest for each size before what is less likely for one
        ranked.sort(key=lambda entry: entry[:2])
        for loose, _, word_size, array in ranked:
            listing = listings[len(array.words)]
            if loose and listing.sequences is None and stream.trimmed:
                # nothing says how many there are: the names may be damaged behind these
                continue
            names, sequences = listing.names, listing.sequences
            rows = [
                Row("names", names.offset, names.size),
                Row("markers", markers.offset, markers.size),
                Row("num_syms", listing.count_offset, COUNT_SIZE),
                *token_rows(tokens),
            ]
            taken = rows if sequences is None else [*rows, Row("", sequences.offset, sequences.size)]
            if any(array.offset < row.end and row.offset < array.offset + array.size for row in taken):
                continue
            if blank_page(segment, array.offset, array.size) is not None:
                continue
            where = segment.start + listing.count_offset
            num_syms = Check.that("num_syms", True, f"the count {len(array.words)} stands at {where:#x}")
            checks = (index_check(tokens), markers_check(markers), num_syms, listing.letters)
            for based in with_bases(data, array, word_size, tokens.byte_order):
                tables = assemble(
                    segment, word_size, tokens, in_order(*rows, *array_rows(based, word_size)), based, sequences,
                    listing.characters, listing.bounds, checks,
                )  # fmt: skip
                yield replace(tables, layout=Layout.LOOSE if loose else Layout.EXACT)


def _surroundings(segment: Segment, tokens: TokenTable) -> _Surroundings:
    # eight bytes are what a table is aligned to at least where its entries are as wide
    low = max(0, tokens.offset - WITHIN)
    low += -(segment.start + low) % 8
    high = min(tokens.offset + WITHIN, len(segment.data))
    raw = segment.data[low : low + max(0, high - low) // 4 * 4]
    return _Surroundings(segment.data, low, high, np.frombuffer(raw.tobytes(), f"{tokens.byte_order}u4"))


def _streams(around: _Surroundings, tokens: TokenTable) -> list[Stream]:
    """The streams that markers prove, those that most markers prove first."""
    data, low, high = around.data, around.low, around.high
    # markers that go on into something else are cut where they stop to hold
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
    segment: Segment, around: _Surroundings, tokens: TokenTable, stream: Stream, attempt: Attempt
) -> Iterator[_Listing]:
    """The stream with each count that stands somewhere as a word, and a permutation of that many where there is one.

    A permutation that sorts the names leaves no other count.
    """
    expanded = expand_checked(segment, tokens, stream, attempt, least=stream.least)
    if expanded is None:
        return
    characters, bounds, letters = expanded
    counts = range(stream.least, len(bounds))
    hits = np.flatnonzero((around.words >= counts.start) & (around.words < counts.stop))
    places = hits.astype(np.int64) * COUNT_SIZE + around.low
    places = places[(places + COUNT_SIZE <= stream.offset) | (places >= stream.starts[stream.least - 1])]
    nearest: dict[int, int] = {}
    for place in places[np.argsort(np.abs(places - stream.offset), kind="stable")].tolist():
        nearest.setdefault(int(around.words[(place - around.low) // COUNT_SIZE]), place)
        if len(nearest) == len(counts):
            break
    for sequences in scan_sequences(around.data, around.low, around.high, counts, tokens.byte_order):
        count = len(sequences.order)
        end = bounds[count]
        if count in nearest and sorted_by_name(sequences.order, characters[:end], bounds[: count + 1]):
            place = nearest[count]
            yield _Listing(stream.counted(count), place, sequences, characters[:end], bounds[: count + 1], letters)
            return
    for count, place in nearest.items():
        end = bounds[count]
        yield _Listing(stream.counted(count), place, None, characters[:end], bounds[: count + 1], letters)
