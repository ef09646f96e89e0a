"""What all writers of dumps share: a file as pieces with their offsets, and the memory in parts of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.memory.memory import Memory

Piece = tuple[int, bytes | memoryview]
"""Where in a file some bytes belong, and the bytes; what no piece covers is zero."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

CHUNK = 1 << 20
"""Bytes of memory that are handed on at once."""


def chunks(
    memory: Memory, progress: Progress | None = None, align: int = 1
) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
    """All of a memory that can hold more than zeros, in the order of its addresses: holes of files are not read.

    Args:
        memory: the memory.
        progress: is told how far it came.
        align: what is not a whole aligned unit of so many bytes is left out.

    Yields:
        The number of the stretch, the address, and the bytes, `CHUNK` at most, shape (n,), uint8; at the end of each
        stretch none.
    """
    done, total = 0, memory.stored_size
    for number, stretch in enumerate(memory.segments):
        low, high = -stretch.start % align, stretch.size - stretch.end % align
        for start in stretch.steps(CHUNK, low):
            stop = min(start + CHUNK, high)
            if start < stop and not stretch.blank(start, stop):
                yield number, stretch.start + start, stretch.read(start, stop)
            # blocks are no whole parts of what is stored
            done = min(done + CHUNK, total)
            if progress:
                progress("writing", done, total)
        if low <= high:
            yield number, stretch.start + high, np.empty(0, np.uint8)


def view(data: NDArray[np.uint8]) -> memoryview:
    """Bytes as files take them."""
    return np.ascontiguousarray(data).data
