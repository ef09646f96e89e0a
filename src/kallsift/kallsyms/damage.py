"""The solver for tables some of whose pages are lost: every symbol whose own bytes survive, and no wrong one.

Where pages are blank, or hold something else, equations still hold for what is left: groups of names between markers
that survive, the order of the addresses left, the place of a table beside its neighbours as each release has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.adrift import first_index
from kallsift.kallsyms.arrays_left import Left, arrays_left
from kallsift.kallsyms.evidence import Check, Outcome
from kallsift.kallsyms.markers_left import MarkersLeft, markers_left, stream_starts
from kallsift.kallsyms.names import GROUP, Names, expand
from kallsift.kallsyms.pages import PAGE, Pages
from kallsift.kallsyms.recover import (
    COUNT_SIZE,
    MARKERS_WITHIN,
    TYPE_LETTERS,
    array_rows,
    token_rows,
)
from kallsift.kallsyms.reentry import Entries, reenter
from kallsift.kallsyms.sequences import Ranks, confirmed, find_ranks
from kallsift.kallsyms.tables import Attempt, Damage, Row, Tables, in_order
from kallsift.kallsyms.tokens import MAX_PADDING, TokenTable
from kallsift.memory.model import Segment

WITHIN = 16 << 20
"""How far from the token table another table lies at most, in bytes."""

CONFIRMED = 2
"""Names of a walk that must lie between their neighbours in the order of names before the rest of it is believed."""

ROUNDS = 4
"""How often pages that turn out to hold something else are left out, and all is tried again."""


@dataclass(frozen=True, eq=False)
class _Stream:
    """Where the names begin, how many there are, and what is known of their markers."""

    offset: int
    count: int
    count_offset: int | None
    two_byte_lengths: bool
    markers: MarkersLeft
    numbers: NDArray[np.int64]

    @property
    def size(self) -> int:
        """Bytes of the stream, but for those of its last group."""
        return int(self.markers.values[-1])


def recover_damaged(
    segment: Segment, tokens: TokenTable, word_sizes: Sequence[int], attempt: Attempt
) -> Iterator[Tables]:
    """As `kallsift.kallsyms.recover.recover_tables`, with pages missing; what is not known is left unknown.

    Args:
        segment: the memory around the token table; memory that the source lacks is zero in it.
        tokens: the token table; its index may be lost.
        word_sizes: bytes of an address, those to try in this order.
        attempt: is told how far it came.
    """
    here = f"token table at {segment.start + tokens.offset:#x}"
    low, high = max(0, tokens.offset - WITHIN), min(len(segment.data), tokens.offset + WITHIN)
    pages = Pages.blank(segment, low, high)
    attempt.reached(1, "names", f"{here}, but no markers near it fit a name stream")
    firsts = _first_characters(tokens)
    letters = np.zeros(256, np.bool_)
    letters[TYPE_LETTERS] = True
    # an entry whose first code is unknown is one all the same
    letters[0] = tokens.known is not None
    for stream in _streams(segment, tokens, pages):
        attempt.reached(
            3, "addresses", f"{here} with {stream.count} names, pages of which are lost, but no addresses that fit"
        )
        entries, suspects, lost = _entries(segment.data, pages, stream, firsts, letters)
        arrays = (
            (size, left)
            for size in word_sizes
            for left in arrays_left(segment, lost, tokens, stream.offset, stream.count, stream.count_offset, size)
        )
        for word_size, left in arrays:
            tables = _assemble(segment, tokens, word_size, lost, stream, entries, left, suspects)
            # where nothing is lost, it is not damage that kept the tables from being found
            if any(one.lost for one in tables.damage) or tokens.index_offset is None or tokens.known is not None:
                yield tables


def _first_characters(tokens: TokenTable) -> NDArray[np.uint8]:
    """The first character of each token; of those that are empty or unknown, zero."""
    firsts = tokens.strings[np.minimum(tokens.starts[:-1], tokens.size - 1)]
    return firsts if tokens.known is None else np.where(tokens.known, firsts, 0).astype(np.uint8)


def _streams(segment: Segment, tokens: TokenTable, pages: Pages) -> Iterator[_Stream]:
    """Name streams for which enough of the markers' groups speak."""
    low = max(0, tokens.offset - MARKERS_WITHIN)
    low += -(segment.start + low) % 8
    for markers in markers_left(segment.data, pages, low, tokens.offset, tokens.byte_order):
        for offset, two_byte_lengths in stream_starts(segment.data, pages, markers):
            counted = _count(segment.data, pages, markers, offset, two_byte_lengths, tokens.byte_order)
            if counted is None:
                continue
            count, place = counted
            numbers = markers.numbers(count)
            if numbers is not None:
                yield _Stream(offset, count, place, two_byte_lengths, markers, numbers)


