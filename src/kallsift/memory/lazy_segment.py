"""Read bytes that a container holds in blocks, each decoded or fetched on demand, behind a bounded cache."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from kallsift.memory.segments import CompressedView, Segment
from kallsift.memory.unreadable import UnreadablePages

CACHE_SIZE = 64 << 20
"""Number of bytes of decoded blocks that a container keeps."""

PASSING = 8
"""Number of blocks in one read from which on they are not cached: sequential scans do not come back for them."""


class Cache:
    """The last used blocks of one container; threads may use it at the same time."""

    def __init__(self, limit: int = CACHE_SIZE) -> None:
        """Create a cache of ``limit`` bytes, or of one block if that is larger."""
        self._limit = limit
        self._size = 0
        self._blocks: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()
        self._lock = Lock()

    def get(self, owner: int, number: int, decode: Callable[[int], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return block ``number`` of the stretch that is called ``owner``."""
        key = owner, number
        with self._lock:
            if key in self._blocks:
                self._blocks.move_to_end(key)
                return self._blocks[key]
        block = decode(number)
        block.flags.writeable = False
        with self._lock:
            if key not in self._blocks:
                self._blocks[key] = block
                self._size += len(block)
            while self._size > self._limit and len(self._blocks) > 1:
                self._size -= len(self._blocks.popitem(last=False)[1])
        return block


@dataclass(frozen=True, eq=False, repr=False)
class LazySegment(Segment):
    """A run of contiguous bytes in blocks.

    Attributes:
        start: address of the first byte.
        blocks: offset at which each block begins, and the end of the last one, shape (n + 1,), int64, ascending from 0;
            or the size of all blocks, the last of which may be shorter.
        length: number of bytes in all blocks.
        decode: function that returns the bytes of a block by its number, as many as ``blocks`` says; broken ones are
            zero.
        cache: the container's cache.
        owner: number that distinguishes the stretches of a container in its cache.
        lost: number of bytes at the beginning that are left out.
        decode_many: function that returns the bytes of some adjacent blocks, by the numbers of the first and of the one
            behind the last, where that costs less than block by block.
        zeros: function that tells whether only zeros stand between two offsets, as far as that is known without
            decoding.
        packed: as `Segment.packed`.
        unreadable_pages: collection where ``decode`` notes broken bytes, by ``owner``; None where there can be none.
    """

    start: int
    blocks: NDArray[np.int64] | int
    length: int
    decode: Callable[[int], NDArray[np.uint8]]
    cache: Cache = field(default_factory=Cache)
    owner: int = 0
    lost: int = 0
    decode_many: Callable[[int, int], NDArray[np.uint8]] | None = None
    zeros: Callable[[int, int], bool] = lambda low, high: False
    packed: CompressedView | None = None
    unreadable_pages: UnreadablePages | None = None

    def __repr__(self) -> str:
        return f"<LazySegment {self.start:#x} to {self.end:#x}: {self.size:,} bytes in blocks>"

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.length - self.lost

    def read(self, low: int = 0, high: int | None = None) -> NDArray[np.uint8]:
        """Return bytes as `Segment.read` does.

        The result is a view of a block where one block holds them all, else a copy.
        """
        low, high = low + self.lost, self.length if high is None else min(high + self.lost, self.length)
        if low >= high:
            return np.empty(0, np.uint8)
        first, last = self._number(low), self._number(high - 1)
        if first == last:
            return self._block(first)[low - self._start(first) : high - self._start(first)]
        if self.decode_many is not None and last - first >= PASSING:
            return self.decode_many(first, last + 1)[low - self._start(first) :][: high - low]
        data = np.empty(high - low, np.uint8)
        for number in range(first, last + 1):
            start = self._start(number)
            block = self._block(number)[max(0, low - start) : high - start]
            data[max(start, low) - low :][: len(block)] = block
        return data

    def gather(self, offsets: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
        """Return bytes from each offset, as `Segment.gather` does.

        Each block is decoded once.
        """
        if not len(offsets):
            return np.empty((0, width), np.uint8)
        low, high = int(offsets.min()) + self.lost, int(offsets.max()) + self.lost + width - 1
        first, last = self._number(low), self._number(high)
        if first == last:
            # walks through page tables and lists ask for few words at a time
            inside: NDArray[np.uint8] = self._block(first)[
                (offsets + (self.lost - self._start(first)))[:, None] + np.arange(width)
            ]
            return inside
        places = (offsets[:, None] + np.arange(self.lost, self.lost + width)).ravel()
        numbers = self._numbers(places)
        order = np.argsort(numbers, kind="stable")
        cells = np.empty(len(places), np.uint8)
        for chosen in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
            if len(chosen):
                number = int(numbers[chosen[0]])
                cells[chosen] = self._block(number)[places[chosen] - self._start(number)]
        return cells.reshape(len(offsets), width)

    def unreadable(self, offsets: NDArray[np.int64], width: int) -> NDArray[np.bool_] | None:
        """Tell which values touch unreadable bytes, as `Segment.unreadable` does."""
        return self.unreadable_pages.mask(self.owner, offsets + self.lost, width) if self.unreadable_pages else None

    def blank(self, low: int, high: int) -> bool:
        """Tell whether a range holds only zeros, as `Segment.blank` does."""
        return self.zeros(low + self.lost, min(high + self.lost, self.length))

    def moved(self, by: int, lost: int = 0) -> LazySegment:
        """Return the bytes at other addresses, as `Segment.moved` does."""
        packed = self.packed and replace(self.packed, bounds=self.packed.bounds - lost)
        return replace(self, start=self.start + lost + by, lost=self.lost + lost, packed=packed)

    def _numbers(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of the block that each byte is in."""
        if isinstance(self.blocks, int):
            return places // self.blocks
        return np.searchsorted(self.blocks, places, side="right") - 1

    def _number(self, place: int) -> int:
        """Return the number of the block that one byte is in."""
        if isinstance(self.blocks, int):
            return place // self.blocks
        return int(self.blocks.searchsorted(place, side="right")) - 1

    def _start(self, number: int) -> int:
        return number * self.blocks if isinstance(self.blocks, int) else int(self.blocks[number])

    def _block(self, number: int) -> NDArray[np.uint8]:
        return self.cache.get(self.owner, number, self.decode)
