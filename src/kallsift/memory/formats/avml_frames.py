"""Snappy's frames as AVML writes them: where the chunks of a range stand, and which are left where one is damaged.

Source: framing_format.txt of google/snappy. A chunk says how long it is, so that one whose header is damaged hides
those behind it. Each but the last of a range has 64 KiB, and the range's size is known: chunks that lead to the range's
very end are found again, and what they have from there back tells where they belong.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.byte_search import places_of
from kallsift.compression.varints import varints
from kallsift.memory.formats.range_headers import Range

IDENTIFIER = b"\xff\x06\x00\x00sNaPpY"
"""The chunk that begins a stream of frames."""

COMPRESSED, PLAIN = 0x00, 0x01
"""Kinds of chunks with data; AVML writes no others but the one that begins a stream."""

CHECKSUM = 4
MAX_CHUNK = 1 << 16
"""Bytes that a chunk unpacks to at most."""
TRAILER = 8
"""Bytes behind the chunks of a range: how many these have."""

CHUNK_COST = 1 << 13
"""Bytes that could be passed over while a chunk is looked at, and more than it takes to keep where it is."""

SHORT_COST = 1 << 16
"""The same of a chunk of less than 64 KiB besides: a range has one, its last."""

MAX_RATIO = 22
"""How many bytes one of Snappy's can become: it has a copy of 64 bytes in three."""

FULL: tuple[dict[int, int], ...] = (
    {8: 0x80, 10: 0x04, 9: 0x80, 0: COMPRESSED, 3: 0},
    {8: 0x80, 10: 0x04, 9: 0x80, 0: COMPRESSED, 3: 1},
    dict(enumerate(b"\x01\x04\x00\x01")),
)
"""How a chunk of 64 KiB begins, as bytes at distances: packed (its first bytes are its size), or as it is."""

SEARCHED_AT_ONCE = 1 << 18


class Chunk(NamedTuple):
    """Where a chunk with data stands in the file, header included, where in its range it belongs, and its size."""

    start: int
    end: int
    offset: int
    size: int


class Frames:
    """The chunks of all ranges of a file, as many as the budget allows."""

    def __init__(self, view: NDArray[np.uint8], budget: WorkBudget) -> None:
        self.view, self.budget = view, budget

    def chunks(self, found: Range) -> tuple[list[Chunk], int]:
        """Walk over the chunks of a range.

        Returns:
            Those from the first on that follow one another, and the file offset behind them, or of what is no chunk.
        """
        chunks: list[Chunk] = []
        position, size = found.content, 0
        while size < found.size and (step := self._step(position, len(self.view))):
            unpacked, end = step
            if unpacked > found.size - size:
                break
            if unpacked:
                chunks.append(Chunk(position, end, size, unpacked))
            size, position = size + unpacked, end
        return chunks, position

    def last_chunks(self, found: Range, position: int, end: int) -> list[Chunk]:
        """Return the chunks of a range behind a damaged one, as many as lead to where the last one ends.

        Args:
            found: the range.
            position: file offset of the damaged chunk.
            end: that behind the range's last chunk.
        """
        failed: set[int] = set()
        for place in self._full(position + 1, end):
            walked, behind = self._walk(place, end, failed)
            if behind == end:
                return _placed(walked, found)
            failed.update(start for start, _, _ in walked)
        return []

    def _full(self, position: int, end: int) -> Iterator[int]:
        """Yield where a chunk of 64 KiB can begin between two file offsets, ascending, as long as the budget lasts."""
        reach = max(map(max, FULL))
        for low in range(position, end, SEARCHED_AT_ONCE):
            if not self.budget.take("MiB searched for chunks", SEARCHED_AT_ONCE, count=max(1, (end - low) >> 20)):
                return
            block = self.view[low : min(low + SEARCHED_AT_ONCE + reach, end)]
            found = np.sort(np.concatenate([places_of(block, wanted) for wanted in FULL]))
            for place in (low + found[found < SEARCHED_AT_ONCE]).tolist():
                if min(self.budget.work, self.budget.output) < CHUNK_COST:
                    return
                yield place

    def lead(self, position: int, end: int) -> bool:
        """Tell whether the chunks from one file offset on lead to another."""
        return self._walk(position, end, set())[1] == end

    def _walk(self, position: int, end: int, stops: set[int]) -> tuple[list[tuple[int, int, int]], int]:
        """Begin, end and size of the chunks from an offset on to another, or to one of ``stops``; and where it ends."""
        walked: list[tuple[int, int, int]] = []
        while position < end and position not in stops and (step := self._step(position, end)):
            walked.append((position, step[1], step[0]))
            position = step[1]
        return walked, position

    def _step(self, position: int, limit: int) -> tuple[int, int] | None:
        """How much the chunk at a file offset holds, and where it ends; None if there is none, or not as a whole."""
        if not self.budget.take("places in the file with chunks", CHUNK_COST, CHUNK_COST):
            return None
        head = self.view[position : position + 4 + CHECKSUM + 4].tobytes()
        end = position + 4 + int.from_bytes(head[1:4], "little")
        if len(head) < 4 or end > limit:
            return None
        if head[: len(IDENTIFIER)] == IDENTIFIER:
            return 0, end
        if head[0] not in (COMPRESSED, PLAIN):
            return None
        size = next(varints(head[4 + CHECKSUM :]), 0) if head[0] == COMPRESSED else end - position - 4 - CHECKSUM
        if not 0 < size <= min(MAX_CHUNK, MAX_RATIO * (end - position)) or (
            size < MAX_CHUNK and not self.budget.take("places in the file with chunks", SHORT_COST)
        ):
            return None
        return size, end


def _placed(walked: list[tuple[int, int, int]], found: Range) -> list[Chunk]:
    """Give chunks that end with a range their offsets in it; none if they are more than it has."""
    offset = found.size - sum(size for _, _, size in walked)
    if offset < 0:
        return []
    chunks: list[Chunk] = []
    for start, end, size in walked:
        if size:
            chunks.append(Chunk(start, end, offset, size))
        offset += size
    return chunks
