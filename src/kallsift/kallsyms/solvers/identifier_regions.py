"""Where names can stand that no token table stands for: parts of a memory that are dense in characters of identifiers.

Of use only where no token table leads to a kernel, for it takes another pass over all bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.memory.memory import Memory

BLOCK = 2048
"""Bytes that are judged at once."""

BATCH = 16 << 20
LEAST_BLOCKS = 3
"""Blocks of a region at least: a kernel's names take more."""

DENSE = 0.7
"""Part of a block that must be characters of identifiers; the rest is what separates names."""

SAMPLED, LIKELY = 16, 0.6
"""One byte of so many is looked at first, and all of a block only where that part of these are such characters."""

MAX_REGIONS = 1 << 14

IDENTIFIER = np.isin(
    np.arange(256), np.frombuffer(b"0123456789_.$ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", np.uint8)
)
"""Which bytes are characters of names."""


def name_regions(memory: Memory) -> Iterator[tuple[int, int]]:
    """Regions that can hold names, as addresses of their beginnings and ends, to a block; `MAX_REGIONS` at most.

    Those of more than two batches, as no kernel's names are, come in parts.
    """
    found = 0
    for stretch in memory.segments:
        if stretch.size < LEAST_BLOCKS * BLOCK:
            continue
        first: int | None = None
        after = 0
        for low in stretch.steps(BATCH):
            if first is not None and low > after:
                # nothing but zeros stands between
                if stretch.start + after - first >= LEAST_BLOCKS * BLOCK:
                    yield first, stretch.start + after
                    found += 1
                first = None
            after = low + BATCH
            data = stretch.read(low, after)
            if first is not None and stretch.start + low - first >= BATCH:
                yield first, stretch.start + low
                found += 1
                first = stretch.start + low
            for edge in np.flatnonzero(np.diff(_dense(data), prepend=first is not None)).tolist():
                place = stretch.start + low + edge * BLOCK
                if first is None:
                    first = place
                    continue
                if place - first >= LEAST_BLOCKS * BLOCK:
                    yield first, place
                    found += 1
                first = None
                if found == MAX_REGIONS:
                    return
        end = min(stretch.end, stretch.start + after)
        if first is not None and end - first >= LEAST_BLOCKS * BLOCK:
            yield first, end
            found += 1


def _dense(data: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which blocks are dense in characters of identifiers; the last one is none if it is not whole."""
    whole = len(data) // BLOCK
    blocks = data[: whole * BLOCK].reshape(whole, BLOCK)
    dense = np.zeros(-(-len(data) // BLOCK), np.bool_)
    sampled = np.count_nonzero(IDENTIFIER[blocks[:, ::SAMPLED]], axis=1)
    likely = np.flatnonzero(sampled >= LIKELY * (BLOCK // SAMPLED))
    dense[likely] = np.count_nonzero(IDENTIFIER[blocks[likely]], axis=1) >= DENSE * BLOCK
    return dense
