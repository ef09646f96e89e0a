"""The direct map: where a kernel maps all physical memory in order, at one distance.

Nothing but a direct map maps most of a machine's memory; so the distance at which the page table does is found by
counting, and no variable of the kernel's is needed for it.
"""

from __future__ import annotations

import numpy as np

from kallsift.kernel.virtual import VirtualMemory
from kallsift.machine.mapped_ranges import MappedRanges

LEAST = 0.5
"""Which part of the memory that a page table maps the direct map has at least."""


def direct_offset(memory: VirtualMemory, ranges: MappedRanges) -> int | None:
    """How far the direct map lies above physical addresses, modulo the address space; None if there is none."""
    held = np.zeros(len(ranges), np.float64)
    for segment in memory.memory.segments:
        start, last = np.uint64(segment.start), np.uint64(segment.end - 1)
        lasts = ranges.physical + (ranges.sizes - np.uint64(1))
        # as floats: only what lies in both counts, and differences can be negative
        low, high = np.maximum(ranges.physical, start), np.minimum(lasts, last)
        held += np.where(high >= low, (high - low).astype(np.float64) + 1, 0)
    if not held.any():
        return None
    offsets, owner = np.unique(memory.words.wrap(ranges.offsets), return_inverse=True)
    totals = np.bincount(owner, weights=held)
    best = int(np.argmax(totals))
    return int(offsets[best]) if totals[best] >= LEAST * totals.sum() else None
