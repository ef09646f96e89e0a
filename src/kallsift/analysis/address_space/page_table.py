"""Read all that a running kernel's own page table maps, and find the direct map.

Only a direct map maps most of a machine's memory in order, at one distance. So counting the mapped bytes by distance
finds it, and no variable of the kernel is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.page_table_ranges import MappedRanges, mapped_ranges
from kallsift.arch.paging import PagingMode
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.kernel import Kernel
from kallsift.memory.memory import Memory

LEAST = 0.5
"""Lowest share of the memory mapped by a page table that the direct map must have."""


@dataclass(frozen=True, eq=False, repr=False)
class PageTable:
    """A page table as a whole.

    Attributes:
        ranges: all ranges that it maps.
        page_bits: number of address bits inside its smallest pages.
        offset: virtual minus physical address in the direct map, modulo 2^64; None if there is no direct map.
        distance: the same for the kernel's image, modulo the address space.
        mask: the highest virtual address.
        memory: the memory that the physical addresses refer to.
    """

    ranges: MappedRanges
    page_bits: int
    offset: int | None
    distance: int
    mask: int
    memory: Memory

    def __repr__(self) -> str:
        return f"<PageTable: {len(self.ranges):,} ranges>"

    @property
    def direct(self) -> MappedRanges:
        """The ranges at the distance of the direct map."""
        return self.ranges.chosen(self.ranges.offsets == np.uint64(self.offset or 0))

    def held(self, ranges: MappedRanges) -> NDArray[np.float64]:
        """Return how many bytes of each range lie in the memory, shape (n,).

        The other bytes are those of devices, or are not in the source.
        """
        return _held(self.memory, ranges)

    def of_image(self, ranges: MappedRanges) -> MappedRanges:
        """Return the ranges that lie at the distance of the image."""
        return ranges.chosen(ranges.offsets & np.uint64(self.mask) == np.uint64(self.distance & self.mask))


def page_table(kernel: Kernel, memory: VirtualMemory) -> PageTable | None:
    """Return the kernel's own page table; None if it has none."""
    mode = memory.mapping
    if not isinstance(mode, PagingMode) or memory.root is None:
        return None
    ranges = mapped_ranges(memory.memory, mode, memory.root)
    offset = _direct_offset(memory, ranges, kernel.distance)
    return PageTable(ranges, mode.shifts[-1], offset, kernel.distance, memory.words.mask, memory.memory)


def _held(memory: Memory, ranges: MappedRanges) -> NDArray[np.float64]:
    lasts = ranges.physical + (ranges.sizes - np.uint64(1))
    held = np.zeros(len(ranges), np.float64)
    for segment in memory.segments:
        low, high = np.maximum(ranges.physical, np.uint64(segment.start)), np.minimum(lasts, np.uint64(segment.end - 1))
        held += np.where(high >= low, (high - low).astype(np.float64) + 1, 0)
    return held


def _direct_offset(memory: VirtualMemory, ranges: MappedRanges, distance: int) -> int | None:
    """Return the distance at which most of the mapped memory lies.

    None if no distance has at least the share `LEAST` of it. 32-bit images lie in the direct map; some of their page
    tables map the image a second time, for booting. So on 32-bit machines only ranges at the distance of the image
    count.
    """
    held = _held(memory.memory, ranges)
    if memory.words.size == 4:
        held[ranges.offsets & np.uint64(memory.words.mask) != np.uint64(distance & memory.words.mask)] = 0
    if not held.any():
        return None
    offsets, owner = np.unique(ranges.offsets, return_inverse=True)
    totals = np.bincount(owner, weights=held)
    best = int(np.argmax(totals))
    return int(offsets[best]) if totals[best] >= LEAST * totals.sum() else None
