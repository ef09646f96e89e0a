"""The solver for tables in any order, at any distance from each other, between any neighbours.

Nothing is assumed of where a table lies but that it is within `WITHIN` of the token table. What adjacency says in
`kallsift.kallsyms.recover` must follow from the tables themselves here: the count is a word that some table of the
right size bears out, an array ends where its order does. Slower, so it is asked last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.encodings import AddressArray, Run, find_runs, windows, with_bases
from kallsift.kallsyms.evidence import Check
from kallsift.kallsyms.names import MAX_STARTS, Markers, Names, Stream, find_markers, find_streams
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
from kallsift.kallsyms.tables import Attempt, Row, Tables, in_order
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

MAX_COUNTS = 16
"""Counts that are followed for one stream: each is a word of the surroundings in the right range."""


@dataclass(frozen=True, eq=False)
class _Surroundings:
    """What the tables are looked for in: ``data[low:high]``, and the same as words of four bytes."""

    data: NDArray[np.uint8]
    low: int
    high: int
    words: NDArray[np.unsignedinteger]


def recover_anywhere(segment: Segment, tokens: TokenTable, word_size: int, attempt: Attempt) -> Iterator[Tables]:
    """As `kallsift.kallsyms.recover.recover_tables`, wherever the tables lie."""
    here = f"token table at {segment.start + tokens.offset:#x}"
    attempt.reached(1, "names", f"{here}, but no markers around it fit a name stream")
    around = _surroundings(segment, tokens)
    runs: list[Run] | None = None
    for markers, stream in _streams(around, tokens):
        fixed = (
            Row("markers", markers.offset, markers.size),
            *token_rows(tokens),
        )
        if expand_checked(segment, tokens, stream.counted(stream.least), attempt) is None:
            continue
        for names, place, sequences in _counted(segment, around, tokens, stream, attempt):
            count = len(names.starts)
            expanded = expand_checked(segment, tokens, names, attempt)
            if expanded is None:
                continue
            characters, bounds, letters = expanded
            attempt.reached(3, "addresses", f"{here} with {count} names, but no array of {count} addresses in order")
            known = in_order(*fixed, Row("names", names.offset, names.size), Row("num_syms", place, COUNT_SIZE))
            taken = known if sequences is None else (*known, Row("seqs_of_names", sequences.offset, sequences.size))
            if runs is None:
                least = stream.least
                runs = list(find_runs(around.data, around.low, around.high, word_size, tokens.byte_order, least))
            num_syms = Check.that("num_syms", True, f"the count {count} stands at {segment.start + place:#x}")
            for array in _arrays(segment, runs, taken, count, word_size, tokens.byte_order):
                yield assemble(
                    segment, word_size, tokens, in_order(*known, *array_rows(array, word_size)), array, sequences,
                    characters, bounds, (index_check(tokens), markers_check(markers), num_syms, letters),
                )  # fmt: skip


def _surroundings(segment: Segment, tokens: TokenTable) -> _Surroundings:
    # eight bytes are what a table is aligned to at least where its entries are as wide
    low = max(0, tokens.offset - WITHIN)
    low += -(segment.start + low) % 8
    high = min(tokens.offset + WITHIN, len(segment.data))
    raw = segment.data[low : low + max(0, high - low) // 4 * 4]
    return _Surroundings(segment.data, low, high, np.frombuffer(raw.tobytes(), f"{tokens.byte_order}u4"))


def _streams(around: _Surroundings, tokens: TokenTable) -> Iterator[tuple[Markers, Stream]]:
    """Markers, the longest runs first, and the streams that they prove."""
    data, low, high = around.data, around.low, around.high
    for markers in find_markers(data, low, high, tokens.byte_order, MAX_RUNS):
        if len(markers.values) < LEAST_MARKERS:
            continue
        found = 0
        for block in range(low, high - int(markers.values[-1]), BLOCK):
            end = min(block + BLOCK, high - int(markers.values[-1]))
            for stream in find_streams(data, markers, block, end):
                overlaps = stream.offset < markers.offset + markers.size and markers.offset < stream.offset + int(
                    markers.values[-1]
                )
                if not overlaps:
                    found += 1
                    yield markers, stream
            if found >= MAX_STARTS:
                break


def _counted(
    segment: Segment, around: _Surroundings, tokens: TokenTable, stream: Stream, attempt: Attempt
) -> Iterator[tuple[Names, int, Sequences | None]]:
    """The stream with each count that stands somewhere as a word, its place, and a permutation of that many.

    A permutation that sorts the names leaves no other count; else those whose word lies nearest come first.
    """
    counts = stream.counts()
    hits = np.flatnonzero((around.words >= counts.start) & (around.words < counts.stop))
    places = hits.astype(np.int64) * COUNT_SIZE + around.low
    places = places[(places + COUNT_SIZE <= stream.offset) | (places >= stream.starts[stream.least - 1])]
    order = np.argsort(np.abs(places - stream.offset), kind="stable")
    nearest: dict[int, int] = {}
    for hit in order:
        place = int(places[hit])
        nearest.setdefault(int(around.words[(place - around.low) // COUNT_SIZE]), place)
        if len(nearest) >= MAX_COUNTS:
            break
    for count, place in nearest.items():
        for sequences in scan_sequences(around.data, around.low, around.high, count, tokens.byte_order):
            names = stream.counted(count)
            expanded = expand_checked(segment, tokens, names, attempt)
            if expanded is not None and sorted_by_name(sequences.order, expanded[0], expanded[1]):
                yield names, place, sequences
                return
    yield from ((stream.counted(count), place, None) for count, place in nearest.items())


def _arrays(
    segment: Segment, runs: list[Run], rows: tuple[Row, ...], count: int, word_size: int, byte_order: str
) -> Iterator[AddressArray]:
    """Arrays of ``count`` entries that overlap no other table, the likeliest first."""
    for array in windows(runs, count):
        if any(array.offset < row.end and row.offset < array.offset + array.size for row in rows):
            continue
        if blank_page(segment, array.offset, array.size) is None:
            yield from with_bases(segment.data, array, word_size, byte_order)
