"""Bytes that a container holds in blocks, each decoded or fetched when it is asked for, behind a bounded cache."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from kallsift.memory.memory import Packed, Stretch
from kallsift.memory.unreadable import UnreadablePages

CACHE_SIZE = 64 << 20
"""Bytes of decoded blocks that a container keeps."""

PASSING = 8
"""Blocks that are not kept when so many are read at once: who passes over all bytes does not come back for them."""


class Cache:
    """The blocks of one container that were used last; many threads may use it at once."""

    def __init__(self, limit: int = CACHE_SIZE) -> None:
        """Of ``limit`` bytes, or one block if that is larger."""
        self._limit = limit
        self._size = 0
        self._blocks: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()
        self._lock = Lock()

    def get(self, owner: int, number: int, decode: Callable[[int], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Block ``number`` of the stretch that calls itself ``owner``."""
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


@dataclass(frozen=True, eq=False)
class Stored(Stretch):
    """A run of contiguous bytes in blocks.

    Attributes:
        start: address of the first byte.
        blocks: offset at which each block begins, and the end of the last one, shape (n + 1,), int64, ascending from
            0; or the size of all blocks, the last of which may be shorter.
        length: bytes in all blocks.
        decode: the bytes of a block by its number, as many as ``blocks`` says; what is broken is zero.
        cache: that of the container.
        owner: tells the stretches of a container apart in its cache.
        lost: bytes at the beginning that are left out.
        decode_many: the bytes of some blocks in a row, by the numbers of the first and of the one behind the last,
            where that costs less than block by block.
        zeros: whether nothing but zeros stands between two offsets, as far as that is known without decoding.
        packed: as `Stretch.packed`.
        unreadable_pages: where ``decode`` notes what is broken, by ``owner``; None where nothing can be.
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
    packed: Packed | None = None
    unreadable_pages: UnreadablePages | None = None

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self.length - self.lost

    def read(self, low: int = 0, high: int | None = None) -> NDArray[np.uint8]:
        """As `Stretch.read`: a view of a block where one holds it all, else a copy."""
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
        """As `Stretch.gather`: each block is decoded once."""
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
        """As `Stretch.unreadable`."""
        return self.unreadable_pages.mask(self.owner, offsets + self.lost, width) if self.unreadable_pages else None

    def blank(self, low: int, high: int) -> bool:
        """As `Stretch.blank`."""
        return self.zeros(low + self.lost, min(high + self.lost, self.length))

    def moved(self, by: int, lost: int = 0) -> Stored:
        """As `Stretch.moved`."""
        packed = self.packed and replace(self.packed, bounds=self.packed.bounds - lost)
        return replace(self, start=self.start + lost + by, lost=self.lost + lost, packed=packed)

    def _numbers(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The block that each byte is in."""
        if isinstance(self.blocks, int):
            return places // self.blocks
        return np.searchsorted(self.blocks, places, side="right") - 1

    def _number(self, place: int) -> int:
        """The block that one byte is in."""
        if isinstance(self.blocks, int):
            return place // self.blocks
        return int(self.blocks.searchsorted(place, side="right")) - 1

    def _start(self, number: int) -> int:
        return number * self.blocks if isinstance(self.blocks, int) else int(self.blocks[number])

    def _block(self, number: int) -> NDArray[np.uint8]:
        return self.cache.get(self.owner, number, self.decode)
