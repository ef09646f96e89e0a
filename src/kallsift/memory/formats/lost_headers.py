"""Read a file whose headers are lost as the memory behind them, in one piece.

Nothing tells the file offset of the memory, but pages often begin behind zeros at the end of the page before them. If
most runs of zeros agree on the offset of pages, modulo their size, the file is read from there; what remains of the
headers may be taken for a page. There are no physical addresses: the kernel must tell them, as in raw memory that
begins anywhere or lacks its holes, and parts that were not in order are read in the order of the file.
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
"""Number of parts of a file that are read, and their size in bytes."""
MIN_ZEROS = 256
"""Lowest number of zeros in a row before the possible beginning of a page."""
MIN_BEGINNINGS, MIN_RATIO = 32, 3
"""Lowest number of beginnings that agree on an offset, and lowest ratio to those at any other offset."""


def open_without_headers(name: str, view: Content, release: Callable[[], None]) -> Memory | None:
    """Return the memory in a file whose headers are lost.

    The result is None if nothing shows where its pages begin.
    """
    start = _page_start(view) if isinstance(view, np.ndarray) else None
    return None if start is None else raw.open(name, view[start:], release)


def _page_start(view: NDArray[np.uint8]) -> int | None:
    """Return the offset, modulo the size of a page, at which pages begin.

    The result is None if nothing shows it.
    """
    counts = np.zeros(PAGE, np.int64)
    for low in range(0, len(view), max(SAMPLE_SIZE, len(view) // SAMPLES)):
        filled = np.flatnonzero(view[low : low + SAMPLE_SIZE])
        beginnings = filled[1:][np.diff(filled) > MIN_ZEROS] + low
        counts += np.bincount(beginnings % PAGE, minlength=PAGE)
    second, first = np.sort(counts)[-2:].tolist()
    return int(np.argmax(counts)) if first >= max(MIN_BEGINNINGS, MIN_RATIO * second) else None
