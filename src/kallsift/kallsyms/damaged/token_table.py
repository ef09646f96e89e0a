"""Recover token tables of which a part is lost, by the index, or by counting the tokens before the loss.

An index is recognised by itself: the tokens of the ten digits have one character each, so their offsets rise in steps
of two. Only in an index do 256 numbers rise from zero in such a way, with the same steps for small letters.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct
from kallsift.budget import WorkBudget
from kallsift.kallsyms.damaged.page_map import PAGE, Pages
from kallsift.kallsyms.format.token_table import (
    ALIGNMENT,
    CODES,
    FIRST_DIGIT,
    INDEX_SIZE,
    MAX_PADDING,
    MAX_TABLE,
    TokenTable,
)
from kallsift.kallsyms.token_scan import DIGITS, LANE
from kallsift.memory.segments import BytesSegment, Segment

BLOCK = 1 << 18
"""Bytes that are searched at once: the temporary arrays stay in the processor's cache."""

LEAST_KNOWN = 16
"""Lowest number of tokens that must survive: fewer can end where the index says by chance."""

DIGIT_CODES = slice(FIRST_DIGIT, FIRST_DIGIT + 10)
LETTER_CODES = slice(ord("a"), ord("z") + 1)

LEAST_LETTERS = 16
"""Lowest number of small letters that must be tokens of one character; in a kernel all are."""

_STEPS = {"<": np.uint64(0x0002_0002_0002_0000), ">": np.uint64(0x0200_0200_0200_0000)}
"""Differences between neighbouring 16-bit numbers in a lane of the digits' offsets, by byte order; numbers are read
with the lower byte first. The digits fill two lanes, and in at least one of them no lower byte overflows."""


def token_indices(stretch: Segment, budget: WorkBudget) -> Iterator[tuple[int, str]]:
    """Yield the offsets of indices in a stretch of memory, and their byte orders.

    The budget bounds the work.
    """
    last: dict[str, int] = {}
    for start in stretch.steps(BLOCK, -stretch.start % LANE):
        before = min(start, INDEX_SIZE)
        data = stretch.read(start - before, start + BLOCK + INDEX_SIZE)
        raw = data[before : before + BLOCK]
        lanes = np.ascontiguousarray(raw[: len(raw) // LANE * LANE]).view("<u8")
        steps = lanes >> np.uint64(16)
        steps -= lanes
        steps <<= np.uint64(16)
        for byte_order, wanted in _STEPS.items():
            is_hit = steps == wanted
            if not is_hit.any():
                continue
            hits = before + LANE * np.flatnonzero(is_hit)
            for place in _indices(data, hits, byte_order, budget).tolist():
                # an index across a border of blocks is found on both sides
                if start - before + place > last.get(byte_order, -1):
                    last[byte_order] = start - before + place
                    yield start - before + place, byte_order


def _indices(
    data: NDArray[np.uint8], lanes: NDArray[np.int64], byte_order: str, budget: WorkBudget
) -> NDArray[np.int64]:
    """Return the offsets at which indices begin, by lanes of the digits' offsets.

    Ascending, shape (n,).
    """
    places = distinct((lanes[:, None] - 2 * np.arange(FIRST_DIGIT, FIRST_DIGIT + 7)).ravel())
    places = places[(places >= 0) & (places <= len(data) - INDEX_SIZE)]
    places = places[(data[places] == 0) & (data[places + 1] == 0)]
    if not budget.take("tables of numbers", 2 * INDEX_SIZE * len(places), count=len(places)):
        return np.empty(0, np.int64)
    # most candidates are other tables of numbers, and fail in their first part
    for size in (INDEX_SIZE // 8, INDEX_SIZE):
        cells = np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(data, size)[places])
        index = cells.view(f"{byte_order}u2").astype(np.int64)
        is_rising = (np.diff(index, axis=1) >= 2).all(axis=1)
        places, index = places[is_rising], index[is_rising]
    steps = np.diff(index, axis=1)
    has_digits = (steps[:, DIGIT_CODES] == 2).all(axis=1)
    has_letters = np.count_nonzero(steps[:, LETTER_CODES] == 2, axis=1) >= LEAST_LETTERS
    found: NDArray[np.int64] = places[has_digits & has_letters]
    return found


def table_before(segment: BytesSegment, place: int, byte_order: str) -> TokenTable | None:
    """Return the surviving part of the token table before an index, or None.

    None if too little survives, or if nothing is lost.

    Args:
        segment: the memory with both; bytes that it lacks are zero.
        place: offset of the index.
        byte_order: byte order of the index.
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
    """Yield the offsets at which the table can begin.

    They follow from its end, before the index, and from the digits in it.
    """
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
    """Return the token table from a start on, and the number of its known tokens.

    Tokens are known on pages on which all intact tokens fit the index.
    """
    zeros = np.flatnonzero(data[start + int(index[-1]) : place] == 0)
    last = int(zeros[0]) if len(zeros) else 1
    starts = np.append(index, index[-1] + last + 1)
    strings = data[start : start + int(starts[-1])]
    places, ends = start + starts[:-1], start + starts[1:]
    known = pages.intact(places, ends)
    zeros_before = np.concatenate(([0], np.cumsum(strings == 0)))
    fits = (zeros_before[starts[1:]] - zeros_before[starts[:-1]] == 1) & (strings[starts[1:] - 1] == 0)
    unprintable = np.concatenate(([0], np.cumsum((strings != 0) & ((strings <= ord(" ")) | (strings == 0x7F)))))
    fits &= unprintable[starts[1:]] == unprintable[starts[:-1]]
    # a token of one character is that of its own code
    fits &= (np.diff(starts) != 2) | (strings[starts[:-1]] == np.arange(CODES))
    for ends_at in (places, ends - 1):
        known &= ~np.isin(pages.number(ends_at), pages.number(places[known & ~fits]))
    known &= fits
    return TokenTable(start, place, starts, strings, byte_order, known), int(np.count_nonzero(known))


def cut_token_tables(segment: BytesSegment, digits: int) -> Iterator[TokenTable]:
    """Yield the token table around digits that is cut by a blank page behind them.

    It is yielded once for each byte order.

    Args:
        segment: the memory with the digits.
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
    # the bytes before the table need not end with a zero, but hardly end with characters of names
    strings = data[start:origin]
    unprintable = np.flatnonzero((strings != 0) & ((strings <= ord(" ")) | (strings >= 0x7F)))
    start += int(unprintable[-1]) + 1 if len(unprintable) else 0
    start += -(segment.start + low + start) % ALIGNMENT
    strings = data[start : int(after[-1]) + 1]
    ends = np.flatnonzero(strings == 0) + 1
    if len(ends) != FIRST_DIGIT + len(after) or (np.diff(np.append(0, ends)) == 1).any():
        return
    # unknown tokens are empty: one more zero stands for each
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
