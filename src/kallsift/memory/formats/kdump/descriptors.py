"""Recognise the page descriptors of kdumps whose headers cannot be trusted, by their relations to each other.

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
"""Number of adjacent records that are tested for being descriptors."""
MIN_LINKED = 0.9
"""Lowest share of descriptors whose page begins at the end of the page before it."""
MIN_GAP = 8
"""Number of adjacent unlinked descriptors behind which the table has ended, or a part of it is missing."""
TRIED_PAGES = 8
"""Number of pages that are decompressed to test whether they stand at their descriptors' offsets."""

GRAIN = 4096
"""Alignment of the descriptors, and unit of the size of a missing block."""

SIZE = DESCRIPTOR.itemsize

Rows = NDArray[np.void]


def rows_at(content: Content, start: int, count: int, order: ByteOrder) -> Rows:
    """Return descriptors from a file offset on, fewer if the file ends before."""
    data = np.ascontiguousarray(content[start : start + count * SIZE])
    return data[: len(data) // SIZE * SIZE].view(DESCRIPTOR.newbyteorder(order))


def can_be_pages(rows: Rows) -> NDArray[np.bool_]:
    """Tell which descriptors can describe a page at any offset."""
    fits: NDArray[np.bool_] = (rows["size"] > 0) & (rows["size"] <= LARGEST_BLOCK) & (rows["flags"] < 2 * COMPRESSED)
    return fits


def links(rows: Rows, start: int = 0) -> NDArray[np.bool_]:
    """Tell which descriptors are linked to the one before them.

    The page of such a descriptor begins at the end of the last page before it, or is the blank page again.

    Args:
        rows: adjacent descriptors.
        start: file offset of the first of all descriptors; pages stand behind it.
    """
    offsets, sizes = rows["offset"].astype(np.uint64), rows["size"].astype(np.uint64)
    linked = can_be_pages(rows) & (offsets > np.uint64(start))
    if linked.any():
        shared, counts = frequent(offsets[linked], 2)
        others = np.flatnonzero(offsets != (shared[np.argmax(counts)] if len(shared) else np.uint64(0)))
        linked[others[1:]] &= offsets[others[1:]] == offsets[others[:-1]] + sizes[others[:-1]]
    return linked


def first_gap(linked: NDArray[np.bool_]) -> int | None:
    """Return the index of the first of `MIN_GAP` unlinked descriptors in a row.

    The result is None if there are none.
    """
    if len(linked) < MIN_GAP:
        return None
    gone = np.convolve(~linked, np.ones(MIN_GAP, np.int64), "valid") == MIN_GAP
    return int(np.argmax(gone)) if gone.any() else None


def is_table(rows: Rows, start: int) -> bool:
    """Tell whether adjacent records are page descriptors.

    At least the share `MIN_LINKED` of them must be linked, as `links` tells.
    """
    return len(rows) > 1 and float(links(rows, start).mean()) >= MIN_LINKED


def do_unpack(content: Content, rows: Rows, lost: int) -> bool:
    """Tell whether pages decompress that stand ``lost`` bytes before their offsets."""
    sizes = [page_size(content, row, lost) for row in packed_rows(rows)[:TRIED_PAGES]]
    # if no page is compressed, nothing can be tested
    return 2 * sum(size is not None for size in sizes) > len(sizes) or not (sizes or lost)


def packed_rows(rows: Rows) -> Rows:
    """Return the descriptors of compressed pages, each page once."""
    packed = rows[np.isin(rows["flags"] & COMPRESSED, tuple(CODECS))]
    return packed[np.sort(np.unique(packed["offset"], return_index=True)[1])]


def page_size(content: Content, row: np.void, lost: int) -> int | None:
    """Return the size of a compressed page in bytes; None if it does not decompress."""
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
