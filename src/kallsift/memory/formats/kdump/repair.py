"""Read kdumps whose headers are damaged, or that lack a block: by what their parts say of each other.

The page descriptors give each other away: each page begins where the one before it ends, and the first one behind the
last descriptor. From where they begin and how many there are follows the rest: the bitmap of the pages in the file
stands before them and has as many bits; a page that is unpacked tells the size of a page. Behind a missing block
everything stands as many bytes too early as the last page ends behind the file.

Source: makedumpfile, IMPLEMENTATION.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import frequent
from kallsift.compression.optional_package import MissingPackageError
from kallsift.compression.page_codecs import CODECS, COMPRESSED
from kallsift.memory.formats.elf_notes import ByteOrder
from kallsift.memory.formats.kdump.header import (
    DESCRIPTOR,
    DISKDUMP,
    KDUMP,
    LARGEST_BLOCK,
    LATEST,
    ORDERS,
    SMALLEST_BLOCK,
    Header,
    main_header,
)
from kallsift.memory.reassembled_file import Content, Rearranged

GRAIN = 4096
"""Descriptors begin at a block's bounds, and a block that is missing from a file is of whole pages."""
MAX_TABLE_START = 1 << 28
"""File offset before which descriptors begin: the bitmaps of 4 TiB of memory are as large."""
ROWS = 1 << 16
"""Descriptors that are looked at together."""
SAMPLE = 64
MIN_LINKED = 0.9
"""Share of descriptors that lead to where the page before them ends."""
MIN_GAP = 8
"""Descriptors in a row that lead nowhere: behind these there are none, or a part is missing."""
MAX_CANDIDATES = 1 << 8
"""Places of `ROWS` at which descriptors may begin that are looked at."""
TRIED_PAGES = 8
"""Pages that must unpack to show that they stand where they are said to."""
MAX_END_ROWS = 1 << 10
"""Descriptors of blank pages behind the last one of another page."""

SIZE = DESCRIPTOR.itemsize

Rows = NDArray[np.void]


class Table(NamedTuple):
    """Where descriptors stand: byte order, file offset, how many, and how many bytes are missing before them."""

    order: ByteOrder
    start: int
    length: int
    missing: int


def repaired(content: Content, header: Header | None) -> tuple[Content, Header, list[str]] | None:
    """Return a kdump as it was before it was damaged, its header, and remarks; None if that cannot be told.

    Args:
        content: the file.
        header: what its headers say; None if that makes no sense.
    """
    if header is not None and _is_table(
        _rows(content, header.descriptors, SAMPLE, header.byte_order), header.descriptors
    ):
        remarks: list[str] = []
        content = _without_cut(content, header, remarks)
        return content, header, remarks
    told = header or main_header(content)
    for table in _tables(content):
        if (found := _header(content, table, told)) is None:
            continue
        remarks = ["the kdump's header is damaged: what it says is taken from its bitmaps and page descriptors"]
        if table.missing:
            remarks = [f"{table.missing} bytes are missing before the kdump's page descriptors"]
            starts = np.array([0, table.start + table.missing])
            sizes = np.array([table.start, len(content) - table.start])
            content = Rearranged(content, starts, sizes, np.array([0, table.start]))
            found = replace(found, descriptors=found.descriptors + table.missing)
        return content, found, remarks
    return None


