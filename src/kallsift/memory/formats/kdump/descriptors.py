"""Read the page descriptors of kdumps whose headers cannot be trusted: they give each other away.

Each page begins where the one before it ends, and the first one behind the last descriptor.
Source: makedumpfile, IMPLEMENTATION.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import frequent
from kallsift.compression.page_codecs import CODECS, COMPRESSED
from kallsift.memory.formats.elf_notes import ByteOrder
from kallsift.memory.formats.kdump.header import DESCRIPTOR, LARGEST_BLOCK, SMALLEST_BLOCK
from kallsift.memory.reassembled_file import Content
from kallsift.optional_package import MissingPackageError

SAMPLE = 64
"""Descriptors in a row that are asked whether they are any."""
MIN_LINKED = 0.9
"""Share of descriptors that lead to where the page before them ends."""
MIN_GAP = 8
"""Descriptors in a row that lead nowhere: behind these there are none, or a part is missing."""
TRIED_PAGES = 8
"""Pages that must unpack to show that they stand where they are said to."""

SIZE = DESCRIPTOR.itemsize

Rows = NDArray[np.void]


def rows_at(content: Content, start: int, count: int, order: ByteOrder) -> Rows:
    """Descriptors from a file offset on, fewer where the file ends before."""
    data = np.ascontiguousarray(content[start : start + count * SIZE])
    return data[: len(data) // SIZE * SIZE].view(DESCRIPTOR.newbyteorder(order))


def can_be_pages(rows: Rows) -> NDArray[np.bool_]:
    """Tell which descriptors can be of a page, wherever that stands."""
    fits: NDArray[np.bool_] = (rows["size"] > 0) & (rows["size"] <= LARGEST_BLOCK) & (rows["flags"] < 2 * COMPRESSED)
    return fits


def links(rows: Rows, start: int = 0) -> NDArray[np.bool_]:
    """Tell of each descriptor whether its page begins where the last one before it ends, or is the blank one again.

    Args:
        rows: the descriptors, in a row.
        start: where the first of all descriptors stands; pages stand behind it.
    """
    offsets, sizes = rows["offset"].astype(np.uint64), rows["size"].astype(np.uint64)
    linked = can_be_pages(rows) & (offsets > np.uint64(start))
    if linked.any():
        shared, counts = frequent(offsets[linked], 2)
        others = np.flatnonzero(offsets != (shared[np.argmax(counts)] if len(shared) else np.uint64(0)))
        linked[others[1:]] &= offsets[others[1:]] == offsets[others[:-1]] + sizes[others[:-1]]
    return linked


def first_gap(linked: NDArray[np.bool_]) -> int | None:
    """Return the first of several descriptors in a row of which none leads on from the one before; None if all do."""
    if len(linked) < MIN_GAP:
        return None
    gone = np.convolve(~linked, np.ones(MIN_GAP, np.int64), "valid") == MIN_GAP
    return int(np.argmax(gone)) if gone.any() else None


def is_table(rows: Rows, start: int) -> bool:
    return len(rows) > 1 and float(links(rows, start).mean()) >= MIN_LINKED


def do_unpack(content: Content, rows: Rows, lost: int) -> bool:
    """Tell whether pages unpack that stand so many bytes before where their descriptors say."""
    sizes = [page_size(content, row, lost) for row in packed_rows(rows)[:TRIED_PAGES]]
    # of pages that are all stored as they are nothing tells
    return 2 * sum(size is not None for size in sizes) > len(sizes) or not (sizes or lost)


def packed_rows(rows: Rows) -> Rows:
    """Return the descriptors of pages that are packed, each page once."""
    packed = rows[np.isin(rows["flags"] & COMPRESSED, tuple(CODECS))]
    return packed[np.sort(np.unique(packed["offset"], return_index=True)[1])]


def page_size(content: Content, row: np.void, lost: int) -> int | None:
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
