"""Find where a kdump lacks a block, and read it with a hole there.

Behind the block everything stands too early, by as many bytes as the last page ends behind the file.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kallsift.memory.formats.elf_notes import ByteOrder
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


def without_missing_block(content: Content, header: Header, remarks: list[str]) -> Content:
    """Return a file with a block that is missing from its descriptors or pages as zeros; ``remarks`` is told of it."""
    count = _count(content, header)
    if count is None:
        return content
    start, order = header.descriptors, header.byte_order
    last = rows_at(content, start + max(0, count - MAX_END_ROWS) * SIZE, min(count, MAX_END_ROWS), order)
    if not is_table(last[-SAMPLE:], start):
        gap = _gap_in_table(content, start, count, order)
    elif (missing := _end(last) - len(content)) > 0:
        gap = _gap_in_pages(content, rows_at(content, start, count, order), missing)
    else:
        return content
    if gap is None:
        return content
    low, high, missing = gap
    remarks.append(f"{missing} bytes are missing from the kdump, between file offsets {low:#x} and {high:#x} of it")
    sizes = np.array([low, len(content) + missing - high])
    return Rearranged(content, np.array([0, high]), sizes, np.array([0, high - missing]))


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


def _gap_in_pages(content: Content, rows: Rows, missing: int) -> tuple[int, int, int] | None:
    """Return where pages are missing, from one offset in the undamaged file to another, and how many bytes.

    Args:
        content: the file.
        rows: all descriptors.
        missing: how many bytes the file lacks.
    """
    packed = packed_rows(rows[links(rows)])
    if not do_unpack(content, packed[-TRIED_PAGES:], missing):
        return None

    def first(is_behind: Callable[[Rows], bool]) -> int:
        low, high = 0, len(packed)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if is_behind(packed[middle : middle + TRIED_PAGES]) else (middle + 1, high)
        return low

    # pages that are stored as they are tell nothing: what stands between two that unpack is lost
    last = first(lambda some: not _all_unpack(content, some, 0))
    while last < len(packed) and _all_unpack(content, packed[last : last + 1], 0):
        last += 1
    following = first(lambda some: _all_unpack(content, some, missing))
    low = int(packed["offset"][last - 1]) + int(packed["size"][last - 1]) if last else int(packed["offset"][0])
    high = int(packed["offset"][following]) if following < len(packed) else len(content) + missing
    return (low, high, missing) if low <= high - missing else None


def _all_unpack(content: Content, rows: Rows, lost: int) -> bool:
    return all(page_size(content, row, lost) is not None for row in rows)


def _gap_in_table(content: Content, start: int, count: int, order: ByteOrder) -> tuple[int, int, int] | None:
    """Return where descriptors are missing, as `_gap_in_pages`: those behind stand too early, and so do all pages.

    The last page ends behind the file by what is missing, and the last descriptor before their end by as much.
    """
    size = count * SIZE
    held_size = min(size, len(content) - start) // 8 * 8
    words = np.ascontiguousarray(content[start : start + held_size]).view(np.dtype("u8").newbyteorder(order))
    halves = words[1:].view(np.dtype("u4").newbyteorder(order))[::2]
    missing = words[:-1] + halves - np.uint64(len(content))
    behind = np.int64(size) - missing.astype(np.int64) - (np.arange(len(missing)) * 8 + SIZE)
    fits = (missing > 0) & (missing < size) & (behind >= 0) & (behind < MAX_END_ROWS * SIZE) & (behind % SIZE == 0)
    for number in np.flatnonzero(fits).tolist():
        lost = int(missing[number])
        held = count - -(-lost // SIZE)
        end = start + size - lost
        rows = rows_at(content, end - held * SIZE, held, order)
        blank = rows["offset"][held - int(behind[number]) // SIZE :]
        if not is_table(rows[-SAMPLE:], start) or (blank != blank[:1]).any():
            continue
        if not do_unpack(content, packed_rows(rows)[-TRIED_PAGES:], lost):
            continue
        first = _front(links(rows_at(content, start, held, order), start))
        last = _front(links(rows, start)[::-1])
        # one that is cut itself may seem to lead on
        return start + max(0, first - 1) * SIZE, end + lost - max(0, last - 1) * SIZE, lost
    return None


def _front(linked: NDArray[np.bool_]) -> int:
    """Return how many descriptors lead from one to the next before some are missing."""
    gap = first_gap(linked)
    # if whole descriptors are missing, there is but one that does not
    return int(np.argmin(np.append(linked, False))) if gap is None else gap
