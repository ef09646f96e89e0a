"""Find where a kdump lacks blocks, and read it with holes there.

Behind a block everything stands too early; at the end, by as many bytes as the last page ends behind the file. If
several blocks are missing, pages between them stand too early by less: they are found one after the other, each by
pages that unpack so far from where they are said to be.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kallsift.memory.formats.kdump.descriptors import (
    SAMPLE,
    SIZE,
    TRIED_PAGES,
    Rows,
    do_unpack,
    first_gap,
    is_table,
    links,
    packed_rows,
    page_size,
    rows_at,
)
from kallsift.memory.formats.kdump.header import Header
from kallsift.memory.reassembled_file import Content, Rearranged

MAX_END_ROWS = 1 << 10
"""Descriptors of blank pages behind the last one of another page."""
GRAIN = 4096
"""A block that is missing is of whole pages."""
MAX_BLOCKS = 8
"""Blocks that are missing at most."""
MAX_TRIES = 1 << 14
"""Places at which a page is tried."""
SPREAD = 16
"""Pages that are tried where blocks are missing before and behind."""


class Missing(NamedTuple):
    """A block that is missing: between two offsets in the undamaged file, and how many bytes."""

    low: int
    high: int
    size: int


def without_missing_blocks(content: Content, header: Header, remarks: list[str]) -> Content:
    """Return a file with blocks that are missing from its descriptors or pages as zeros; ``remarks`` is told of it."""
    count = _count(content, header)
    if count is None:
        return content
    behind = 0
    for _ in range(MAX_BLOCKS):
        block = _first_missing(content, header, count, behind)
        if block is None:
            break
        low, high, missing = block
        behind = high
        remarks.append(f"{missing} bytes are missing from the kdump, between file offsets {low:#x} and {high:#x} of it")
        sizes = np.array([low, len(content) + missing - high])
        content = Rearranged(content, np.array([0, high]), sizes, np.array([0, high - missing]))
    return content


def _first_missing(content: Content, header: Header, count: int, behind: int) -> Missing | None:
    """Return the first block that is missing behind an offset; None if none is, or if nothing tells where."""
    start, order = header.descriptors, header.byte_order
    rows = rows_at(content, start, count, order)
    last = rows[-MAX_END_ROWS:]
    if len(rows) == count and not is_table(last[-SAMPLE:], start):
        return _missing_rows(content, rows, header) if not behind else None
    missing = _end(last) - len(content)
    if missing <= 0:
        return None
    packed = packed_rows(rows[links(rows)])
    return _missing_pages(content, packed[packed["offset"] >= behind], missing)


def _count(content: Content, header: Header) -> int | None:
    """Return how many descriptors there are, as the offset of the first page tells; None if it does not."""
    rows = rows_at(content, header.descriptors, MAX_END_ROWS, header.byte_order)
    offsets = rows["offset"][rows["offset"] > header.descriptors]
    size, rest = divmod(int(offsets.min()) - header.descriptors, SIZE) if len(offsets) else (0, 1)
    return None if rest or not size else size


def _end(rows: Rows) -> int:
    """Return the file offset behind the last page of some descriptors."""
    rows = rows[links(rows)]
    return int((rows["offset"] + rows["size"].astype(np.uint64)).max(initial=0))


def _missing_pages(content: Content, packed: Rows, missing: int) -> Missing | None:
    """Return the first block that is missing from the pages.

    Args:
        content: the file.
        packed: the descriptors of packed pages.
        missing: how many bytes the file lacks in all.
    """
    if not do_unpack(content, packed[-TRIED_PAGES:], missing):
        return None
    # pages that are stored as they are tell nothing: what stands between two that unpack is lost
    last = _first(packed, lambda some: not _all_unpack(content, 0, some))
    while last < len(packed) and _all_unpack(content, 0, packed[last : last + 1]):
        last += 1
    low = int(packed["offset"][last - 1]) + int(packed["size"][last - 1]) if last else int(packed["offset"][0])
    packed = packed[last:]
    tries = MAX_TRIES
    while True:
        following = _first(packed, partial(_is_behind, content, low, missing))
        number, less, tries = _between(content, packed[:following], range(low, low + missing), tries)
        if not less:
            break
        packed, missing = packed[: number + TRIED_PAGES], less
    high = int(packed["offset"][following]) if following < len(packed) else len(content) + missing
    return Missing(low, high, missing) if low <= high - missing else None


def _first(rows: Rows, is_behind: Callable[[Rows], bool]) -> int:
    """Return the number of the first of some descriptors that are behind something."""
    low, high = 0, len(rows)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_behind(rows[middle : middle + TRIED_PAGES]) else (middle + 1, high)
    return low


def _is_behind(content: Content, low: int, missing: int, rows: Rows) -> bool:
    """Tell whether pages unpack that stand too early by what is missing behind an offset."""
    return int(rows["offset"][0]) >= low + missing and _all_unpack(content, missing, rows)


def _between(content: Content, packed: Rows, block: range, tries: int) -> tuple[int, int, int]:
    """Find pages that stand too early, but by less than those behind them.

    Args:
        content: the file.
        packed: their descriptors.
        block: what is missing if it is but one block.
        tries: how many are left.

    Returns:
        The number of the first of them, by how much they do (0 if there are none), and how many tries are left.
    """
    numbers = np.unique(np.linspace(0, max(0, len(packed) - TRIED_PAGES), SPREAD).astype(np.int64))
    for number in numbers[: len(packed)].tolist():
        rows = packed[number : number + TRIED_PAGES]
        most = min(len(block) - GRAIN, int(rows["offset"][0]) - block.start)
        less, tries = _shift(content, rows, most, tries)
        if less:
            return number, less, tries
    return 0, 0, tries


def _shift(content: Content, rows: Rows, most: int, tries: int) -> tuple[int, int]:
    """Return by how much some pages stand too early, 0 if that is not found; and how many tries are left."""
    for shift in range(GRAIN, most + 1, GRAIN):
        if not tries:
            break
        tries -= 1
        if len(rows) > 1 and _all_unpack(content, shift, rows):
            return shift, tries
    return 0, tries


def _all_unpack(content: Content, lost: int, rows: Rows) -> bool:
    return all(page_size(content, row, lost) is not None for row in rows)


def _missing_rows(content: Content, rows: Rows, header: Header) -> Missing | None:
    """Return the first block that is missing from the descriptors: those behind stand too early, and so do all pages.

    How far the pages stand from where the descriptors before the block say tells how much is missing.
    """
    start, order, count = header.descriptors, header.byte_order, len(rows)
    front = rows[: _front(links(rows, start))]
    packed, tries = packed_rows(front), MAX_TRIES
    lost, number = 0, 0
    while not lost and number < len(packed) and tries:
        lost, tries = _shift(content, packed[number : number + TRIED_PAGES], count * SIZE, tries)
        number = 2 * number + TRIED_PAGES
    held, end = count - -(-lost // SIZE), start + count * SIZE - lost
    behind = rows_at(content, end - held * SIZE, held, order)
    if not lost or not is_table(behind[-SAMPLE:], start):
        return None
    last = _front(links(behind, start)[::-1])
    # one that is cut itself may seem to lead on
    return Missing(start + max(0, len(front) - 1) * SIZE, end + lost - max(0, last - 1) * SIZE, lost)


def _front(linked: NDArray[np.bool_]) -> int:
    """Return how many descriptors lead from one to the next before some are missing."""
    gap = first_gap(linked)
    # if whole descriptors are missing, there is but one that does not
    return int(np.argmin(np.append(linked, False))) if gap is None else gap
