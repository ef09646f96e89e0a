"""The token table and its index: 256 strings, and 256 16-bit numbers which are exactly their offsets.

Holds in every release since 2.6.10 (scripts/kallsyms.c); the equation is practically unique, also fixes the byte
order, and gives the table's start even where the bytes before it are not zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct
from kallsift.memory.memory import Segment

FIRST_DIGIT = ord("0")
CODES = 256
INDEX_SIZE = 2 * CODES
MAX_TABLE = 1 << 16
"""Bytes of a token table at most: the index holds 16-bit offsets."""

MAX_PADDING = 256
"""What tables are aligned to at most, so the bytes between two neighbours: .align 8 where the assembler takes it for
a power of two (arm64 and others, up to 4.20)."""

ALIGNMENT = 4
"""Of every table, in bytes, at least."""


@dataclass(frozen=True, eq=False)
class TokenTable:
    """A token table that its index proves.

    Attributes:
        offset: of the first string in its segment's data.
        index_offset: of the index in its segment's data; None if it is lost.
        starts: shape (257,), int64; token k is ``strings[starts[k]:starts[k + 1] - 1]``, a NUL behind it.
        strings: the table's bytes, uint8.
        byte_order: ``"<"`` or ``">"``, as the index shows it.
        known: shape (256,), bool, the tokens whose bytes survive; None where all do.
        stored: whether it stands there at all; where names are not compressed, each code is a token of its own.
    """

    offset: int
    index_offset: int | None
    starts: NDArray[np.int64]
    strings: NDArray[np.uint8]
    byte_order: str
    known: NDArray[np.bool_] | None = None
    stored: bool = True

    @property
    def size(self) -> int:
        """Bytes of the table, the last NUL included."""
        return len(self.strings) if self.stored else 0

    @property
    def end(self) -> int:
        """Offset behind the table and its index."""
        return self.offset + self.size if self.index_offset is None else self.index_offset + INDEX_SIZE

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Characters of each token, shape (256,)."""
        return np.diff(self.starts) - 1


def token_tables(segment: Segment, digits: int, within: int | None = None) -> Iterator[TokenTable]:
    """The token tables whose digits stand at offset ``digits`` of the segment (one, unless the bytes are contrived).

    Args:
        segment: the memory that holds the digits.
        digits: offset of the digits' tokens.
        within: how far from the table its index can lie, in bytes; None where only padding is between them.
    """
    low = max(0, digits - MAX_TABLE)
    data = segment.data[low : digits + MAX_TABLE]
    origin = digits - low
    nuls = np.flatnonzero(data[origin:] == 0)[: CODES - FIRST_DIGIT] + origin
    if len(nuls) < CODES - FIRST_DIGIT:
        return
    end = int(nuls[-1]) + 1
    known = int(nuls[-2]) + 1 - origin
    first = low + end if within is None else max(0, low - within)
    last = low + end + (MAX_PADDING if within is None else within) + INDEX_SIZE
    for gap, byte_order in _index_places(segment.data[first:last], known):
        place = first + gap
        index = np.frombuffer(segment.data[place : place + INDEX_SIZE].tobytes(), byte_order + "u2").astype(np.int64)
        start = origin - int(index[FIRST_DIGIT])
        if start < 0:
            continue
        strings = data[start:end]
        starts = np.concatenate(([0], np.flatnonzero(strings == 0) + 1))
        if len(starts) == CODES + 1 and np.array_equal(starts[:-1], index) and _stand_for_themselves(strings, starts):
            yield TokenTable(low + start, place, starts, strings, byte_order)


def _stand_for_themselves(strings: NDArray[np.uint8], starts: NDArray[np.int64]) -> bool:
    """Whether the strings have characters of names only, each of which is a token of its own."""
    names_can_have = (strings > ord(" ")) & (strings != 0x7F) | (strings == 0)
    if not names_can_have.all():
        return False
    characters = distinct(strings[strings != 0]).astype(np.int64)
    return bool((np.diff(starts)[characters] == 2).all()) and np.array_equal(strings[starts[characters]], characters)


def lone_token_tables(segment: Segment, digits: int, within: int) -> Iterator[TokenTable]:
    """The token table around the digits at offset ``digits`` where no index follows it.

    The index is looked for elsewhere; without one, the table is proved only by its letters, and yielded once for each
    byte order.

    Args:
        segment: the memory that holds the digits.
        digits: offset of the digits' tokens.
        within: how far from the table the index can lie, in bytes.
    """
    place = _counted_strings(segment, digits)
    if place is None:
        return
    found = False
    for tokens in token_tables(segment, digits, within):
        found = True
        yield tokens
    if not found:
        start, end = place
        strings = segment.data[start:end]
        starts = np.concatenate(([0], np.flatnonzero(strings == 0) + 1))
        if (np.diff(starts) == 1).any():
            # no kernel has empty tokens: a part of the table is blank, and those behind it are not the ones they seem
            return
        for byte_order in "<>":
            yield TokenTable(start, None, starts, strings, byte_order)


def _counted_strings(segment: Segment, digits: int) -> tuple[int, int] | None:
    """Start and end of the 256 strings around the digits, if in them the letters stand for themselves."""
    low = max(0, digits - MAX_TABLE)
    data = segment.data[low : digits + MAX_TABLE]
    origin = digits - low
    after = np.flatnonzero(data[origin:] == 0)[: CODES - FIRST_DIGIT] + origin
    before = np.flatnonzero(data[:origin] == 0)[-FIRST_DIGIT - 1 :]
    if len(after) < CODES - FIRST_DIGIT or len(before) < FIRST_DIGIT:
        return None
    starts = np.concatenate(([origin], after + 1))
    characters = distinct(data[origin : int(after[-1])]).astype(np.int64)
    if not ((characters == 0) | (characters > ord(" "))).all():
        return None
    own = characters[characters >= FIRST_DIGIT] - FIRST_DIGIT
    if not ((np.diff(starts)[own] == 2).all() and np.array_equal(data[starts[own]], own + FIRST_DIGIT)):
        return None
    start = int(before[0]) + 1 if len(before) > FIRST_DIGIT else 0
    # what stands before the table can end without a zero, but hardly with characters of names
    strings = data[start : int(after[-1]) + 1]
    strange = np.flatnonzero((strings != 0) & ((strings <= ord(" ")) | (strings >= 0x7F)))
    if len(strange) and int(strange[-1]) < origin - start:
        start += int(strange[-1]) + 1
    start += -(segment.start + low + start) % ALIGNMENT
    if np.count_nonzero(data[start : int(after[-1]) + 1] == 0) != CODES:
        return None
    return low + start, low + int(after[-1]) + 1


def _index_places(region: NDArray[np.uint8], known: int) -> Iterator[tuple[int, str]]:
    """Where an index can begin whose last entry lies ``known`` above that of the first digit, and its byte order."""
    for odd in (0, 1):
        raw = region[odd:].tobytes()
        for byte_order in "<>":
            entries = np.frombuffer(raw[: len(raw) // 2 * 2], byte_order + "u2").astype(np.int64)
            places = max(0, len(entries) - CODES + 1)
            distance = entries[CODES - 1 :] - entries[FIRST_DIGIT : FIRST_DIGIT + places]
            for place in np.flatnonzero((distance == known) & (entries[:places] == 0)):
                yield 2 * int(place) + odd, byte_order


def moved(tokens: TokenTable, distance: int) -> TokenTable:
    """Return the token table as a segment that begins ``distance`` bytes lower has it."""
    index = None if tokens.index_offset is None else tokens.index_offset + distance
    return replace(tokens, offset=tokens.offset + distance, index_offset=index)