def _count(
    data: NDArray[np.uint8], pages: Pages, markers: MarkersLeft, offset: int, two_byte_lengths: bool, byte_order: str
) -> tuple[int, int | None] | None:
    """How many entries there are, and where that stands, if it still does."""
    counts = markers.counts
    for place in range(offset - COUNT_SIZE, max(-1, offset - MAX_PADDING - COUNT_SIZE), -4):
        if not pages.intact(np.array([place]), np.array([place + 4]))[0]:
            break
        value = int(np.frombuffer(data[place : place + COUNT_SIZE].tobytes(), f"{byte_order}u4")[0])
        if value:
            return (value, place) if value in counts else None
    # the count is lost: the last group ends where the markers begin
    last = markers.last_group(data, pages, offset, two_byte_lengths)
    return None if last is None else (last, None)


def _entries(
    data: NDArray[np.uint8],
    pages: Pages,
    stream: _Stream,
    firsts: NDArray[np.uint8],
    letters: NDArray[np.bool_],
) -> tuple[Entries, int, Pages]:
    """The entries left, how many pages turned out to hold something else, and all lost pages."""
    found = 0
    for _ in range(ROUNDS):
        entries, suspects = reenter(
            data, pages, stream.offset, stream.numbers, stream.markers.values, stream.count, firsts, letters,
            stream.two_byte_lengths,
        )  # fmt: skip
        if not len(suspects):
            break
        found += len(suspects)
        pages = pages.without(suspects)
    return entries, found, pages


