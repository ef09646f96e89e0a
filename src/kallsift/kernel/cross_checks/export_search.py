"""Search the arrays of exports behind the code, where no symbols bound them: runs of entries that follow each other.

Where only text is listed, up to 6.11, nothing tells where the arrays are. RO_DATA (include/asm-generic/vmlinux.lds.h)
puts them into the read-only data, and so not far behind the code.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import UnmappedError
from kallsift.kernel.checks.ksymtab import pairs
from kallsift.kernel.cross_checks.name_keys import Names
from kallsift.kernel.placement.placement import Placement
from kallsift.kernel.placement.pointers import Words
from kallsift.lanes import lanes
from kallsift.memory.memory import Memory

WITHIN = 12 << 20
"""Highest distance in bytes from the code's end to the end of the arrays and their strings."""

MIN_RUN = 64
"""Lowest number of entries of a run."""

MAX_GAP = 8
"""Highest step, in entries, between two entries of a run: entries whose names begin inside of other names are not
seen."""


Run = tuple[NDArray[np.uint64], Names]
"""Addresses, and the string beside each."""


def searched_runs(memory: Memory, placement: Placement, end: int) -> Iterator[list[Run]]:
    """Yield runs of words that hold an address and, beside it, that of a string.

    Runs of pointers come first, then runs of 32-bit distances.

    Args:
        memory: the memory with the image.
        placement: its placement.
        end: address behind the code.
    """
    try:
        window = memory.window(placement.physical(end), 0, WITHIN)
    except UnmappedError:
        return
    text = lanes(window.data)
    for words, relative in ((placement.words, False), (Words(4, placement.words.byte_order), True)):
        entries, strings, values = pairs(window, words, placement.distance, relative=relative)
        runs = _runs(entries, words.size)
        yield [(placement.words.wrap(values[low:high]), Names.of(text, strings[low:high])) for low, high in runs]


def _runs(entries: NDArray[np.int64], width: int) -> list[tuple[int, int]]:
    """Return the ranges in which entries of two or three fields follow each other.

    Each is the index of the first entry, and the index behind the last.
    """
    steps = np.diff(entries)
    best: list[tuple[int, int]] = []
    for size in (2 * width, 3 * width):
        near = (steps % size == 0) & (steps <= MAX_GAP * size)
        edges = np.flatnonzero(np.diff(np.concatenate(([False], near, [False])).astype(np.int8))).reshape(-1, 2)
        runs = [(low, high + 1) for low, high in edges.tolist() if high + 1 - low >= MIN_RUN]
        if sum(high - low for low, high in runs) > sum(high - low for low, high in best):
            best = runs
    return best
