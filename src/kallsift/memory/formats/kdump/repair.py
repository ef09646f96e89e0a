"""Read kdumps with damaged headers, by the relations of their other parts.

The page descriptors are recognised by each other (`descriptors.py`). The rest follows from their offset and number: the
bitmap of the pages in the file stands before them and has as many set bits; a decompressed page has the size of a page.
If a whole block is missing, see `missing_blocks.py`.

Source: makedumpfile, IMPLEMENTATION.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from kallsift.compression.page_codecs import COMPRESSED
from kallsift.memory.formats.elf_notes import ByteOrder
from kallsift.memory.formats.kdump.descriptors import (
    GRAIN,
    SAMPLE,
    SIZE,
    TRIED_PAGES,
    can_be_pages,
    do_unpack,
    first_gap,
    is_table,
    links,
    packed_rows,
    page_size,
    rows_at,
)
from kallsift.memory.formats.kdump.header import (
    DESCRIPTOR,
    LATEST,
    ORDERS,
    SUB_HEADERS,
    KdumpHeader,
    main_header,
    read_header,
    record_at,
)
from kallsift.memory.formats.kdump.mark import DISKDUMP, KDUMP
from kallsift.memory.formats.kdump.missing_blocks import without_missing_blocks
from kallsift.memory.reassembled_file import Content, ReassembledFile

VMCOREINFO = b"OSRELEASE="
"""Beginning of the text (crash_save_vmcoreinfo_init)."""
BLOCK_SIZES = (1 << 12, 1 << 14, 1 << 16)
"""Possible sizes of a page."""
MAX_TABLE_START = 1 << 28
"""Highest file offset of the descriptors: the bitmaps of 4 TiB of memory are that large."""
ROWS = 1 << 16
"""Number of descriptors that are processed together."""
MAX_CANDIDATES = 1 << 8
"""Highest number of possible beginnings of descriptors that are tested in `ROWS` places."""


class Table(NamedTuple):
    """A table of descriptors: byte order, file offset, number, and number of bytes that are missing before it."""

    order: ByteOrder
    start: int
    length: int
    missing: int


def repaired(content: Content, header: KdumpHeader | None) -> tuple[Content, KdumpHeader, list[str]] | None:
    """Return a kdump as it was before it was damaged, its header, and remarks.

    The result is None if the undamaged state cannot be found.

    Args:
        content: the file.
        header: contents of its headers; None if they make no sense.
    """
    if header is not None and is_table(
        rows_at(content, header.descriptors, SAMPLE, header.byte_order), header.descriptors
    ):
        remarks: list[str] = []
        content = without_missing_blocks(content, header, remarks)
        return content, header, remarks
    known = header or main_header(content)
    for table in _tables(content):
        if (found := _header(content, table, known)) is None:
            continue
        remarks = ["the kdump's header is damaged: its values are inferred from the bitmaps and page descriptors"]
        if table.missing:
            remarks = [f"{table.missing} bytes are missing before the kdump's page descriptors"]
            starts = np.array([0, table.start + table.missing])
            sizes = np.array([table.start, len(content) - table.start])
            content = ReassembledFile(content, starts, sizes, np.array([0, table.start]))
            found = replace(found, descriptors=found.descriptors + table.missing)
        return content, found, remarks
    return None


def is_kdump(content: Content) -> bool:
    """Tell whether a file without a mark is a kdump.

    Its headers must make sense, and lead to descriptors. If the first block is lost, a sub header in the second block
    that leads to VMCOREINFO is enough.
    """
    header = read_header(content)
    if header is not None:
        return is_table(rows_at(content, header.descriptors, SAMPLE, header.byte_order), header.descriptors)
    return any(_has_sub_header(content, size) for size in BLOCK_SIZES)


def _has_sub_header(content: Content, start: int) -> bool:
    """Tell whether the block at an offset leads to VMCOREINFO behind it in the file."""
    subs = (record_at(content, start, layout.newbyteorder(order)) for order in ORDERS for _, layout in SUB_HEADERS)
    offsets = (int(sub["vmcoreinfo"]) for sub in subs if sub is not None)
    return any(
        start < offset < MAX_TABLE_START and content[offset : offset + len(VMCOREINFO)].tobytes() == VMCOREINFO
        for offset in offsets
    )


def _tables(content: Content) -> Iterator[Table]:
    """Yield the possible tables of descriptors."""
    end = min(len(content), MAX_TABLE_START)
    for low in range(0, end, ROWS * GRAIN):
        data = content[low : min(low + ROWS * GRAIN, end)]
        blocks = np.lib.stride_tricks.as_strided(data, (max(0, len(data) - 2 * SIZE) // GRAIN, 2 * SIZE), (GRAIN, 1))
        for order in ORDERS:
            rows = np.ascontiguousarray(blocks).view(DESCRIPTOR.newbyteorder(order))
            first, second = rows[:, 0], rows[:, 1]
            fits = can_be_pages(first) & can_be_pages(second)
            for row in (first, second):
                fits &= (row["offset"] > low) & (row["offset"] < 2 * len(content))
            for start in (np.flatnonzero(fits)[:MAX_CANDIDATES] * GRAIN + low).tolist():
                if is_table(rows_at(content, start, SAMPLE, order), start) and (table := _table(content, start, order)):
                    yield table


def _table(content: Content, start: int, order: ByteOrder) -> Table | None:
    """Return the table of descriptors that begins at a file offset.

    The result is None if the descriptors do not lead to pages.
    """
    count, first = 0, (1 << 63) - 1
    while len(rows := rows_at(content, start + count * SIZE, ROWS, order)):
        linked = links(rows, start)
        gap = first_gap(linked)
        number = len(rows) if gap is None else gap
        count += number
        first = int(rows["offset"][:number][linked[:number]].min(initial=np.uint64(first)))
        if number < len(rows):
            break
    missing = first - start - count * SIZE
    for lost in dict.fromkeys((0, missing)):
        if lost >= 0 and do_unpack(content, rows_at(content, start, min(count, ROWS), order), lost):
            # if nothing is missing, the first page's offset gives the number better than damaged descriptors
            return Table(order, start, count + missing // SIZE if not lost and not missing % SIZE else count, lost)
    return None


def _header(content: Content, table: Table, header: KdumpHeader | None) -> KdumpHeader | None:
    """Return the header of a file with these descriptors; None if no bitmap fits them."""
    rows = rows_at(content, table.start, min(table.length, ROWS), table.order)
    unpacked = (page_size(content, row, table.missing) for row in packed_rows(rows)[:TRIED_PAGES])
    plain = rows["size"][(rows["flags"] & COMPRESSED) == 0].tolist()
    page = next((size for size in (*unpacked, *plain[:1]) if size is not None), None)
    size = page and _bitmap_size(content, table, page)
    if page is None or not size:
        return None
    dumped, ram = (content[end - size : end] for end in (table.start, table.start - size))
    # all pages in the file must be RAM; if a part of a bitmap is missing, nothing tells which part
    if (header is None or size != header.bitmap_size) and (table.missing or (dumped & ~ram).any()):
        return None
    mark = content[: len(KDUMP)].tobytes()
    known = header if header is not None and header.byte_order == table.order else None
    return KdumpHeader(
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
    """Return the size of each of the two bitmaps before the descriptors.

    The second bitmap has one set bit for each descriptor. The bytes before it are not blank: the last block of the
    first bitmap has the bit of the last page of RAM.
    """
    marked, size, chosen = 0, 0, None
    undamaged = table.start + table.missing
    while marked <= table.length and undamaged >= 2 * (size + page) + page and table.start > size + page:
        size += page
        part = content[table.start - size : table.start - size + page]
        marked += int(np.unpackbits(part).sum())
        chosen = size if marked == table.length else chosen
    return chosen
