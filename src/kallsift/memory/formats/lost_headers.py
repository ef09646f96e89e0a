"""Read a file whose headers are lost as the memory that stands behind them, in one piece.

Nothing tells where that begins, but its pages show themselves: what follows zeros begins with a page more often than
not. Which addresses it has is told by the kernel in it, as for raw memory that begins anywhere, or lacks its holes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kallsift.memory.formats import raw
from kallsift.memory.memory import Memory
from kallsift.memory.reassembled_file import Content

PAGE = 4096
SAMPLES, SAMPLE_SIZE = 16, 1 << 22
"""Parts of a file that are looked at, and their size."""
MIN_ZEROS = 256
"""Zeros in a row before what may be the beginning of a page."""
MIN_BEGINNINGS, MIN_RATIO = 32, 3
"""Beginnings that agree on where pages begin at least, and how many times as many as on any other offset."""


def open_without_headers(name: str, view: Content, release: Callable[[], None]) -> Memory | None:
    """Return the memory in a file whose headers are lost; None if nothing shows where its pages begin."""
    start = _page_start(view) if isinstance(view, np.ndarray) else None
    return None if start is None else raw.open(name, view[start:], release)


def _page_start(view: NDArray[np.uint8]) -> int | None:
    """Return the offset, modulo the size of a page, at which pages begin; None if nothing shows it."""
    counts = np.zeros(PAGE, np.int64)
    for low in range(0, len(view), max(SAMPLE_SIZE, len(view) // SAMPLES)):
        filled = np.flatnonzero(view[low : low + SAMPLE_SIZE])
        beginnings = filled[1:][np.diff(filled) > MIN_ZEROS] + low
        counts += np.bincount(beginnings % PAGE, minlength=PAGE)
    second, first = np.sort(counts)[-2:].tolist()
    return int(np.argmax(counts)) if first >= max(MIN_BEGINNINGS, MIN_RATIO * second) else None
