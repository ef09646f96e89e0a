"""Read the bitmaps of a kdump: the pages that are in the file, in the order of their descriptors.

A damaged bit moves all pages behind it to other addresses. But there are two bitmaps, and as many descriptors as pages;
the pages begin behind the descriptors. Source: makedumpfile, IMPLEMENTATION and write_kdump_pages_and_bitmap_cyclic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.memory.formats.kdump.descriptors import SIZE, rows_at
from kallsift.memory.formats.kdump.header import KdumpHeader
from kallsift.memory.reassembled_file import Content

BITMAP_AT_ONCE = 1 << 20
EDGE_COST = 1 << 6
"""Highest number of bytes that it takes to keep the bounds of a run of pages."""
DESCRIPTORS_SEEN = 1 << 10
"""Number of descriptors that are read to find the first page: many may lead to one page, the blank one."""

MAX_DAMAGED = 1 << 12
"""Highest difference between marked and described pages that damage can cause.

Beyond it, the file is from an unknown writer.
"""

_NONE = np.empty(0, np.int64)

Bits = NDArray[np.uint8]
Chosen = Callable[[Bits, Bits], Bits]

READINGS: tuple[Chosen, ...] = (
    lambda _, dumped: dumped,
    # pages that are no RAM cannot be in the file
    lambda ram, dumped: ram & dumped,
    # if no page was left out, both are the same
    lambda ram, _: ram,
)
"""Possible sets of pages in the file, by the bitmaps of RAM and of these pages."""


def page_runs(
    content: Content, header: KdumpHeader, budget: WorkBudget
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Return the first page and the number of pages of each run in the file.

    The runs are in order, as many as the budget allows. The third result are remarks.
    """
    there = described(content, header)
    chosen, remarks = READINGS[0], list[str]()
    count = marked(content, header, chosen)
    if there is not None and there != count:
        others = [reading for reading in READINGS if marked(content, header, reading) == there]
        if others:
            chosen = others[0]
        elif abs(there - count) <= MAX_DAMAGED:
            remarks.append(
                f"the kdump's bitmap is damaged: it marks {count} pages, but the file has {there}; pages "
                "after the damage may be at wrong addresses"
            )
    return *_runs(_bits(content, header, chosen), header.end_page, budget), remarks


def marked(content: Content, header: KdumpHeader, chosen: Chosen = READINGS[0]) -> int:
    """Return how many pages are in the file by one reading of the bitmaps."""
    return sum(int(np.count_nonzero(bits)) for _, bits in _bits(content, header, chosen))


def described(content: Content, header: KdumpHeader) -> int | None:
    """Return how many descriptors there are, by the offset of the first page.

    The result is None if that offset does not tell.
    """
    start = header.descriptors
    rows = rows_at(content, start, DESCRIPTORS_SEEN, header.byte_order)
    offsets = rows["offset"][rows["offset"] > start]
    size, rest = divmod(int(offsets.min()) - start, SIZE) if len(offsets) else (0, 1)
    return None if rest else size


def _bits(content: Content, header: KdumpHeader, chosen: Chosen) -> Iterator[tuple[int, Bits]]:
    """Yield a bit for each page, block by block.

    Each block comes with the number of its first page.
    """
    for start in range(header.first_page // 8, -(-header.end_page // 8), BITMAP_AT_ONCE):
        end = min(start + BITMAP_AT_ONCE, -(-header.end_page // 8))
        dumped = content[header.bitmap + start : header.bitmap + end]
        before = header.bitmap - header.bitmap_size if header.has_both else header.bitmap
        ram = content[before + start : before + end]
        bits = np.unpackbits(chosen(ram, dumped), bitorder="little")
        bits[: max(0, header.first_page - start * 8)] = 0
        bits[max(0, header.end_page - start * 8) :] = 0
        yield start * 8, bits


def _runs(
    blocks: Iterator[tuple[int, Bits]], end: int, budget: WorkBudget
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first page and the number of pages of each run of set bits.

    The walk ends when the budget is spent.
    """
    edges: list[NDArray[np.int64]] = []
    before = 0
    for low, bits in blocks:
        found = np.flatnonzero(np.diff(bits, prepend=np.uint8(before))) + low
        size = len(bits) // 8
        if not budget.take("bytes of the bitmap", 16 * size, EDGE_COST * len(found), count=size):
            end = low
            break
        before = int(bits[-1])
        edges.append(found)
    if before:
        edges.append(np.array([end]))
    bounds = np.concatenate(edges) if edges else _NONE
    # if the last bit is set, the end of the bitmap was added as an edge
    return bounds[::2], bounds[1::2] - bounds[::2]
