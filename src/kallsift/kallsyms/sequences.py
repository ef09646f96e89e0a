"""seqs_of_names: a permutation of the symbols that sorts them by name (6.2 and later, and 6.1.42 and later).

Three bytes an entry, big-endian on every machine; four bytes in the machine's order in 6.1.42 to 6.1.59. Names sort
as unsigned bytes without the type letter, equal ones by address. Clang LTO kernels up to 6.10 compared them cut at the
first ``.`` or at ``.llvm.``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.tokens import MAX_PADDING


@dataclass(frozen=True, eq=False)
class Sequences:
    """A permutation of the symbols, found in memory.

    Attributes:
        offset: of the first entry in the segment's data.
        entry_size: bytes of an entry, 3 or 4.
        order: shape (n,), int64; ``order[r]`` is the index of the r-th symbol by name.
    """

    offset: int
    entry_size: int
    order: NDArray[np.int64]

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return len(self.order) * self.entry_size


def find_sequences(data: NDArray[np.uint8], ends: list[int], count: int, byte_order: str) -> Sequences | None:
    """The permutation that follows one of the tables that end at ``ends``, or None.

    Args:
        data: the segment's bytes.
        ends: offsets behind the tables that are known.
        count: number of symbols.
        byte_order: ``"<"`` or ``">"``.
    """
    for end in ends:
        for offset in range(end, min(end + MAX_PADDING, len(data))):
            for entry_size in (3, 4):
                if (
                    offset + count * entry_size <= len(data)
                    and (order := _permutation(data, offset, count, entry_size, byte_order)) is not None
                ):
                    return Sequences(offset, entry_size, order)
    return None


def _permutation(
    data: NDArray[np.uint8], offset: int, count: int, entry_size: int, byte_order: str
) -> NDArray[np.int64] | None:
    """The entries from ``offset`` on if they are a permutation, else None; most candidates fail on their first few."""
    for size in (min(count, 64), count):
        cells = data[offset : offset + size * entry_size].reshape(size, entry_size).astype(np.int64)
        if entry_size == 4 and byte_order == "<":
            cells = cells[:, ::-1]
        order = cells[:, 0]
        for column in range(1, entry_size):
            order = order << 8 | cells[:, column]
        if int(order.max()) >= count or np.bincount(order).max() > 1:
            return None
    return order


def sorted_by_name(order: NDArray[np.int64], characters: NDArray[np.uint8], bounds: NDArray[np.int64]) -> bool:
    """Whether the permutation sorts the names, whole or cut as LTO kernels cut them.

    Args:
        order: the permutation, shape (n,).
        characters: type letters and names end to end.
        bounds: shape (n + 1,), of each symbol in ``characters``.
    """
    starts, ends = bounds[:-1] + 1, bounds[1:]
    if _sorted(order, characters, starts, ends):
        return True
    text = characters.tobytes()
    return any(_sorted(order, characters, starts, _cut(text, mark, starts, ends)) for mark in (b".llvm.", b"."))


def _cut(text: bytes, mark: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """The ends of the names, moved to the first ``mark`` in each."""
    places, place = [], text.find(mark)
    while place >= 0:
        places.append(place)
        place = text.find(mark, place + 1)
    marks = np.array([*places, len(text)], np.int64)
    following = marks[np.searchsorted(marks, starts)]
    return np.minimum(following, ends)


def _sorted(
    order: NDArray[np.int64], characters: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> bool:
    """Whether names are non-decreasing in this order, and equal ones in the order of their indices.

    Compares eight bytes of all neighbours at once, then the next eight of those that are still equal.
    """
    padded = np.append(characters, np.zeros(8, np.uint8))
    eights = np.ndarray(len(characters) + 1, ">u8", padded, strides=(1,))

    def key(indices: NDArray[np.int64], depth: int) -> NDArray[np.uint64]:
        """Eight bytes of each name from ``depth`` on as one number, zeros behind the name's end."""
        places = np.minimum(starts[indices] + depth, len(characters))
        left = np.clip(ends[indices] - places, 0, 8).astype(np.uint64)
        words = eights[places].astype(np.uint64)
        spare = np.uint64(64) - left * np.uint64(8)
        # a shift by 64 bits is undefined: names that have ended count as zero
        return np.where(left > 0, words >> np.minimum(spare, np.uint64(63)) << np.minimum(spare, np.uint64(63)), 0)

    keys = key(order, 0)
    first_keys, second_keys, first, second = keys[:-1], keys[1:], order[:-1], order[1:]
    depth = 8
    while True:
        if (first_keys > second_keys).any():
            return False
        equal = first_keys == second_keys
        first, second = first[equal], second[equal]
        ended = starts[first] + depth > ends[first]
        if (first[ended] > second[ended]).any():
            return False
        first, second = first[~ended], second[~ended]
        if not len(first):
            return True
        first_keys, second_keys = key(first, depth), key(second, depth)
        depth += 8
