"""Rank digits of token tables by the markers and names before them, which are cheap to check and expensive to forge.

Anybody on a machine can write ascending words into memory by the page. But before markers of n groups there must be 256
n names, and before these their number. Whoever forges that for as many names as a kernel has needs as much memory as
the names take.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import STEP, WorkBudget
from kallsift.errors import UnmappedError
from kallsift.kallsyms.format.markers import GROUP, Markers, find_markers
from kallsift.kallsyms.format.name_stream import is_group
from kallsift.kallsyms.format.token_table import MAX_PADDING, MAX_TABLE
from kallsift.kallsyms.solvers.adjacent import MARKERS_WITHIN
from kallsift.memory.memory import Memory
from kallsift.memory.segments import Segment

BLOCK = MARKERS_WITHIN
"""Bytes whose markers are counted together."""

MAX_DIGITS = 2 * MAX_TABLE
"""Highest distance in bytes from the beginning of a token table, and of what may stand before it, to its digits."""

BLOCK_COST = 4
"""Number of passes over the bytes of a block, for the budget."""

LAST_GROUP = 1 << 15
"""Highest size in bytes of the names behind the last marker: 256 names of 128 bytes."""

MAX_NUMBERS = 8
"""Highest number of words before one run of markers that are followed as the possible number of names."""

SAMPLED_GROUPS = 4
"""Number of groups of names that are walked through: the first one and others that nobody can foretell."""

Rank = tuple[int, int]
"""Number of markers that have names before them, and number of words that can be markers; more of either is better."""


@dataclass(eq=False)
class MarkerRanking:
    """Ranks of what stands before digits; each block of memory is read once.

    Attributes:
        memory: the memory that is searched.
        budget: the work that this may cost.
    """

    memory: Memory
    budget: WorkBudget
    _blocks: dict[tuple[int, str], Rank] = field(default_factory=dict)

    def rank(self, address: int) -> Rank:
        """Return the best rank, in either byte order, of markers before an address.

        The address is that of digits.
        """
        blocks = range(max(0, address - MARKERS_WITHIN - MAX_DIGITS) // BLOCK, address // BLOCK + 1)
        return max(self._of_block(block, byte_order) for block in blocks for byte_order in "<>")

    def _of_block(self, block: int, byte_order: str) -> Rank:
        if (block, byte_order) not in self._blocks:
            ranks = [(0, 0)]
            for stretch in self.memory.between(block * BLOCK, (block + 1) * BLOCK):
                start, data = _aligned(stretch, block * BLOCK)
                if self.budget.take("token tables", BLOCK_COST * len(data)):
                    found = find_markers(data, 0, len(data), byte_order)
                    ranks += (self._of_markers(start, markers, byte_order) for markers in found)
            self._blocks[block, byte_order] = max(ranks)
        return self._blocks[block, byte_order]

    def _of_markers(self, start: int, markers: Markers, byte_order: str) -> Rank:
        count = len(markers.values)
        try:
            has_names = self.budget.take("token tables", STEP) and self._has_names(start, markers, byte_order)
        except UnmappedError:
            has_names = False
        return (count if has_names else 0, count)

    def _has_names(self, start: int, markers: Markers, byte_order: str) -> bool:
        """Tell whether as many names stand before markers as the markers require.

        Some of the groups of names are checked.

        Raises:
            UnmappedError: if the memory lacks bytes of them.
        """
        end = start + markers.offset - int(markers.values[-1])
        low = max(0, end - LAST_GROUP)
        if end <= low:
            return False
        before = self.memory.read(low, end - low)
        groups = [0, *_unforeseen(len(markers.values) - 1, SAMPLED_GROUPS - 1)]
        for names in _beginnings(before, len(markers.values), -low % 4, byte_order):
            if all(self._is_group(low + names, *markers.values[group : group + 2].tolist()) for group in groups):
                return True
        return False

    def _is_group(self, names: int, start: int, end: int) -> bool:
        """Tell whether 256 names fill the bytes between two offsets in the names.

        Either rule of lengths is accepted.
        """
        data = self.memory.read(names + start, end - start).tobytes()
        return any(is_group(data, two_byte_lengths) for two_byte_lengths in (True, False))


def _unforeseen(end: int, count: int) -> list[int]:
    """Return numbers below an end that whoever made the memory cannot foretell."""
    # importing `numpy.random` would take longer than this
    return [int.from_bytes(os.urandom(8)) % end for _ in range(count)]


def _beginnings(before: NDArray[np.uint8], groups: int, skipped: int, byte_order: str) -> Iterator[int]:
    """Yield the offsets at which names can begin.

    They stand behind a word that can be the number of names in so many groups, and padding.

    Args:
        before: bytes in which the names begin.
        groups: number of groups of names.
        skipped: bytes before the first word.
        byte_order: byte order of the words.
    """
    words = before[skipped:][: (len(before) - skipped) // 4 * 4].view(f"{byte_order}u4")
    numbers = np.flatnonzero((words > GROUP * (groups - 1)) & (words <= GROUP * groups))
    for number in numbers[-MAX_NUMBERS:].tolist():
        behind = skipped + 4 * number + 4
        filled = np.flatnonzero(before[behind : behind + MAX_PADDING])
        if len(filled):
            yield behind + int(filled[0])


def _aligned(stretch: Segment, low: int) -> tuple[int, NDArray[np.uint8]]:
    """Return the address and the bytes of a stretch's part of a block.

    They begin at the first address that is a multiple of 8.
    """
    start = max(low, stretch.start)
    start += -start % 8
    data = stretch.read(max(0, start - stretch.start), max(0, low + BLOCK - stretch.start))
    return start, data[: len(data) // 8 * 8]
