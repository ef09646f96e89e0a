"""Find bytes by NumPy passes over blocks, in the same time for all contents.

A regular expression goes back and forth where the bytes repeat what it begins with: 30 times as slow on zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 18
"""Bytes that are looked at at once: what is made of them stays in the processor's cache."""


def occurrences(data: NDArray[np.uint8], needle: bytes, part: range) -> Iterator[int]:
    """Yield the offsets of some bytes that lie within a part of others, ascending."""
    size = len(needle)
    for low in range(part.start, part.stop - size + 1, BLOCK):
        block = data[low : min(low + BLOCK + size - 1, part.stop)]
        yield from (low + places_of(block, dict(enumerate(needle)))).tolist()


def places_of(block: NDArray[np.uint8], wanted: Mapping[int, int]) -> NDArray[np.int64]:
    """Return the offsets at which bytes have given values at given distances.

    The offsets ascend, shape (n,).

    Args:
        block: bytes, shape (size,).
        wanted: values by their distances, the most telling ones first.
    """
    count = len(block) - max(wanted)
    if count <= 0:
        return np.empty(0, np.int64)
    (first, value), *others = wanted.items()
    mask = block[first : first + count] == value
    for number, (distance, value) in enumerate(others, 1):
        mask &= block[distance : distance + count] == value
        # most blocks hold no two of them
        if number in (1, 3) and not mask.any():
            return np.empty(0, np.int64)
    return np.flatnonzero(mask)
