"""Find name streams anywhere around a token table, and the words that can be the count of each.

Markers prove a stream, but not where it ends. The count is a word that stands somewhere, or that of a permutation which
sorts the names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.evidence import Check
from kallsift.kallsyms.format.address_encodings import AddressArray
from kallsift.kallsyms.format.markers import find_markers
from kallsift.kallsyms.format.name_stream import MAX_STARTS, Names, Stream, find_streams
from kallsift.kallsyms.format.seqs_of_names import Sequences, scan_sequences, sorted_by_name
from kallsift.kallsyms.format.token_table import TokenTable
from kallsift.kallsyms.recovered_tables import Attempt, TableExtent
from kallsift.kallsyms.solvers.adjacent import COUNT_SIZE, expand_checked, token_rows
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.memory.segments import BytesSegment

WITHIN = 16 << 20
"""Highest distance of another table from the token table, in bytes."""

LEAST_MARKERS = 3
"""Lowest number of markers: fewer fit too many streams by chance where nothing says where to look."""

MAX_RUNS = 16
"""Highest number of runs of words that are followed as markers, the longest first."""

BLOCK = 4 << 20
"""Bytes in which the starts of streams are searched at once."""


@dataclass(frozen=True, eq=False)
class Surroundings:
    """The part of a segment from ``low`` to ``high`` in which the tables are looked for.

    Attributes:
        segment: the memory around the token table.
        low: offset of the part's start in the segment's data.
        high: offset of its end.
        words: the part as words of four bytes.
    """

    segment: BytesSegment
    low: int
    high: int
    words: NDArray[np.unsignedinteger]

    @classmethod
    def of(cls, segment: BytesSegment, tokens: TokenTable) -> Surroundings:
        """Return the part around a token table."""
        # a table whose entries have eight bytes is aligned to eight at least
        low = max(0, tokens.offset - WITHIN)
        low += -(segment.start + low) % 8
        high = min(tokens.offset + WITHIN, len(segment.data))
        raw = segment.data[low : low + max(0, high - low) // 4 * 4]
        return cls(segment, low, high, np.frombuffer(raw.tobytes(), f"{tokens.byte_order}u4"))

    @property
    def data(self) -> NDArray[np.uint8]:
        """The segment's bytes."""
        return self.segment.data


@dataclass(frozen=True, eq=False)
class Listing:
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


def streams_around(around: Surroundings, tokens: TokenTable) -> list[Stream]:
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


def listings_of(around: Surroundings, tokens: TokenTable, stream: Stream, attempt: Attempt) -> Iterator[Listing]:
    """Yield the stream with each count that stands somewhere as a word.

    With it comes a permutation of that many symbols if there is one. The stream ends before the next table at the
    latest. If a permutation sorts the names, its count is the only one.
    """
    known = [row.offset for row in token_rows(tokens)] + [stream.markers.offset]
    room = min((offset for offset in known if offset > stream.offset), default=len(around.data))
    inside = stream.counted(int(np.count_nonzero(stream.starts + stream.lengths <= room)))
    if len(inside.starts) < stream.least:
        return
    expanded = expand_checked(around.segment, tokens, inside, attempt, least=stream.least)
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
            yield Listing(names, True, places, sequences, characters[:end], bounds[: count + 1], letters)
            return
    for count, places in standing.items():
        names, end, ends = stream.counted(count), bounds[count], count == counts.stop - 1
        yield Listing(names, ends, places, None, characters[:end], bounds[: count + 1], letters)


def _standing(around: Surroundings, stream: Stream, counts: range) -> dict[int, NDArray[np.int64]]:
    """Return the offsets of the words that hold each count.

    Those nearest to the names come first.
    """
    hits = np.flatnonzero((around.words >= counts.start) & (around.words < counts.stop))
    places = hits.astype(np.int64) * COUNT_SIZE + around.low
    order = np.lexsort((np.abs(places - stream.offset), around.words[hits]))
    values, first = np.unique(around.words[hits][order], return_index=True)
    return dict(zip(values.tolist(), np.split(places[order], first[1:]), strict=True)) if len(hits) else {}