def _assemble(
    segment: Segment,
    tokens: TokenTable,
    word_size: int,
    pages: Pages,
    stream: _Stream,
    entries: Entries,
    left: Left,
    suspects: int,
) -> Tables:
    data, count = segment.data, stream.count
    ranks = find_ranks(data, pages, left.sequences_at(stream.markers.end), count, tokens.byte_order)
    characters, bounds = _expand(data, entries.heads, entries.ends, stream.two_byte_lengths, tokens)
    if ranks is not None:
        texts = _texts(characters, bounds)
        heads, ends = _with_confirmed(data, entries, stream.two_byte_lengths, tokens, ranks, texts, stream.size)
        characters, bounds = _expand(data, heads, ends, stream.two_byte_lengths, tokens)
    end = int(entries.ends.max(initial=stream.offset))
    first_marker = stream.markers.offset - int(stream.numbers[0]) * stream.markers.width
    rows = [
        Row("names", stream.offset, max(end, stream.offset + int(stream.markers.values[-1])) - stream.offset),
        Row("markers", first_marker, -(-count // GROUP) * stream.markers.width),
        *token_rows(tokens),
        *array_rows(left.array, word_size),
    ]
    if stream.count_offset is not None:
        rows.append(Row("num_syms", stream.count_offset, COUNT_SIZE))
    if ranks is not None:
        rows.append(Row("seqs_of_names", ranks.offset, count * ranks.entry_size))
    named = np.diff(bounds) > 0
    unknown = (int(np.count_nonzero(~named)), int(np.count_nonzero(~left.known)))
    whole = int(np.count_nonzero(named & left.known))
    damage = tuple(_damage(segment, pages, in_order(*rows)))
    lost = sum(len(one.lost) for one in damage)
    checks = (
        Check.that(
            "markers", True, f"{len(stream.numbers)} of {-(-count // GROUP)} markers survive; names are read from each"
        ),
        _ranks_check(ranks),
        Check(
            "damage",
            Outcome.FAILED,
            f"{whole} of {count} symbols are whole: {unknown[0]} names and {unknown[1]} addresses are lost on {lost} "
            "pages" + (f", {suspects} of which hold something else" if suspects else ""),
        ),
    )
    return Tables(
        segment, word_size, tokens.byte_order, in_order(*rows), left.array, characters, bounds, checks,
        None if left.known.all() else left.known, damage,
    )  # fmt: skip


def _ranks_check(ranks: Ranks | None) -> Check:
    if ranks is None:
        return Check("seqs_of_names", Outcome.ABSENT, "no permutation follows a table")
    known = int(np.count_nonzero(ranks.order >= 0))
    return Check.that("seqs_of_names", True, f"{known} of {len(ranks.order)} entries survive, each of them once")


def _damage(segment: Segment, pages: Pages, rows: tuple[Row, ...]) -> Iterator[Damage]:
    """The pages that each table lost."""
    for row in rows:
        first, last = pages.number(np.array([row.offset, max(row.offset, row.end - 1)]))
        numbers = np.flatnonzero(pages.lost[first : last + 1]) + first
        start = segment.start + pages.first
        lost = tuple(start + PAGE * int(number) for number in numbers)
        yield Damage(row.name, lost, start + PAGE * int(first), int(last - first) + 1)


def _expand(
    data: NDArray[np.uint8],
    heads: NDArray[np.int64],
    ends: NDArray[np.int64],
    two_byte_lengths: bool,
    tokens: TokenTable,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Characters and bounds of all entries; those that are unknown, or have an unknown code, are empty."""
    there = np.flatnonzero(heads >= 0)
    sizes = np.zeros(len(heads), np.int64)
    if not len(there):
        return np.empty(0, np.uint8), np.zeros(len(heads) + 1, np.int64)
    skipped = 1 + (two_byte_lengths & (data[heads[there]] >= 0x80)).astype(np.int64)
    starts = heads[there] + skipped
    names = Names(int(heads[there[0]]), starts, ends[there] - starts)
    if tokens.known is not None:
        codes = np.add.reduceat(~tokens.known[data[_codes(names)]], np.cumsum(names.lengths) - names.lengths)
        there = there[codes == 0]
        names = Names(names.offset, names.starts[codes == 0], names.lengths[codes == 0])
    characters, bounds = expand(data, names, tokens)
    sizes[there] = np.diff(bounds)
    return characters, np.concatenate(([0], np.cumsum(sizes)))


def _codes(names: Names) -> NDArray[np.int64]:
    """Where each code of each name stands."""
    ends = np.cumsum(names.lengths)
    places: NDArray[np.int64] = np.arange(int(ends[-1])) + np.repeat(
        names.starts - (ends - names.lengths), names.lengths
    )
    return places


def _with_confirmed(
    data: NDArray[np.uint8],
    entries: Entries,
    two_byte_lengths: bool,
    tokens: TokenTable,
    ranks: Ranks,
    texts: list[bytes],
    stream_size: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Heads and ends, with those that the order of names confirms: of unsure walks, and of those adrift."""
    heads, ends = entries.heads.copy(), entries.ends.copy()
    for indices, places in zip(entries.unsure, entries.unsure_heads, strict=True):
        if not len(indices):
            continue
        # the entries of a walk follow each other
        behind = int(heads[indices[-1] + 1]) if indices[-1] + 1 < len(heads) else -1
        stops = np.append(places[1:], behind)
        if behind < 0:
            continue
        proposed = _texts(*_expand(data, places, stops, two_byte_lengths, tokens))
        enough = np.cumsum(confirmed(ranks, texts, indices, proposed)) >= CONFIRMED
        heads[indices[enough]], ends[indices[enough]] = places[enough], stops[enough]
    for walk in entries.adrift:
        places, stops = walk[:-1], walk[1:]
        known = np.flatnonzero(heads >= 0)
        after = int(np.searchsorted(heads[known], places[0]))
        low = int(known[after - 1]) + 1 if after else 0
        high = int(known[after]) - 1 if after < len(known) else len(heads) - 1
        # from the nearest one known, as many bytes an entry as elsewhere, give or take half of them
        if not len(known):
            break
        near = int(known[max(0, after - 1)])
        apart = int(abs(places[0] - heads[near])) * len(heads) // stream_size
        expected = near + (apart if heads[near] < places[0] else -apart)
        slack = apart // 2 + GROUP
        low, high = max(low, expected - slack), min(high, expected + slack + len(places))
        first = first_index(ranks, _texts(*_expand(data, places, stops, two_byte_lengths, tokens)), low, high)
        if first is not None:
            heads[first : first + len(places)], ends[first : first + len(places)] = places, stops
    return heads, ends


def _texts(characters: NDArray[np.uint8], bounds: NDArray[np.int64]) -> list[bytes]:
    """The names without their letters."""
    text, limits = characters.tobytes(), bounds.tolist()
    return [text[a + 1 : b] for a, b in pairwise(limits)]


def moved(tokens: TokenTable, distance: int) -> TokenTable:
    """The token table as a segment that begins ``distance`` bytes lower has it."""
    index = None if tokens.index_offset is None else tokens.index_offset + distance
    return replace(tokens, offset=tokens.offset + distance, index_offset=index)