def _rows(content: Content, start: int, count: int, order: ByteOrder) -> Rows:
    """Descriptors from a file offset on, fewer where the file ends before."""
    data = np.ascontiguousarray(content[start : start + count * SIZE])
    return data[: len(data) // SIZE * SIZE].view(DESCRIPTOR.newbyteorder(order))


def _can_be_pages(rows: Rows) -> NDArray[np.bool_]:
    """Tell which descriptors can be of a page, wherever that stands."""
    fits: NDArray[np.bool_] = (rows["size"] > 0) & (rows["size"] <= LARGEST_BLOCK) & (rows["flags"] < 2 * COMPRESSED)
    return fits


def _links(rows: Rows, start: int = 0) -> NDArray[np.bool_]:
    """Tell of each descriptor whether its page begins where the last one before it ends, or is the blank one again.

    Args:
        rows: the descriptors, in a row.
        start: where the first of all descriptors stands; pages stand behind it.
    """
    offsets, sizes = rows["offset"].astype(np.uint64), rows["size"].astype(np.uint64)
    linked = _can_be_pages(rows) & (offsets > np.uint64(start))
    if linked.any():
        shared, counts = frequent(offsets[linked], 2)
        others = np.flatnonzero(offsets != (shared[np.argmax(counts)] if len(shared) else np.uint64(0)))
        linked[others[1:]] &= offsets[others[1:]] == offsets[others[:-1]] + sizes[others[:-1]]
    return linked


def _first_gap(linked: NDArray[np.bool_]) -> int | None:
    """Return the first of several descriptors in a row of which none leads on from the one before; None if all do."""
    if len(linked) < MIN_GAP:
        return None
    gone = np.convolve(~linked, np.ones(MIN_GAP, np.int64), "valid") == MIN_GAP
    return int(np.argmax(gone)) if gone.any() else None


def _is_table(rows: Rows, start: int) -> bool:
    return len(rows) > 1 and float(_links(rows, start).mean()) >= MIN_LINKED


def _tables(content: Content) -> Iterator[Table]:
    """Yield where descriptors may begin, and how many they are."""
    end = min(len(content), MAX_TABLE_START)
    for low in range(0, end, ROWS * GRAIN):
        data = content[low : min(low + ROWS * GRAIN, end)]
        blocks = np.lib.stride_tricks.as_strided(data, (max(0, len(data) - 2 * SIZE) // GRAIN, 2 * SIZE), (GRAIN, 1))
        for order in ORDERS:
            rows = np.ascontiguousarray(blocks).view(DESCRIPTOR.newbyteorder(order))
            first, second = rows[:, 0], rows[:, 1]
            fits = _can_be_pages(first) & _can_be_pages(second)
            for row in (first, second):
                fits &= (row["offset"] > low) & (row["offset"] < 2 * len(content))
            for start in (np.flatnonzero(fits)[:MAX_CANDIDATES] * GRAIN + low).tolist():
                if _is_table(_rows(content, start, SAMPLE, order), start) and (table := _table(content, start, order)):
                    yield table


def _table(content: Content, start: int, order: ByteOrder) -> Table | None:
    """Return the descriptors that begin at a file offset; None if they do not lead to pages."""
    count, first = 0, (1 << 63) - 1
    while len(rows := _rows(content, start + count * SIZE, ROWS, order)):
        linked = _links(rows, start)
        gap = _first_gap(linked)
        number = len(rows) if gap is None else gap
        count += number
        first = int(rows["offset"][:number][linked[:number]].min(initial=np.uint64(first)))
        if number < len(rows):
            break
    missing = first - start - count * SIZE
    for lost in dict.fromkeys((0, missing)):
        if lost >= 0 and _unpack(content, _rows(content, start, min(count, ROWS), order), lost):
            # where nothing is missing, the first page tells better than damaged descriptors how many there are
            return Table(order, start, count + missing // SIZE if not lost and not missing % SIZE else count, lost)
    return None


def _unpack(content: Content, rows: Rows, lost: int) -> bool:
    """Tell whether pages unpack that stand so many bytes before where their descriptors say."""
    sizes = [_page_size(content, row, lost) for row in _packed(rows)[:TRIED_PAGES]]
    # of pages that are all stored as they are nothing tells
    return 2 * sum(size is not None for size in sizes) > len(sizes) or not (sizes or lost)


def _packed(rows: Rows) -> Rows:
    """Return the descriptors of pages that are packed, each page once."""
    packed = rows[np.isin(rows["flags"] & COMPRESSED, tuple(CODECS))]
    return packed[np.sort(np.unique(packed["offset"], return_index=True)[1])]


def _page_size(content: Content, row: np.void, lost: int) -> int | None:
    """Return the bytes of a packed page; None if it does not unpack."""
    start, size = int(row["offset"]) - lost, min(int(row["size"]), LARGEST_BLOCK)
    if start < 0:
        return None
    packed = np.ascontiguousarray(content[start : start + size])
    target = memoryview(bytearray(LARGEST_BLOCK))
    try:
        decode, error = CODECS[int(row["flags"]) & COMPRESSED][1]()
    except MissingPackageError:
        return None
    try:
        written = decode(packed.data, target)
    except (error, ValueError):
        return None
    return written if SMALLEST_BLOCK <= written <= LARGEST_BLOCK and not written & (written - 1) else None


def _header(content: Content, table: Table, header: Header | None) -> Header | None:
    """Return what the header of a file with these descriptors says; None if no bitmap fits to them."""
    rows = _rows(content, table.start, min(table.length, ROWS), table.order)
    unpacked = (_page_size(content, row, table.missing) for row in _packed(rows)[:TRIED_PAGES])
    plain = rows["size"][(rows["flags"] & COMPRESSED) == 0].tolist()
    page = next((size for size in (*unpacked, *plain[:1]) if size is not None), None)
    size = page and _bitmap_size(content, table, page)
    if page is None or not size:
        return None
    dumped, ram = (content[end - size : end] for end in (table.start, table.start - size))
    # no page is in the file that is no RAM; of a bitmap that lacks a part nothing tells which
    if (header is None or size != header.bitmap_size) and (table.missing or (dumped & ~ram).any()):
        return None
    mark = content[: len(KDUMP)].tobytes()
    known = header if header is not None and header.byte_order == table.order else None
    return Header(
        mark=DISKDUMP if mark == DISKDUMP else KDUMP,
        version=known.version if known else LATEST,
        bits=known.bits if known else 64,
        byte_order=table.order,
        block_size=page,
        bitmap=table.start - size,
        bitmap_size=size,
        has_both=True,
        descriptors=table.start,
        max_page=size * 8,
        first_page=0,
        end_page=size * 8,
        split=False,
        incomplete=bool(known and known.incomplete),
        notes=known.notes if known else (0, 0),
        vmcoreinfo=known.vmcoreinfo if known else (0, 0),
    )


def _bitmap_size(content: Content, table: Table, page: int) -> int | None:
    """Return the size of each of the two bitmaps before descriptors, where the second has a bit for each of these.

    What stands before it is not blank: the last block of the first bitmap is that of the last page of RAM.
    """
    marked, size, chosen = 0, 0, None
    undamaged = table.start + table.missing
    while marked <= table.length and undamaged >= 2 * (size + page) + page and table.start > size + page:
        size += page
        part = content[table.start - size : table.start - size + page]
        marked += int(np.unpackbits(part).sum())
        chosen = size if marked == table.length else chosen
    return chosen


def _without_cut(content: Content, header: Header, remarks: list[str]) -> Content:
    """Return a file with a block that is missing from its descriptors or pages as zeros; ``remarks`` is told of it."""
    count = _count(content, header)
    if count is None:
        return content
    start, order = header.descriptors, header.byte_order
    last = _rows(content, start + max(0, count - MAX_END_ROWS) * SIZE, min(count, MAX_END_ROWS), order)
    if not _is_table(last[-SAMPLE:], start):
        gap = _gap_in_table(content, start, count, order)
    elif (missing := _end(last) - len(content)) > 0:
        gap = _gap_in_pages(content, _rows(content, start, count, order), missing)
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
    rows = _rows(content, header.descriptors, MAX_END_ROWS, header.byte_order)
    offsets = rows["offset"][rows["offset"] > header.descriptors]
    size, rest = divmod(int(offsets.min()) - header.descriptors, SIZE) if len(offsets) else (0, 1)
    return None if rest or not size else size


def _end(rows: Rows) -> int:
    """Return the file offset behind the last page of some descriptors."""
    rows = rows[_links(rows)]
    return int((rows["offset"] + rows["size"].astype(np.uint64)).max(initial=0))


def _gap_in_pages(content: Content, rows: Rows, missing: int) -> tuple[int, int, int] | None:
    """Return where pages are missing, from one offset in the undamaged file to another, and how many bytes.

    Args:
        content: the file.
        rows: all descriptors.
        missing: how many bytes the file lacks.
    """
    packed = _packed(rows[_links(rows)])
    if not _unpack(content, packed[-TRIED_PAGES:], missing):
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
    return all(_page_size(content, row, lost) is not None for row in rows)


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
        rows = _rows(content, end - held * SIZE, held, order)
        blank = rows["offset"][held - int(behind[number]) // SIZE :]
        if not _is_table(rows[-SAMPLE:], start) or (blank != blank[:1]).any():
            continue
        if not _unpack(content, _packed(rows)[-TRIED_PAGES:], lost):
            continue
        first = _front(_links(_rows(content, start, held, order), start))
        last = _front(_links(rows, start)[::-1])
        # one that is cut itself may seem to lead on
        return start + max(0, first - 1) * SIZE, end + lost - max(0, last - 1) * SIZE, lost
    return None


def _front(linked: NDArray[np.bool_]) -> int:
    """Return how many descriptors lead from one to the next before some are missing."""
    gap = _first_gap(linked)
    # if whole descriptors are missing, there is but one that does not
    return int(np.argmin(np.append(linked, False))) if gap is None else gap
