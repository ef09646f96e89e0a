"""Find the places where a kdump lacks blocks, and read the file with holes there.

Everything behind a missing block stands too early; at the end of the file, by the distance of the last page's end from
the end of the file. If several blocks are missing, the pages between them stand too early by less. The blocks are found
one after the other, each by pages that decompress at that distance from their descriptors' offsets.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kallsift.memory.formats.kdump.bitmap import described
from kallsift.memory.formats.kdump.descriptors import (
    GRAIN,
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
from kallsift.memory.formats.kdump.header import KdumpHeader
from kallsift.memory.reassembled_file import Content, ReassembledFile

MAX_END_ROWS = 1 << 10
"""Highest number of descriptors of blank pages behind the last one of another page."""
MAX_BLOCKS = 8
"""Highest number of missing blocks."""
MAX_TRIES = 1 << 14
"""Highest number of offsets at which a page is tried."""
SPREAD = 16
"""Number of pages that are tried where blocks may be missing both before and behind."""


class Missing(NamedTuple):
    """A missing block: two offsets in the undamaged file between which it lies, and its size in bytes."""

    low: int
    high: int
    size: int


def without_missing_blocks(content: Content, header: KdumpHeader, remarks: list[str]) -> Content:
    """Return a file with missing blocks of its descriptors or pages as zeros.

    For each block, a remark is appended to ``remarks``.
    """
    count = described(content, header)
    if not count:
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
        content = ReassembledFile(content, np.array([0, high]), sizes, np.array([0, high - missing]))
    return content


def _first_missing(content: Content, header: KdumpHeader, count: int, behind: int) -> Missing | None:
    """Return the first missing block behind an offset.

    The result is None if none is missing, or if its place cannot be found.
    """
    start, order = header.descriptors, header.byte_order
    # a whole file needs no more than its last descriptors
    held = min(count, max(0, len(content) - start) // SIZE)
    last = rows_at(content, start + max(0, held - MAX_END_ROWS) * SIZE, min(held, MAX_END_ROWS), order)
    is_damaged = held == count and not is_table(last[-SAMPLE:], start)
    missing = _end(last) - len(content)
    if (is_damaged and behind) or (not is_damaged and missing <= 0):
        return None
    rows = rows_at(content, start, held, order)
    if is_damaged:
        return _missing_rows(content, rows, header)
    packed = packed_rows(rows[links(rows)])
    return _missing_pages(content, packed[packed["offset"] >= behind], missing)


def _end(rows: Rows) -> int:
    """Return the file offset behind the last page of some descriptors."""
    rows = rows[links(rows)]
    return int((rows["offset"] + rows["size"].astype(np.uint64)).max(initial=0))


def _missing_pages(content: Content, packed: Rows, missing: int) -> Missing | None:
    """Return the first block that is missing from the pages.

    Args:
        content: the file.
        packed: descriptors of compressed pages.
        missing: number of bytes that the file lacks in all.
    """
    if not do_unpack(content, packed[-TRIED_PAGES:], missing):
        return None
    # uncompressed pages cannot be tested: all pages between two that decompress count as lost
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
    """Return the index of the first descriptor for which ``is_behind`` is true."""
    low, high = 0, len(rows)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_behind(rows[middle : middle + TRIED_PAGES]) else (middle + 1, high)
    return low


def _is_behind(content: Content, low: int, missing: int, rows: Rows) -> bool:
    """Tell whether pages decompress that stand ``missing`` bytes too early.

    They must lie behind the missing block, which begins at ``low``.
    """
    return int(rows["offset"][0]) >= low + missing and _all_unpack(content, missing, rows)


def _between(content: Content, packed: Rows, block: range, tries: int) -> tuple[int, int, int]:
    """Find pages that stand too early, but by less than those behind them.

    Args:
        content: the file.
        packed: descriptors of the pages.
        block: range of the missing bytes, if they are only one block.
        tries: number of tries that are left.

    Returns:
        The index of the first of these pages, the distance (0 if there are none), and the number of tries that are
        left.
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
    """Return by how many bytes some pages stand too early, and the rest of the tries.

    The first is 0 if no distance is found.
    """
    for shift in range(GRAIN, most + 1, GRAIN):
        if not tries:
            break
        tries -= 1
        if len(rows) > 1 and _all_unpack(content, shift, rows):
            return shift, tries
    return 0, tries


def _all_unpack(content: Content, lost: int, rows: Rows) -> bool:
    return all(page_size(content, row, lost) is not None for row in rows)


def _missing_rows(content: Content, rows: Rows, header: KdumpHeader) -> Missing | None:
    """Return the first block that is missing from the descriptors.

    Descriptors behind it stand too early, and so do all pages. The size of the block is the distance of the pages from
    the offsets in the descriptors before it.
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
    # a descriptor that is cut itself may seem to be linked, so one more counts as lost on each side
    return Missing(start + max(0, len(front) - 1) * SIZE, end + lost - max(0, last - 1) * SIZE, lost)


def _front(linked: NDArray[np.bool_]) -> int:
    """Return how many descriptors are linked before some are missing."""
    gap = first_gap(linked)
    # if whole descriptors are missing, only one descriptor is unlinked
    return int(np.argmin(np.append(linked, False))) if gap is None else gap
