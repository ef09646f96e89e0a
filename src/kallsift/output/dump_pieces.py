"""What all writers of dumps share: a file as pieces with their offsets, and the memory in parts of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.memory.model import Memory

Piece = tuple[int, bytes | memoryview]
"""Where in a file some bytes belong, and the bytes; what no piece covers is zero."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

CHUNK = 1 << 20
"""Bytes of memory that are handed on at once."""


def chunks(
    memory: Memory, progress: Progress | None = None, align: int = 1
) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
    """All of a memory in the order of its addresses.

    Args:
        memory: the memory.
        progress: is told how far it came.
        align: what is not a whole aligned unit of so many bytes is left out.

    Yields:
        The number of the stretch, the address, and the bytes, `CHUNK` at most, shape (n,), uint8.
    """
    done = 0
    for number, stretch in enumerate(memory.segments):
        low, high = -stretch.start % align, stretch.size - stretch.end % align
        for start in range(low, high, CHUNK):
            data = stretch.read(start, min(start + CHUNK, high))
            yield number, stretch.start + start, data
            done += len(data)
            if progress:
                progress("writing", done, memory.size)


def view(data: NDArray[np.uint8]) -> memoryview:
    """Bytes as files take them."""
    return np.ascontiguousarray(data).data
