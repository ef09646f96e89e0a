"""Find and prove the token table by its index: 256 strings, and 256 16-bit numbers that are exactly their offsets.

This holds in every release since 2.6.10 (scripts/kallsyms.c). The equation is practically unique. It also gives the
byte order, and the table's start even where the bytes before the table are not zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct
from kallsift.memory.segments import BytesSegment

FIRST_DIGIT = ord("0")
CODES = 256
INDEX_SIZE = 2 * CODES
MAX_TABLE = 1 << 16
"""Highest size of a token table in bytes: the index holds 16-bit offsets."""

MAX_PADDING = 256
"""Highest alignment of a table in bytes, so also a bound of the padding between two neighbours: .align 8 where the
assembler takes it for a power of two (arm64 and others, up to 4.20)."""

ALIGNMENT = 4
"""Lowest alignment of a table in bytes."""


@dataclass(frozen=True, eq=False)
class TokenTable:
    """A token table that its index proves.

    Attributes:
        offset: offset of the first string in its segment's data.
        index_offset: offset of the index in its segment's data; None if it is lost.
        starts: shape (257,), int64; token k is ``strings[starts[k]:starts[k + 1] - 1]``, with a NUL behind it.
        strings: the table's bytes, uint8.
        byte_order: byte order of the index, ``"<"`` or ``">"``.
        known: shape (256,), bool, mask of the tokens whose bytes survive; None where all do.
        stored: whether the table is in memory at all; where names are not compressed, each code is a token of its own.
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
        """Size of the table in bytes, the last NUL included."""
        return len(self.strings) if self.stored else 0

    @property
    def end(self) -> int:
        """Offset behind the table and its index."""
        return self.offset + self.size if self.index_offset is None else self.index_offset + INDEX_SIZE

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of characters of each token, shape (256,)."""
        return np.diff(self.starts) - 1


def token_tables(segment: BytesSegment, digits: int, within: int | None = None) -> Iterator[TokenTable]:
    """Yield the token tables whose digits stand at offset ``digits`` of the segment.

    There is one at most, unless the bytes are contrived.

    Args:
        segment: the memory with the digits.
        digits: offset of the digits' tokens.
        within: highest distance between the table and its index, in bytes; None where only padding is between them.
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
    """Tell whether all characters can be in names, and each is a token of its own."""
    names_can_have = (strings > ord(" ")) & (strings != 0x7F) | (strings == 0)
    if not names_can_have.all():
        return False
    characters = distinct(strings[strings != 0]).astype(np.int64)
    return bool((np.diff(starts)[characters] == 2).all()) and np.array_equal(strings[starts[characters]], characters)


def lone_token_tables(segment: BytesSegment, digits: int, within: int) -> Iterator[TokenTable]:
    """Yield the token tables around digits whose index may lie apart from the table.

    If no index is found, only the letters prove the table, and it is yielded once for each byte order.

    Args:
        segment: the memory with the digits.
        digits: offset of the digits' tokens.
        within: highest distance between the table and its index, in bytes.
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
            # no kernel has empty tokens: a part of the table is blank, so the tokens behind it are numbered wrong
            return
        for byte_order in "<>":
            yield TokenTable(start, None, starts, strings, byte_order)


def _counted_strings(segment: BytesSegment, digits: int) -> tuple[int, int] | None:
    """Return start and end of the 256 strings around the digits, or None.

    The letters among them must stand for themselves.
    """
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
    # the bytes before the table need not end with a zero, but hardly end with characters of names
    strings = data[start : int(after[-1]) + 1]
    unprintable = np.flatnonzero((strings != 0) & ((strings <= ord(" ")) | (strings >= 0x7F)))
    if len(unprintable) and int(unprintable[-1]) < origin - start:
        start += int(unprintable[-1]) + 1
    start += -(segment.start + low + start) % ALIGNMENT
    if np.count_nonzero(data[start : int(after[-1]) + 1] == 0) != CODES:
        return None
    return low + start, low + int(after[-1]) + 1


def _index_places(region: NDArray[np.uint8], known: int) -> Iterator[tuple[int, str]]:
    """Yield the places at which an index can begin, each with its byte order.

    Its last entry must lie ``known`` above that of the first digit.
    """
    for odd in (0, 1):
        raw = region[odd:].tobytes()
        for byte_order in "<>":
            entries = np.frombuffer(raw[: len(raw) // 2 * 2], byte_order + "u2").astype(np.int64)
            places = max(0, len(entries) - CODES + 1)
            distance = entries[CODES - 1 :] - entries[FIRST_DIGIT : FIRST_DIGIT + places]
            for place in np.flatnonzero((distance == known) & (entries[:places] == 0)):
                yield 2 * int(place) + odd, byte_order


def moved(tokens: TokenTable, distance: int) -> TokenTable:
    """Return the token table for a segment that begins ``distance`` bytes lower."""
    index = None if tokens.index_offset is None else tokens.index_offset + distance
    return replace(tokens, offset=tokens.offset + distance, index_offset=index)
