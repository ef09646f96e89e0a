"""A running kernel's own page table: all that it maps, and where in that the direct map is.

Nothing but a direct map maps most of a machine's memory in order, at one distance. So this distance is found by
counting, and no variable of the kernel's is needed for it.
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
"""Which part of the memory that a page table maps the direct map has at least."""


@dataclass(frozen=True, eq=False)
class PageTable:
    """A page table as a whole.

    Attributes:
        ranges: all that it maps.
        page_bits: address bits inside of its smallest pages.
        offset: how far the direct map lies above physical addresses, modulo 2^64; None if there is none.
        distance: the same of the kernel's image, modulo the address space.
        mask: the highest address.
        memory: what physical addresses are of.
    """

    ranges: MappedRanges
    page_bits: int
    offset: int | None
    distance: int
    mask: int
    memory: Memory

    @property
    def direct(self) -> MappedRanges:
        """What lies at the distance of the direct map."""
        return self.ranges.chosen(self.ranges.offsets == np.uint64(self.offset or 0))

    def held(self, ranges: MappedRanges) -> NDArray[np.float64]:
        """How many bytes of each range lie in the memory, shape (n,): the rest are devices', or not in the source."""
        return _held(self.memory, ranges)

    def of_image(self, ranges: MappedRanges) -> MappedRanges:
        """Those ranges that lie at the distance of the image."""
        return ranges.chosen(ranges.offsets & np.uint64(self.mask) == np.uint64(self.distance & self.mask))


def page_table(kernel: Kernel, memory: VirtualMemory) -> PageTable | None:
    """The kernel's own page table; None where it has none."""
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
    """The distance at which most of what is mapped of the memory lies; None if no distance has so much of it.

    Images of 32 bits lie in the direct map, which some of their tables have a second time, for when they booted.
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
