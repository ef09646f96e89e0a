"""Find tables in any order, at any distance from each other, between any neighbours.

Only one thing is assumed of the location of a table: it lies within some MiB of the token table. What
`kallsift.kallsyms.solvers.adjacent` takes from adjacency must follow from the tables themselves here: the count is a
word that some table of the right size confirms, and an array ends where its order does. This is slower, so it is tried
last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from heapq import merge
from typing import NamedTuple

from kallsift.errors import Step
from kallsift.kallsyms.evidence import Check, CheckId
from kallsift.kallsyms.format.address_encodings import AddressArray
from kallsift.kallsyms.format.address_table import Run, find_runs, windows, with_bases
from kallsift.kallsyms.format.name_codes import compression_check
from kallsift.kallsyms.format.name_stream import Stream
from kallsift.kallsyms.format.token_table import TokenTable
from kallsift.kallsyms.recovered_tables import Attempt, Layout, Listed, TableExtent, Tables, in_order
from kallsift.kallsyms.solvers.adjacent import (
    COUNT_SIZE,
    aligned_starts,
    array_rows,
    blank_page,
    index_check,
    markers_check,
    order_check,
    sequences_check,
    sequences_rows,
    token_rows,
)
from kallsift.kallsyms.solvers.other_tables import OtherTables, other_tables
from kallsift.kallsyms.solvers.scattered_names import Listing, Surroundings, listings_of, streams_around
from kallsift.memory.segments import BytesSegment


class _Ranked(NamedTuple):
    """An array that was found in a run of words.

    Attributes:
        is_loose: whether it, or the names, could continue in the words beside it.
        rank: its rank among the arrays of the same word size, the likeliest first.
        word_size: bytes of an address.
        array: the array.
        begins: whether it begins where it can.
    """

    is_loose: bool
    rank: int
    word_size: int
    array: AddressArray
    begins: bool


def recover_anywhere(
    segment: BytesSegment, tokens: TokenTable, word_sizes: Sequence[int], attempt: Attempt
) -> Iterator[Tables]:
    """Yield the tables around a token table, at any distance from it.

    Arguments are those of `kallsift.kallsyms.solvers.adjacent.recover_tables`.
    """
    here = f"token table at {segment.start + tokens.offset:#x}"
    attempt.reached(1, Step.NAMES, f"{here}, but no markers around it fit a name stream")
    around = Surroundings.of(segment, tokens)
    runs: dict[int, list[Run]] = {}
    streams = streams_around(around, tokens)
    for stream in streams:
        attempt.reached(3, Step.ADDRESSES, f"{here} with some {stream.least} names, but no array of addresses in order")
        listings = {len(listing.names.starts): listing for listing in listings_of(around, tokens, stream, attempt)}
        for size in word_sizes:
            if size not in runs:
                found = find_runs(segment.data, around.low, around.high, size, tokens.byte_order, stream.least)
                runs[size] = list(found)
        # the likeliest arrays of all word sizes come before less likely ones of any
        ranked = merge(*(_ranked(runs[size], size, list(listings)) for size in word_sizes), key=lambda entry: entry[:2])
        assembler = _Assembler(around, tokens, word_sizes, stream, streams)
        for entry in ranked:
            yield from assembler.tables(listings[len(entry.array.words)], entry)


@dataclass(frozen=True, eq=False)
class _Assembler:
    """Assembles the tables of one stream of names with all arrays that may belong to it.

    Work that several arrays have in common is done once.

    Attributes:
        around: where the tables are looked for.
        tokens: the token table.
        word_sizes: sizes of an address in bytes.
        stream: the names.
        streams: all streams of names that markers prove there.
    """

    around: Surroundings
    tokens: TokenTable
    word_sizes: Sequence[int]
    stream: Stream
    streams: Sequence[Stream]
    _codes: dict[int, Check] = field(default_factory=dict)

    def tables(self, listing: Listing, ranked: _Ranked) -> Iterator[Tables]:
        """Yield the tables with an array and the names of as many symbols, for each base that the array can have."""
        segment, tokens, array, sequences = self.around.segment, self.tokens, ranked.array, listing.sequences
        if ranked.is_loose and sequences is None and self.stream.trimmed:
            # nothing confirms the count: the names may be damaged behind these
            return
        rows = [
            TableExtent("names", listing.names.offset, listing.names.size),
            TableExtent("markers", self.stream.markers.offset, self.stream.markers.size),
            *token_rows(tokens),
        ]
        taken = rows if sequences is None else [*rows, TableExtent("", sequences.offset, sequences.size)]
        if any(array.offset < row.end and row.offset < array.offset + array.size for row in taken):
            return
        if blank_page(segment, array.offset, array.size) is not None:
            return
        place = listing.count_offset(array, taken)
        if place is None or self._others.claim(array):
            return
        rivals = self._others.rivals(len(array.words), Listed(listing.characters, listing.bounds))
        rows.append(TableExtent("num_syms", place, COUNT_SIZE))
        checks = self._checks(listing, place)
        by_name = sequences_check(sequences, listing.characters, listing.bounds)
        for based in with_bases(segment.data, array, (ranked.word_size, tokens.byte_order), aligned_starts(rows)):
            # a base behind the array ends it, even where half of the base would continue the order
            ends = based.relative_base_offset is not None and array.offset < based.relative_base_offset
            exact = listing.ends and (not ranked.is_loose or (ranked.begins and ends and not based.needs_base))
            yield Tables(
                segment,
                ranked.word_size,
                tokens.byte_order,
                in_order(*rows, *array_rows(based, ranked.word_size), *sequences_rows(sequences)),
                based,
                listing.characters,
                listing.bounds,
                (*checks, order_check(based), by_name),
                layout=Layout.BOUNDED if exact else Layout.AMBIGUOUS,
                rivals=rivals,
            )

    @cached_property
    def _others(self) -> OtherTables:
        """What other kernels have there, computed only when asked for: most token tables lead to no array."""
        bounds = self.around.low, self.around.high
        return other_tables(self.around.segment, bounds, self.tokens, self.stream, self.streams, self.word_sizes)

    def _checks(self, listing: Listing, place: int) -> tuple[Check, ...]:
        """Return the checks of a listing whose count stands at an offset."""
        count = len(listing.names.starts)
        stands = f"the count {count} stands at {self.around.segment.start + place:#x}"
        # many arrays can belong to one listing, so its check is kept
        if count not in self._codes:
            self._codes[count] = compression_check(self.around.data, listing.names, self.tokens)
        return (
            index_check(self.tokens),
            markers_check(self.stream.markers),
            Check.that(CheckId.NUM_SYMS, True, stands),
            listing.letters,
            self._codes[count],
        )


def _ranked(runs: list[Run], word_size: int, counts: Sequence[int]) -> Iterator[_Ranked]:
    """Yield the arrays in runs, the likeliest first."""
    for rank, (array, begins, ends) in enumerate(windows(runs, counts)):
        yield _Ranked(not (begins and ends), rank, word_size, array, begins)
