"""Find the chunks of a range in Snappy's frames as AVML writes them, also behind a damaged chunk.

Source: framing_format.txt of google/snappy. A chunk's header has its length, so that a damaged header hides the chunks
behind it. Each chunk but the last of a range has 64 KiB, and the range's size is known: chunks that lead exactly to the
range's end are found again, and their sizes, counted back from there, give their addresses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.byte_search import places_of
from kallsift.compression.varints import varints
from kallsift.memory.formats.range_headers import HeadedRange

IDENTIFIER = b"\xff\x06\x00\x00sNaPpY"
"""Chunk that begins a stream of frames."""

COMPRESSED, PLAIN = 0x00, 0x01
"""Kinds of chunks with data; besides these, AVML writes only the one that begins a stream."""

CHECKSUM = 4
MAX_CHUNK = 1 << 16
"""Highest number of bytes that a chunk decompresses to."""
TRAILER = 8
"""Size in bytes of the number behind the chunks of a range: the size of these chunks."""

CHUNK_COST = 1 << 13
"""Cost of one chunk, as the number of bytes that could be read in that time.

Its position takes less memory than this.
"""

SHORT_COST = 1 << 16
"""Additional cost of a chunk of less than 64 KiB: a range has one, its last."""

MAX_RATIO = 22
"""Highest number of bytes that one byte of Snappy's can expand to: a copy of 64 bytes takes three."""

FULL: tuple[dict[int, int], ...] = (
    {8: 0x80, 10: 0x04, 9: 0x80, 0: COMPRESSED, 3: 0},
    {8: 0x80, 10: 0x04, 9: 0x80, 0: COMPRESSED, 3: 1},
    dict(enumerate(b"\x01\x04\x00\x01")),
)
"""Beginnings of a chunk of 64 KiB, as bytes at offsets: compressed (its first bytes are its size), or plain."""

SEARCHED_AT_ONCE = 1 << 18


class Chunk(NamedTuple):
    """A chunk with data: its range in the file with the header, its offset in its memory range, and its size."""

    start: int
    end: int
    offset: int
    size: int


class Frames:
    """The chunks of all ranges of a file, as many as the budget allows."""

    def __init__(self, view: NDArray[np.uint8], budget: WorkBudget) -> None:
        self.view, self.budget = view, budget

    def chunks(self, found: HeadedRange) -> tuple[list[Chunk], int]:
        """Walk over the chunks of a range.

        Returns:
            The adjacent chunks from the first one on, and the file offset behind them, where no valid chunk stands.
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

    def last_chunks(self, found: HeadedRange, position: int, end: int) -> list[Chunk]:
        """Return the chunks of a range behind a damaged one that lead to the range's end.

        Args:
            found: the range.
            position: file offset of the damaged chunk.
            end: file offset behind the range's last chunk.
        """
        failed: set[int] = set()
        for place in self._full(position + 1, end):
            walked, behind = self._walk(place, end, failed)
            if behind == end:
                return _placed(walked, found)
            failed.update(start for start, _, _ in walked)
        return []

    def _full(self, position: int, end: int) -> Iterator[int]:
        """Yield the offsets between two where a chunk of 64 KiB can begin, ascending.

        The search ends when the budget is spent.
        """
        reach = max(map(max, FULL))
        for low in range(position, end, SEARCHED_AT_ONCE):
            if not self.budget.take("MiB of the search for chunks", SEARCHED_AT_ONCE, count=max(1, (end - low) >> 20)):
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
        """Walk over the chunks from an offset to another, or to one of ``stops``.

        Returns:
            Begin, end and size of each chunk; and the offset where the walk ends.
        """
        walked: list[tuple[int, int, int]] = []
        while position < end and position not in stops and (step := self._step(position, end)):
            walked.append((position, step[1], step[0]))
            position = step[1]
        return walked, position

    def _step(self, position: int, limit: int) -> tuple[int, int] | None:
        """Return the size of the contents of the chunk at an offset, and its end.

        The result is None if there is no whole chunk.
        """
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


def _placed(walked: list[tuple[int, int, int]], found: HeadedRange) -> list[Chunk]:
    """Return the chunks that end with a range, with their offsets in it.

    There are none if their sizes exceed that of the range.
    """
    offset = found.size - sum(size for _, _, size in walked)
    if offset < 0:
        return []
    chunks: list[Chunk] = []
    for start, end, size in walked:
        if size:
            chunks.append(Chunk(start, end, offset, size))
        offset += size
    return chunks
