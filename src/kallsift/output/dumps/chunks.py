"""Divide memory into chunks of bounded size, for all writers of dumps.

A writer yields a file as pieces with their offsets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.memory.memory import Memory

Piece = tuple[int, bytes | memoryview]
"""Offset in the file, and the bytes that belong there.

Bytes that no piece covers are zero.
"""

Progress = Callable[[str, int, int], None]
"""Callback with the name of the work, the amount done, and the total amount."""

CHUNK = 1 << 20
"""Highest number of bytes of memory in one chunk."""


def chunks(
    memory: Memory, progress: Progress | None = None, align: int = 1
) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
    """Yield all of a memory that can hold other bytes than zero, by ascending address.

    Holes of files are not read.

    Args:
        memory: the memory.
        progress: called with the number of bytes done.
        align: size of a unit in bytes; bytes outside of whole aligned units are left out.

    Yields:
        The number of the stretch, the address, and the bytes, `CHUNK` at most, shape (n,), uint8; at the end of each
        stretch no bytes.
    """
    done, total = 0, memory.stored_size
    for number, stretch in enumerate(memory.segments):
        low, high = -stretch.start % align, stretch.size - stretch.end % align
        for start in stretch.steps(CHUNK, low):
            stop = min(start + CHUNK, high)
            if start < stop and not stretch.blank(start, stop):
                yield number, stretch.start + start, stretch.read(start, stop)
            # blocks can exceed the stored size, since holes are among them
            done = min(done + CHUNK, total)
            if progress:
                progress("writing", done, total)
        if low <= high:
            yield number, stretch.start + high, np.empty(0, np.uint8)


def view(data: NDArray[np.uint8]) -> memoryview:
    """Return an array's bytes in the form in which files accept them."""
    return np.ascontiguousarray(data).data
