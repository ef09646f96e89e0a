"""Read a file whose bytes stand elsewhere, in pieces and in another order, as if they were in order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.memory.file_mapping import stored_size
from kallsift.memory.lazy_segment import Cache, LazySegment
from kallsift.memory.segments import BytesSegment, Segment
from kallsift.memory.unreadable import MISSING, UnreadablePages

BLOCK = 1 << 16
"""Number of bytes of a stretch that are put in order at once."""


class ReassembledFile:
    """A replacement of a file's view for slices and the length; bytes that no piece covers are zero.

    Attributes:
        stored_size: number of bytes of the view that are stored; the length follows from the pieces.
    """

    def __init__(
        self, view: Content, offsets: NDArray[np.int64], sizes: NDArray[np.int64], places: NDArray[np.int64]
    ) -> None:
        """Put pieces in order.

        Where pieces overlap, a later one wins, as if they had been written one by one.

        Args:
            view: bytes with the pieces: a file, or one that was put in order itself.
            offsets: offset of each piece in the result, shape (n,).
            sizes: size of each piece in bytes, shape (n,).
            places: offset of each piece in ``view``, shape (n,).
        """
        self._view = view
        ends = offsets + sizes
        order = np.argsort(offsets, kind="stable")
        starts = offsets[order]
        if (ends[order][:-1] > starts[1:]).any():
            starts, ends, places = _resolved(offsets, ends, places)
        else:
            ends, places = ends[order], places[order]
        self._starts, self._ends, self._places = starts, ends, places
        self._size = int(ends.max(initial=0))
        self.stored_size = stored_size_of(view)
        self._cache = Cache()
        self.unreadable = UnreadablePages(problem=MISSING)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> NDArray[np.uint8]:
        """Return the bytes of a slice without a step, shape (n,), uint8.

        The result is a view where one piece holds them all.
        """
        start, stop, _ = part.indices(self._size)
        if start >= stop:
            return np.empty(0, np.uint8)
        first = max(0, int(np.searchsorted(self._starts, start, "right")) - 1)
        if self._starts[first] <= start and stop <= self._ends[first]:
            place = int(self._places[first]) + start - int(self._starts[first])
            return self._view[place : place + stop - start]
        data = np.zeros(stop - start, np.uint8)
        for number in range(first, int(np.searchsorted(self._starts, stop, "left"))):
            begin, low = int(self._starts[number]), max(start, int(self._starts[number]))
            high = min(stop, int(self._ends[number]))
            if low < high:
                place = int(self._places[number]) - begin
                data[low - start : high - start] = self._view[place + low : place + high]
        return data

    def gaps(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the parts between two offsets that no piece covers."""
        for number in range(max(0, int(np.searchsorted(self._starts, start, "right")) - 1), len(self._starts)):
            low, high = int(self._starts[number]), int(self._ends[number])
            if start < min(low, stop):
                yield start, min(low, stop)
            start = max(start, high)
            if start >= stop:
                return
        if start < stop:
            yield start, stop

    def stretch(self, address: int, start: int, stop: int) -> LazySegment:
        """Return the bytes from offset ``start`` to ``stop`` as memory at an address.

        They are put in order when they are read.
        """

        def decode(number: int) -> NDArray[np.uint8]:
            low = start + number * BLOCK
            high = min(low + BLOCK, stop)
            for gap_start, gap_end in self.gaps(low, high):
                self.unreadable.add(start, gap_start - start, gap_end - start)
            return self[low:high].view()

        return LazySegment(address, BLOCK, stop - start, decode, self._cache, start, unreadable_pages=self.unreadable)


Content = NDArray[np.uint8] | ReassembledFile
"""The bytes of a file, as they stand or put in order."""


def stored_size_of(content: Content) -> int:
    """Return the number of stored bytes of a file, whatever its pieces say."""
    return content.stored_size if isinstance(content, ReassembledFile) else stored_size(content)


def stretch(content: Content, address: int, start: int, stop: int) -> Segment:
    """Return the bytes from offset ``start`` to ``stop`` as memory at an address."""
    if isinstance(content, ReassembledFile):
        return content.stretch(address, start, min(stop, len(content)))
    return BytesSegment(address, content[start:stop])


def _resolved(
    offsets: NDArray[np.int64], ends: NDArray[np.int64], places: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return starts, ends and places of pieces that no longer overlap, in order.

    Each cell between two bounds goes to the last piece that covers it. A piece has at most as many cells as bytes, so
    all of them together take no longer than a copy of the file would.
    """
    bounds = np.unique(np.concatenate([offsets, ends]))
    owners = np.full(len(bounds) - 1, -1, np.int64)
    firsts, lasts = np.searchsorted(bounds, offsets), np.searchsorted(bounds, ends)
    for number, (first, last) in enumerate(zip(firsts.tolist(), lasts.tolist(), strict=True)):
        owners[first:last] = number
    covered = np.flatnonzero(owners >= 0)
    owners, starts = owners[covered], bounds[covered]
    return starts, bounds[covered + 1], places[owners] + starts - offsets[owners]
