"""The solver: a chain of generators, each of which extends a candidate or lets it die where its equation fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.encodings import AddressArray, find_arrays
from kallsift.kallsyms.evidence import Check, Outcome
from kallsift.kallsyms.names import (
    LIKELY_LAST_GROUP,
    Markers,
    Names,
    expand,
    find_markers,
    find_names,
    is_padding,
)
from kallsift.kallsyms.sequences import Sequences, find_sequences, sorted_by_name
from kallsift.kallsyms.tokens import INDEX_SIZE, MAX_PADDING, TokenTable
from kallsift.memory.model import Segment

MARKERS_WITHIN = 2 << 20
"""How far before the token table the markers begin at most, in bytes: seqs_of_names lies between them in 6.1 to 6.3."""

TYPE_LETTERS = np.frombuffer(b"ABDRTVWabdrtvw?GgSsNnCcIiUu-", np.uint8)
"""Letters that nm prints, and so the first character of each entry."""

PAGE = 4096


@dataclass(frozen=True, eq=False)
class Tables:
    """One kernel's tables, whole and in agreement with each other; addresses still lack their place.

    Attributes:
        segment: the memory that they lie in; all offsets are into its data.
        word_size: bytes of an address.
        tokens, markers, names, array, sequences: the tables; sequences is None where the release has none.
        characters: type letters and names end to end, uint8.
        bounds: of each symbol in ``characters``, shape (n + 1,), int64.
        checks: the equations and how they came out.
    """

    segment: Segment
    word_size: int
    tokens: TokenTable
    markers: Markers
    names: Names
    array: AddressArray
    sequences: Sequences | None
    characters: NDArray[np.uint8]
    bounds: NDArray[np.int64]
    checks: tuple[Check, ...]

    @property
    def count(self) -> int:
        """Number of symbols."""
        return len(self.bounds) - 1

    @property
    def byte_order(self) -> str:
        """``"<"`` or ``">"``."""
        return self.tokens.byte_order

    @property
    def places(self) -> tuple[tuple[str, int, int], ...]:
        """Name without ``kallsyms_``, address and size of each table, in the order of their addresses."""
        array = self.array
        absolute = array.encoding.anchor == "nothing"
        rows = [
            ("names", self.names.offset, self.names.size),
            ("markers", self.markers.offset, self.markers.size),
            ("token_table", self.tokens.offset, self.tokens.size),
            ("token_index", self.tokens.index_offset, INDEX_SIZE),
            ("addresses" if absolute else "offsets", array.offset, array.size),
        ]
        if self.names.num_syms_offset is not None:
            rows.append(("num_syms", self.names.num_syms_offset, 4))
        if array.relative_base_offset is not None:
            rows.append(("relative_base", array.relative_base_offset, self.word_size))
        if self.sequences is not None:
            rows.append(("seqs_of_names", self.sequences.offset, self.sequences.size))
        start = self.segment.start
        return tuple((name, start + offset, size) for name, offset, size in sorted(rows, key=lambda row: row[1]))

    @property
    def array_address(self) -> int:
        """Where the address array lies in the source."""
        return self.segment.start + self.array.offset


@dataclass
class Attempt:
    """How far the recovery came: the furthest step reached, for the message when nothing is found."""

    step: str = "token table"
    message: str = "no 256 strings with an index that fits them were found"
    rank: int = field(default=0, repr=False)

    def reached(self, rank: int, step: str, message: str) -> None:
        """Notes that everything before ``step`` held."""
        if rank >= self.rank:
            self.rank, self.step, self.message = rank, step, message


def recover_tables(segment: Segment, tokens: TokenTable, word_size: int, attempt: Attempt) -> Iterator[Tables]:
    """All ways in which tables around a token table agree; mostly one.

    Args:
        segment: the memory that holds the token table.
        tokens: the proved token table.
        word_size: bytes of an address.
        attempt: is told how far it came.
    """
    data, start = segment.data, segment.start
    here = f"token table at {start + tokens.offset:#x}"
    attempt.reached(1, "names", f"{here}, but no markers near it fit a name stream")
    for markers, names in _name_streams(segment, tokens):
        count = len(names.starts)
        num_syms = Check.that("num_syms", True, f"the count {count} stands before the names")
        if names.num_syms_offset is None:
            if not is_padding(data, max(0, names.offset - 8), names.offset):
                attempt.reached(2, "names", f"{here}, but what stands before the {count} names is not their count")
                continue
            num_syms = Check("num_syms", Outcome.ABSENT, "nothing but zeros stands before the names")
        if not names.touches_markers:
            attempt.reached(2, "names", f"{here}, but its markers do not follow the {count} names")
            continue
        checks = [
            Check.that("token index", True, f"256 offsets equal the starts of 256 strings ({tokens.size} bytes)"),
            Check.that(
                "markers",
                True,
                f"all {len(markers.values)} markers ({markers.width} bytes each) are the offsets of every 256th entry",
            ),
            num_syms,
        ]
        characters, bounds = expand(data, names, tokens)
        letters = np.isin(characters[bounds[:-1]], TYPE_LETTERS)
        if (np.diff(bounds) < 2).any() or not letters.all():
            attempt.reached(2, "names", f"{here}: {np.count_nonzero(~letters)} names start with no type letter")
            continue
        checks.append(Check.that("type letters", True, f"all {count} entries start with a letter of nm"))
        attempt.reached(
            3, "addresses", f"{here} with {count} names, but no array of {count} addresses in order near it"
        )
        for array in _address_arrays(segment, tokens, names, markers, word_size):
            if (blank := _blank_page(segment, array.offset, array.size)) is not None:
                attempt.reached(3, "addresses", f"{here} with {count} names, but the page at {blank:#x} is blank")
                continue
            ends = [array.offset + array.size, markers.offset + markers.size, tokens.index_offset + INDEX_SIZE]
            if array.relative_base_offset is not None:
                ends.append(array.relative_base_offset + word_size)
            sequences = find_sequences(data, ends, count, tokens.byte_order)
            order = Check.that("address order", True, f"{count} entries never decrease as {array.encoding.name}")
            yield Tables(
                segment, word_size, tokens, markers, names, array, sequences, characters, bounds,
                (*checks, order, _sequences_check(sequences, characters, bounds)),
            )  # fmt: skip


def _name_streams(segment: Segment, tokens: TokenTable) -> Iterator[tuple[Markers, Names]]:
    """Markers before the token table, where every release has them, and the name streams that they prove."""
    high = tokens.offset - (segment.start + tokens.offset) % 8 + 8
    low = high - min(high // 8 * 8, MARKERS_WITHIN)
    for markers in find_markers(segment.data, low, high, tokens.byte_order):
        # the stream ends where the markers begin, its last group is of unknown size
        last_start = markers.offset - int(markers.values[-1])
        first = max(0, last_start - LIKELY_LAST_GROUP - MAX_PADDING)
        streams = find_names(segment.data, markers, first, last_start, tokens.byte_order)
        # both equations before one: a stream that begins inside the names can touch the markers by chance
        for names in sorted(streams, key=lambda names: (names.num_syms_offset is None) + (not names.touches_markers)):
            yield markers, names


def _address_arrays(
    segment: Segment, tokens: TokenTable, names: Names, markers: Markers, word_size: int
) -> Iterator[AddressArray]:
    """Arrays that fit and touch a table: behind the token index (6.4 and later) or before the names (earlier)."""
    data, count = segment.data, len(names.starts)
    behind = tokens.index_offset + INDEX_SIZE
    starts = (names.offset, markers.offset, tokens.offset, tokens.index_offset, names.num_syms_offset or names.offset)
    ends = (names.offset + names.size, markers.offset + markers.size, behind)
    tables = [(names.offset, ends[0]), (markers.offset, ends[1]), (tokens.offset, behind)]
    if names.num_syms_offset is not None:
        tables.append((names.num_syms_offset, names.num_syms_offset + 4))
    room = count * word_size + 2 * MAX_PADDING + 16

    def gap(array: AddressArray) -> int | None:
        """Padding between the array and the nearest table that it touches; None where it touches none."""
        last = array.offset + array.size
        if array.relative_base_offset is not None:
            last = array.relative_base_offset + word_size
        if any(array.offset < high and low < last for low, high in tables):
            return None
        gaps = [array.offset - end for end in ends if is_padding(data, end, array.offset)]
        gaps += [start - last for start in starts if is_padding(data, last, start)]
        return min(gaps, default=None)

    arrays: list[AddressArray] = []
    for low, high in ((behind, behind + room), (names.offset - room, names.offset)):
        low = max(low - (segment.start + low) % word_size, 0)
        arrays += find_arrays(data, low, high, count, word_size, tokens.byte_order)
    gaps = [(distance, number) for number, array in enumerate(arrays) if (distance := gap(array)) is not None]
    yield from (arrays[number] for _, number in sorted(gaps))


def _blank_page(segment: Segment, offset: int, size: int) -> int | None:
    """Address of the first page of zeros that reaches into a table; None if there is none.

    A page that a dump lacks is often filled with zeros, and leading zeros are in order under most encodings.
    """
    for page in range(max(0, offset - (segment.start + offset) % PAGE), offset + size, PAGE):
        if not segment.data[page : page + PAGE].any():
            return segment.start + page
    return None


def _sequences_check(sequences: Sequences | None, characters: NDArray[np.uint8], bounds: NDArray[np.int64]) -> Check:
    """Whether the permutation sorts the names."""
    if sequences is None:
        return Check("seqs_of_names", Outcome.ABSENT, "no permutation follows a table (normal up to 6.1)")
    holds = sorted_by_name(sequences.order, characters, bounds)
    text = f"a permutation of all {len(sequences.order)} symbols ({sequences.entry_size} bytes each)"
    return Check.that("seqs_of_names", holds, f"{text} that {'sorts' if holds else 'does NOT sort'} them by name")
