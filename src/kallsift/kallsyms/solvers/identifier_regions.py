"""Find regions that can hold names without a token table: they are dense in characters of identifiers.

This takes another pass over all bytes, so it is used only where no token table leads to a kernel.
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
"""Lowest number of blocks of a region: a kernel's names take more."""

DENSE = 0.7
"""Share of a block that must be characters of identifiers; the rest separates names."""

SAMPLED, LIKELY = 16, 0.6
"""Step between the bytes of a block that are sampled first, and the share of identifier characters among them from
which on the whole block is counted."""

MAX_REGIONS = 1 << 14

IDENTIFIER = np.isin(
    np.arange(256), np.frombuffer(b"0123456789_.$ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", np.uint8)
)
"""Mask of the bytes that are characters of names."""


def name_regions(memory: Memory) -> Iterator[tuple[int, int]]:
    """Yield the address ranges that can hold names, rounded to blocks.

    There are `MAX_REGIONS` at most. A region of more than two batches, which no kernel's names need, comes in parts.
    """
    found = 0
    for stretch in memory.segments:
        if stretch.size < LEAST_BLOCKS * BLOCK:
            continue
        first: int | None = None
        after = 0
        for low in stretch.steps(BATCH):
            if first is not None and low > after:
                # only zeros lie between the last batch and this one
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
    """Tell which blocks are dense in characters of identifiers.

    An incomplete block at the end is not dense.
    """
    whole = len(data) // BLOCK
    blocks = data[: whole * BLOCK].reshape(whole, BLOCK)
    dense = np.zeros(-(-len(data) // BLOCK), np.bool_)
    sampled = np.count_nonzero(IDENTIFIER[blocks[:, ::SAMPLED]], axis=1)
    likely = np.flatnonzero(sampled >= LIKELY * (BLOCK // SAMPLED))
    dense[likely] = np.count_nonzero(IDENTIFIER[blocks[likely]], axis=1) >= DENSE * BLOCK
    return dense
