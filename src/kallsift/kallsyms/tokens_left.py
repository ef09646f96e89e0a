"""Token tables of which a part is lost: the index tells where each token was, or, before the loss, the count of them.

An index is found by itself: the tokens of the ten digits have one character each, so their offsets rise in steps of
two, and in no place but an index do 256 numbers rise from zero with those of small letters doing so as well.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.pages import PAGE, Pages
from kallsift.kallsyms.scan import DIGITS, LANE
from kallsift.kallsyms.tokens import (
    ALIGNMENT,
    CODES,
    FIRST_DIGIT,
    INDEX_SIZE,
    MAX_PADDING,
    MAX_TABLE,
    TokenTable,
)
from kallsift.memory.model import Segment, Stretch

BLOCK = 1 << 20
"""Bytes that are looked at at once."""

MAX_INDICES = 64
"""Indices without a whole table that are followed."""

MAX_HITS = 1 << 17
"""Places that are looked at more closely: most are other tables of numbers."""

LEAST_KNOWN = 16
"""Tokens that must survive: fewer end where the index says by chance."""

DIGIT_CODES = slice(FIRST_DIGIT, FIRST_DIGIT + 10)
LETTER_CODES = slice(ord("a"), ord("z") + 1)

LEAST_LETTERS = 16
"""Small letters that names have; those of a kernel have all."""

_STEPS = np.uint64(0x0002_0002_0002_0000)


def token_indices(stretch: Stretch) -> Iterator[tuple[int, str]]:
    """Where indices stand in a stretch of memory, and their byte orders."""
    found = looked = 0
    first = -stretch.start % LANE
    for start in stretch.steps(BLOCK, first):
        before = min(start, INDEX_SIZE)
        data = stretch.read(start - before, start + BLOCK + INDEX_SIZE)
        raw = data[before : before + BLOCK]
        for byte_order in "<>":
            lanes = np.frombuffer(raw[: len(raw) // LANE * LANE].tobytes(), f"{byte_order}u8").astype(np.uint64)
            further = lanes >> np.uint64(16)
            steps = further - lanes if byte_order == "<" else lanes - further
            hits = np.flatnonzero(steps << np.uint64(16) == _STEPS)
            looked += len(hits)
            if looked > MAX_HITS:
                return
            for lane in hits.tolist():
                for code in range(FIRST_DIGIT, FIRST_DIGIT + 7):
                    place = before + LANE * lane - 2 * code
                    if place >= 0 and _is_index(data[place : place + INDEX_SIZE], byte_order):
                        found += 1
                        yield start - before + place, byte_order
                if found >= MAX_INDICES:
                    return


def _is_index(raw: NDArray[np.uint8], byte_order: str) -> bool:
    if len(raw) < INDEX_SIZE:
        return False
    index = np.frombuffer(raw.tobytes(), f"{byte_order}u2").astype(np.int64)
    steps = np.diff(index)
    alone = (steps[DIGIT_CODES] == 2).all() and np.count_nonzero(steps[LETTER_CODES] == 2) >= LEAST_LETTERS
    return bool(index[0] == 0 and (steps >= 2).all() and alone)


def table_before(segment: Segment, place: int, byte_order: str) -> TokenTable | None:
    """What is left of the token table before an index; None if too little is, or nothing is lost.

    Args:
        segment: the memory that holds both; what it lacks is zero.
        place: offset of the index.
        byte_order: of the index.
    """
    data = segment.data
    index = np.frombuffer(data[place : place + INDEX_SIZE].tobytes(), f"{byte_order}u2").astype(np.int64)
    low = max(0, place - MAX_TABLE)
    pages = Pages.blank(segment, low, place)
    best, most = None, LEAST_KNOWN - 1
    for start in dict.fromkeys(_starts(data, low, place, index)):
        if start < low or (segment.start + start) % ALIGNMENT or start + int(index[-1]) + 2 > place:
            continue
        tokens, known = _as_indexed(data, pages, start, place, index, byte_order)
        if known > most:
            best, most = tokens, known
    return best if most < CODES else None


def _starts(data: NDArray[np.uint8], low: int, place: int, index: NDArray[np.int64]) -> Iterator[int]:
    """Where the table can begin: as its end, before the index, or the digits in it say."""
    behind = np.flatnonzero(data[max(low, place - MAX_PADDING) : place])
    if len(behind):
        last = max(low, place - MAX_PADDING) + int(behind[-1])
        zeros = np.flatnonzero(data[low:last] == 0)
        if len(zeros):
            yield low + int(zeros[-1]) + 1 - int(index[-1])
    digits = data[low:place].tobytes().rfind(DIGITS)
    if digits >= 0:
        yield low + digits - int(index[FIRST_DIGIT])


def _as_indexed(
    data: NDArray[np.uint8], pages: Pages, start: int, place: int, index: NDArray[np.int64], byte_order: str
) -> tuple[TokenTable, int]:
    """The table from a start on, with those tokens known that are on pages all of whose tokens fit; and how many."""
    zeros = np.flatnonzero(data[start + int(index[-1]) : place] == 0)
    last = int(zeros[0]) if len(zeros) else 1
    starts = np.append(index, index[-1] + last + 1)
    strings = data[start : start + int(starts[-1])]
    places, ends = start + starts[:-1], start + starts[1:]
    known = pages.intact(places, ends)
    zeros_before = np.concatenate(([0], np.cumsum(strings == 0)))
    fits = (zeros_before[starts[1:]] - zeros_before[starts[:-1]] == 1) & (strings[starts[1:] - 1] == 0)
    strange = np.concatenate(([0], np.cumsum((strings != 0) & ((strings <= ord(" ")) | (strings == 0x7F)))))
    fits &= strange[starts[1:]] == strange[starts[:-1]]
    # a token of one character is that of its own code
    fits &= (np.diff(starts) != 2) | (strings[starts[:-1]] == np.arange(CODES))
    for ends_at in (places, ends - 1):
        known &= ~np.isin(pages.number(ends_at), pages.number(places[known & ~fits]))
    known &= fits
    return TokenTable(start, place, starts, strings, byte_order, known), int(np.count_nonzero(known))


def cut_token_tables(segment: Segment, digits: int) -> Iterator[TokenTable]:
    """The token table around digits where a page behind them is blank, once for each byte order.

    Args:
        segment: the memory that holds the digits.
        digits: offset of the digits' tokens.
    """
    low = max(0, digits - MAX_TABLE)
    pages = Pages.blank(segment, low, min(digits + MAX_TABLE, len(segment.data)))
    lost = np.flatnonzero(pages.lost)
    lost = lost[lost > int(pages.number(np.array([digits]))[0])]
    if not len(lost):
        return
    cut = int(lost[0]) * PAGE + pages.first
    data = segment.data[low:cut]
    origin = digits - low
    after = np.flatnonzero(data[origin:] == 0)[: CODES - FIRST_DIGIT] + origin
    before = np.flatnonzero(data[:origin] == 0)[-FIRST_DIGIT - 1 :]
    if len(after) == CODES - FIRST_DIGIT or len(before) < FIRST_DIGIT or (np.diff(after) == 1).any():
        return
    start = int(before[0]) + 1 if len(before) > FIRST_DIGIT else 0
    # what stands before the table can end without a zero, but hardly with characters of names
    strings = data[start:origin]
    strange = np.flatnonzero((strings != 0) & ((strings <= ord(" ")) | (strings >= 0x7F)))
    start += int(strange[-1]) + 1 if len(strange) else 0
    start += -(segment.start + low + start) % ALIGNMENT
    strings = data[start : int(after[-1]) + 1]
    ends = np.flatnonzero(strings == 0) + 1
    if len(ends) != FIRST_DIGIT + len(after) or (np.diff(np.append(0, ends)) == 1).any():
        return
    # an unknown token is empty: one zero more stands for all of them
    starts = np.append(np.append(0, ends), np.arange(CODES - len(ends)) + len(strings) + 1)
    known = np.arange(CODES) < len(ends)
    codes = np.arange(FIRST_DIGIT, len(ends))
    single = np.isin(strings, codes)
    characters = np.unique(strings[single]).astype(np.int64)
    if not np.array_equal(strings[starts[characters]], characters) or (np.diff(starts)[characters] != 2).any():
        return
    padded = np.append(strings, np.zeros(CODES - len(ends), np.uint8))
    for byte_order in "<>":
        yield TokenTable(low + start, None, starts, padded, byte_order, known)
