"""Write pieces of a stream into a file, with holes for the bytes that are lost between them.

If the number of lost bytes is unknown, the pieces behind are written too, and moved to their offset at the end. If that
happens several times, the pieces between the first and the last of these places are lost too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kallsift.compression.stream_frames import Break, Gap, Piece
from kallsift.memory.file_faults import lose
from kallsift.memory.file_mapping import faults_of, map_file

MOVED_AT_ONCE = 1 << 22

MAX_LOST = 1 << 32
"""Highest number of bytes of a hole of unknown size."""


class End(NamedTuple):
    """The offset of the end of a stream that lacks a part in the middle.

    Attributes:
        offset: offset of the first byte behind the lost part.
        is_guess: True if it is only likely.
    """

    offset: int
    is_guess: bool = False


Place = Callable[[NDArray[np.uint8], NDArray[np.uint8], range], End | None]
"""Function that returns the offset of the end of a stream that lacks a part in the middle; None if nothing tells.

Its arguments are the beginning and the end, shape (n,), uint8, and the possible numbers of lost bytes.
"""


def behind_least(head: NDArray[np.uint8], _tail: NDArray[np.uint8], possible: range) -> End:
    """Return the lowest possible offset of the end, for formats whose parts have addresses of their own."""
    return End(len(head) + possible.start)


class SpoolFile:
    """A file that is written piece by piece.

    Attributes:
        size: number of bytes in it so far.
        lost: number of bytes in it that are lost between pieces.
        is_guess: True if this number is only likely.
    """

    def __init__(self, file: IO[bytes]) -> None:
        """Begin at the start of an empty file."""
        self._file = file
        self.size = self.lost = 0
        self.is_guess = False
        self._gaps = list[range]()
        self._head: int | None = None
        self._lost = range(0, 1)

    def add(self, piece: Piece) -> None:
        """Write the next piece."""
        if isinstance(piece, Break):
            self._break(piece)
        elif isinstance(piece, Gap):
            self._gaps.append(range(self.size - piece.before, self.size + piece.size))
            self._file.seek(piece.size, os.SEEK_CUR)
            self.size += piece.size
            self.lost += piece.size
        else:
            self._file.write(piece)
            self.size += len(piece)

    def finish(self, name: str, place: Place | None) -> NDArray[np.uint8] | None:
        """Put the end at its offset, or leave it out; return the file as a view.

        The view is read-only, and None if the file is empty.
        """
        if self._head is not None:
            self._put_end(name, self._head, place)
        self._file.truncate(self.size)
        self._file.flush()
        data = map_file(name, self._file.fileno(), self.size) if self.size else None
        if data is not None and (faults := faults_of(data)) is not None:
            for gap in self._gaps:
                lose(faults, gap.start, gap.stop)
        return data

    def _break(self, found: Break) -> None:
        self.size -= found.before
        if self._head is None:
            self._head = self.size
        dropped = self.size - self._head
        self._lost = range(self._lost.start + found.least + dropped, self._lost.stop + found.most + dropped)
        self.size = self._head
        self._gaps = [gap for gap in self._gaps if gap.start < self._head]
        self._file.seek(self.size)
        self._file.truncate()

    def _put_end(self, name: str, head: int, place: Place | None) -> None:
        self._file.truncate(self.size)
        self._file.flush()
        data = map_file(name, self._file.fileno(), self.size) if head < self.size else None
        end = place(data[:head], data[head:], self._lost) if data is not None and place is not None else None
        if end is None or not self._lost.start <= end.offset - head <= MAX_LOST:
            self.size = head
            return
        start = end.offset
        descriptor, lost, length = self._file.fileno(), start - head, self.size - head
        for low in reversed(range(0, length, MOVED_AT_ONCE)):
            part = os.pread(descriptor, min(MOVED_AT_ONCE, length - low), head + low)
            os.pwrite(descriptor, part, start + low)
        for low in range(head, head + min(lost, length), MOVED_AT_ONCE):
            os.pwrite(descriptor, bytes(min(MOVED_AT_ONCE, head + min(lost, length) - low)), low)
        self._gaps = [gap if gap.start < head else range(gap.start + lost, gap.stop + lost) for gap in self._gaps]
        self._gaps.append(range(head, start))
        self.size += lost
        self.lost += lost
        self.is_guess = end.is_guess
