"""Rank digits of token tables by the markers before them, and by the names before those: cheap to ask, dear to forge.

Anybody on a machine can write ascending words into memory by the page. But markers of n groups stand behind 256 n
names, and before these their number: who forges that for as many as a kernel has needs as much memory as its names.
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
from kallsift.memory.memory import Memory, Stretch

BLOCK = MARKERS_WITHIN
"""Bytes whose markers are counted together."""

MAX_DIGITS = 2 * MAX_TABLE
"""Bytes from the beginning of a token table to its digits at most, and what may stand before it."""

BLOCK_COST = 4
"""How often the bytes of a block are passed over."""

LAST_GROUP = 1 << 15
"""Bytes that the names behind the last marker take at most: 256 of 128 bytes."""

MAX_NUMBERS = 8
"""Words that can be the number of names, of those before one run of markers, that are followed."""

SAMPLED_GROUPS = 4
"""Groups of names that are walked through, the first one and others that nobody can foretell."""

Rank = tuple[int, int]
"""Markers that have names before them, and words that can be markers; more of either is better."""


@dataclass(eq=False)
class MarkerRanking:
    """What stands before digits, block by block of memory; each block is looked at once.

    Attributes:
        memory: what is searched.
        budget: what that may cost.
    """

    memory: Memory
    budget: WorkBudget
    _blocks: dict[tuple[int, str], Rank] = field(default_factory=dict)

    def rank(self, address: int) -> Rank:
        """Return the best rank of markers before digits at an address, in whichever byte order."""
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
        """Whether as many names stand before markers as these are of, as far as some groups of them tell.

        Raises:
            UnmappedError: if the memory lacks what must stand there.
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
        """Whether 256 names fill the bytes between two offsets in the names: by either rule of lengths."""
        data = self.memory.read(names + start, end - start).tobytes()
        return any(is_group(data, two_byte_lengths) for two_byte_lengths in (True, False))


def _unforeseen(end: int, count: int) -> list[int]:
    """Return numbers below an end that whoever made the memory cannot foretell."""
    # `numpy.random` takes longer to import than all this takes
    return [int.from_bytes(os.urandom(8)) % end for _ in range(count)]


def _beginnings(before: NDArray[np.uint8], groups: int, skipped: int, byte_order: str) -> Iterator[int]:
    """Yield where names can begin: behind a word that can be the number of names in so many groups, and padding.

    Args:
        before: bytes in which they begin.
        groups: of names.
        skipped: bytes before the first word.
        byte_order: of the words.
    """
    words = before[skipped:][: (len(before) - skipped) // 4 * 4].view(f"{byte_order}u4")
    numbers = np.flatnonzero((words > GROUP * (groups - 1)) & (words <= GROUP * groups))
    for number in numbers[-MAX_NUMBERS:].tolist():
        behind = skipped + 4 * number + 4
        filled = np.flatnonzero(before[behind : behind + MAX_PADDING])
        if len(filled):
            yield behind + int(filled[0])


def _aligned(stretch: Stretch, low: int) -> tuple[int, NDArray[np.uint8]]:
    """Return what a stretch holds of a block from its first word of eight bytes on, and the address of that."""
    start = max(low, stretch.start)
    start += -start % 8
    data = stretch.read(max(0, start - stretch.start), max(0, low + BLOCK - stretch.start))
    return start, data[: len(data) // 8 * 8]
