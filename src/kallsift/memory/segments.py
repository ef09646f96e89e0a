"""Represent runs of contiguous bytes with addresses: available as an array, or decoded or fetched on demand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kallsift.memory.file_mapping import stored_parts, unreadable_parts


@dataclass(frozen=True, eq=False)
class CompressedView:
    """The packed pieces that a stretch is unpacked from, in a format where data that does not repeat stands as it is.

    Attributes:
        data: packed pieces in the order of their contents, shape (size,), uint8.
        places: offset of each piece in ``data``, shape (n,), int64, ascending.
        bounds: offset of each piece's contents in the stretch, and the end of the last one, shape (n + 1,), int64.
    """

    data: NDArray[np.uint8]
    places: NDArray[np.int64]
    bounds: NDArray[np.int64]

    def unpacked(self, places: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Return the ranges of the stretch that the pieces at some places hold.

        The pieces next to them are included. A range is a pair of offsets.
        """
        numbers = np.searchsorted(self.places, places, side="right") - 1
        lows, highs = self.bounds[np.maximum(numbers - 1, 0)], self.bounds[np.minimum(numbers + 2, len(self.places))]
        return list(dict.fromkeys(zip(lows.tolist(), highs.tolist(), strict=True)))


class Segment(ABC):
    """A run of contiguous bytes: available as an array, or decoded or fetched on demand."""

    start: int
    """Address of the first byte."""

    packed: CompressedView | None = None
    """Packed pieces that it is unpacked from, if these can be searched."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of bytes."""

    @property
    def end(self) -> int:
        """Address behind the last byte."""
        return self.start + self.size

    @abstractmethod
    def read(self, low: int = 0, high: int | None = None) -> NDArray[np.uint8]:
        """Return the bytes from offset ``low`` to ``high`` or the end, shape (n,), uint8.

        There are fewer bytes if the stretch ends before. The result is a view where they are available as an array.
        Unreadable bytes are zero (see `unreadable`).
        """

    @abstractmethod
    def gather(self, offsets: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
        """Return ``width`` bytes from each offset, shape (n, width), uint8.

        All of them must be inside of the stretch. Unreadable bytes are zero (see `unreadable`).
        """

    def unreadable(self, offsets: NDArray[np.int64], width: int) -> NDArray[np.bool_] | None:
        """Tell which values of `read` or `gather` touch unreadable bytes.

        Args:
            offsets: offset of each value, shape (n,).
            width: size of each value in bytes.

        Returns:
            A mask, shape (n,); None if no byte is unreadable so far.
        """
        return None

    def blank(self, low: int, high: int) -> bool:
        """Tell whether the container itself says that a range holds only zeros.

        The range goes from offset ``low`` to ``high``.
        """
        return False

    def stored(self) -> Iterator[tuple[int, int]]:
        """Yield the parts that can hold more than zeros, as ascending offsets.

        Holes of sparse files are left out.
        """
        yield 0, self.size

    @property
    def stored_size(self) -> int:
        """Number of bytes that can be more than zeros."""
        return sum(high - low for low, high in self.stored())

    def steps(self, size: int, first: int = 0) -> Iterator[int]:
        """Yield the offsets of blocks that can hold more than zeros.

        They are ``size`` bytes apart, from ``first`` on. A search through all bytes reads these blocks.
        """
        following = first
        for low, high in self.stored():
            start = max(following, first + (low - first) // size * size)
            for offset in range(start, high, size):
                yield offset
                following = offset + size

    @abstractmethod
    def moved(self, by: int, lost: int = 0) -> Segment:
        """Return the bytes at addresses higher by ``by``, without the first ``lost``."""


@dataclass(frozen=True, eq=False, repr=False)
class BytesSegment(Segment):
    """A run of contiguous bytes, available as an array.

    Attributes:
        start: address of the first byte.
        data: the bytes, shape (size,), uint8, a read-only view wherever the container allows it.
    """

    start: int
    data: NDArray[np.uint8]

    def __repr__(self) -> str:
        return f"<BytesSegment {self.start:#x} to {self.end:#x}: {self.size:,} bytes>"

    @property
    def size(self) -> int:
        """Number of bytes."""
        return len(self.data)

    def read(self, low: int = 0, high: int | None = None) -> NDArray[np.uint8]:
        """Return bytes as `Segment.read` does; always a view."""
        return self.data[low:high]

    def unreadable(self, offsets: NDArray[np.int64], width: int) -> NDArray[np.bool_] | None:
        """Tell which values touch unreadable bytes, as `Segment.unreadable` does."""
        return unreadable_parts(self.data, offsets, width)

    def stored(self) -> Iterator[tuple[int, int]]:
        """Yield the parts that can hold more than zeros, as `Segment.stored` does."""
        return stored_parts(self.data)

    def gather(self, offsets: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
        """Return bytes from each offset, as `Segment.gather` does."""
        every = np.ndarray((max(0, self.size - width + 1),), f"V{width}", self.data, strides=(1,))
        return every[offsets].view(np.uint8).reshape(len(offsets), width)

    def moved(self, by: int, lost: int = 0) -> BytesSegment:
        """Return the bytes at other addresses, as `Segment.moved` does."""
        return BytesSegment(self.start + lost + by, self.data[lost:])


Kind = TypeVar("Kind", bound=Segment)


def sorted_segments(segments: Iterable[Kind]) -> tuple[Kind, ...]:
    """Return segments in the order of their addresses, without empty ones."""
    return tuple(sorted((s for s in segments if s.size), key=lambda s: s.start))
