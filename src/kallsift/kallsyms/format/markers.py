"""Find runs of words that can be the markers of a name stream, by the size of each step.

Markers are the offsets of every 256th entry, so each lies at least 2 * 256 and at most 256 * `MAX_ENTRY` bytes above
the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GROUP = 256
"""Number of entries between two markers."""

MAX_ENTRY = 2 + 1024
"""Highest size of an entry in bytes: two bytes of length, and twice the codes of the longest name (512 characters since
6.1)."""

MAX_RUNS = 8
"""Highest number of runs that are tried, the longest first."""

FEW = 8
"""Number of markers that are compared in all runs at once; few runs have more."""

MAX_TRIMMED = 3
"""Highest number of ends that are tried of a run: the first words of the table behind the markers can look like more of
them."""


@dataclass(frozen=True, eq=False)
class Markers:
    """Marker candidates: a run of words whose steps offsets of every 256th entry can have.

    Attributes:
        offset: offset of the first marker in the segment's data.
        width: bytes of a marker, 4 or 8.
        values: shape (n,), int64, strictly increasing from 0.
    """

    offset: int
    width: int
    values: NDArray[np.int64]

    @property
    def size(self) -> int:
        """Size of all markers in bytes."""
        return len(self.values) * self.width


def find_markers(
    data: NDArray[np.uint8], low: int, high: int, byte_order: str, most: int = MAX_RUNS
) -> Iterator[Markers]:
    """Yield runs in ``data[low:high]`` that can be markers, the longest first.

    Of runs with equally many markers, those nearest to ``high`` come first. Each run is yielded with up to
    `MAX_TRIMMED` ends.

    Args:
        data: the segment's bytes.
        low: start of the search; markers lie at multiples of four from it.
        high: end of the search.
        byte_order: byte order of the token index.
        most: highest number of runs that are tried.
    """
    runs: list[tuple[int, int, int, NDArray[np.uint64]]] = []
    for width in (4, 8):
        words = np.frombuffer(data[low : low + (high - low) // width * width].tobytes(), f"{byte_order}u{width}")
        starts, counts = _marker_runs(words)
        longest = np.lexsort((-starts, -counts))[:most]
        runs += [(int(counts[run]), int(starts[run]), width, words) for run in longest]
    for count, first, width, words in sorted(runs, key=lambda run: (-run[0], -run[1] * run[2]))[:most]:
        values = words[first : first + count].astype(np.int64)
        for trimmed in range(min(MAX_TRIMMED, count - 1)):
            yield Markers(low + first * width, width, values[: count - trimmed])


def _marker_runs(words: NDArray[np.unsignedinteger]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the starts of runs of two markers or more, and their lengths.

    Both are indices of words, shapes (n,).
    """
    least, span = words.dtype.type(2 * GROUP), words.dtype.type(GROUP * MAX_ENTRY - 2 * GROUP)
    if len(words) < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    starts = np.flatnonzero(words[1:] - least <= span)
    starts = starts[words[starts] == 0]
    counts = np.full(len(starts), 2, np.int64)
    going = np.arange(len(starts))
    for _ in range(FEW):
        going = going[starts[going] + counts[going] < len(words)]
        last = starts[going] + counts[going]
        going = going[words[last] - words[last - 1] - least <= span]
        counts[going] += 1
    for run in going.tolist():
        # runs do not overlap, because each begins with a zero
        size = 2 * FEW
        while True:
            part = words[starts[run] : starts[run] + size]
            ends = np.flatnonzero(part[1:] - part[:-1] - least > span)
            if len(ends) or len(part) < size:
                counts[run] = int(ends[0]) + 1 if len(ends) else len(part)
                break
            size *= 2
    return starts, counts
