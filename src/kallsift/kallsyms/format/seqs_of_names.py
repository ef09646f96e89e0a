"""Read seqs_of_names: a permutation of the symbols that sorts them by name (6.2 and later, and 6.1.42 and later).

An entry has three bytes, big-endian on every machine; in 6.1.42 to 6.1.59 it has four bytes in the machine's order.
Names are sorted as unsigned bytes without the type letter, equal names by address. Kernels of Clang's LTO up to 6.10
cut the names at the first ``.`` or at ``.llvm.`` before they compared them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct
from kallsift.kallsyms.format.token_table import MAX_PADDING
from kallsift.lanes import LANE, lanes
from kallsift.threads import in_threads

SAMPLED = 16
"""Number of entries that are read at every candidate place, before all entries are read at few places."""

MAX_PLACES = 64
"""Highest number of places at which all entries are read."""

CUTS = (b"", b".llvm.", b".")
"""Marks at which names can be cut: none, or those of Clang LTO kernels up to 6.10."""


SEQUENCE = 3
"""Bytes of an entry, the highest first in every byte order, in 6.4 and later."""

SAMPLE = 64
"""Number of entries, spread over all, that are read where pages are lost, and before all are read."""

COMPARED = 1 << 14
"""Number of names that are compared with the next ones at once: their arrays stay in the processor's cache."""

_FIRST_BYTES = np.array([(1 << 64) - (1 << 64 - 8 * size) for size in range(LANE + 1)], np.uint64)
"""Masks of the first 0 to 8 bytes of a 64-bit lane, the first byte being the highest."""


@dataclass(frozen=True, eq=False)
class Sequences:
    """A permutation of the symbols, found in memory.

    Attributes:
        offset: offset of the first entry in the segment's data.
        entry_size: bytes of an entry, 3 or 4.
        order: shape (n,), int64; ``order[r]`` is the index of the r-th symbol by name.
    """

    offset: int
    entry_size: int
    order: NDArray[np.int64]

    @property
    def size(self) -> int:
        """Size of all entries in bytes."""
        return len(self.order) * self.entry_size


def find_sequences(data: NDArray[np.uint8], ends: list[int], count: int, byte_order: str) -> Sequences | None:
    """Return the permutation that follows a known table, or None.

    Args:
        data: the segment's bytes.
        ends: offsets behind the known tables.
        count: number of symbols.
        byte_order: ``"<"`` or ``">"``.
    """
    for end in ends:
        for offset, entry_size in _likely_sequences(data, end, count, byte_order):
            if (order := _permutation(data, offset, count, entry_size, byte_order)) is not None:
                return Sequences(offset, entry_size, order)
    return None


def _likely_sequences(data: NDArray[np.uint8], end: int, count: int, byte_order: str) -> list[tuple[int, int]]:
    """Return the places behind a table at which a permutation can begin.

    They are judged by the first entries. Each is an offset and the size of an entry, in the order of the offsets.
    """
    found: list[tuple[int, int]] = []
    for entry_size in (3, 4):
        offsets = np.arange(end, min(end + MAX_PADDING, len(data) - count * entry_size + 1))
        previous: NDArray[np.int64] | None = None
        for entry in range(min(SAMPLED, count)):
            value = entries_at(data, offsets + entry * entry_size, entry_size, byte_order)
            fits = value < count
            if previous is not None:
                fits &= value != previous
            offsets, previous = offsets[fits], value[fits]
        found += [(int(offset), entry_size) for offset in offsets]
    return sorted(found)


def scan_sequences(data: NDArray[np.uint8], low: int, high: int, counts: range, byte_order: str) -> Iterator[Sequences]:
    """Yield the permutations of any of ``counts`` symbols in ``data[low:high]``.

    They lie at multiples of four bytes from ``low``.

    Args:
        data: the segment's bytes.
        low: start of the search.
        high: end of the search.
        counts: the numbers of symbols that are possible.
        byte_order: ``"<"`` or ``">"``.
    """
    for entry_size in (3, 4):
        begins = range(low, high - counts.start * entry_size + 1, 4)
        places = np.array(begins, np.int64)
        if counts.start > 1:
            places = _likely_places(data, begins, entry_size, counts.stop, byte_order)
        previous: NDArray[np.int64] | None = None
        # the first entries, and a sample of all: tables of ascending numbers begin with small numbers as well
        sampled = [*range(min(counts.start, SAMPLED)), *range(SAMPLED, counts.start, max(1, counts.start // SAMPLED))]
        for entry in sampled:
            value = entries_at(data, places + entry * entry_size, entry_size, byte_order)
            fits = value < counts.stop
            if previous is not None:
                # blank memory is full of equal entries
                fits &= value != previous
            places, previous = places[fits], value[fits]
        for place in places[:MAX_PLACES].tolist():
            most = min(counts.stop - 1, (high - place) // entry_size)
            order = entries_at(data, place + np.arange(most) * entry_size, entry_size, byte_order)
            highest = np.maximum.accumulate(order)
            # where the last name is that of the last symbol, the table without its last entry is a permutation as well
            for count in range(most, counts.start - 1, -1):
                if highest[count - 1] == count - 1 and np.bincount(order[:count]).max() == 1:
                    yield Sequences(place, entry_size, order[:count])


def _likely_places(
    data: NDArray[np.uint8], places: range, entry_size: int, stop: int, byte_order: str
) -> NDArray[np.int64]:
    """Return the places, each fourth byte, at which two neighbouring entries can be different numbers below a stop.

    Most of memory holds greater numbers, or nothing: by their highest bytes alone hardly any place is left.
    """
    highest = 0 if entry_size == SEQUENCE or byte_order == ">" else entry_size - 1
    entries = [
        [data[places.start + first + byte :: places.step][: len(places)] for byte in range(entry_size)]
        for first in (0, entry_size)
    ]
    fits = np.zeros(len(places), np.bool_)
    for one, other in zip(*entries, strict=True):
        fits |= one != other
    for entry in entries:
        fits &= entry[highest] <= stop - 1 >> 8 * (entry_size - 1)
    return places.start + places.step * np.flatnonzero(fits)


def entries_at(
    data: NDArray[np.uint8], places: NDArray[np.int64], entry_size: int, byte_order: str
) -> NDArray[np.int64]:
    """Return the entry at each of the places."""
    significant_first = range(entry_size) if entry_size == 3 or byte_order == ">" else range(entry_size)[::-1]
    value = np.zeros(len(places), np.int64)
    for byte in significant_first:
        value = value << 8 | data[places + byte]
    return value


def _permutation(
    data: NDArray[np.uint8], offset: int, count: int, entry_size: int, byte_order: str
) -> NDArray[np.int64] | None:
    """Return the entries from ``offset`` on if they are a permutation, else None.

    Most candidates fail on their first few entries; others, such as a table of addresses, fail on a sample of all.
    """
    for sampled in (np.arange(min(count, SAMPLE)), np.arange(0, count, max(1, count // SAMPLE))):
        some = entries_at(data, offset + sampled * entry_size, entry_size, byte_order)
        if int(some.max()) >= count or len(distinct(some)) < len(some):
            return None
    order = entries_at(data, offset + np.arange(count) * entry_size, entry_size, byte_order)
    return order if int(order.max()) < count and np.bincount(order).max() == 1 else None


def sorted_by_name(order: NDArray[np.int64], characters: NDArray[np.uint8], bounds: NDArray[np.int64]) -> bool:
    """Tell whether the permutation sorts the names, whole or cut as in LTO kernels."""
    return name_cut(order, characters, bounds) is not None


def names_out_of_order(order: NDArray[np.int64], characters: NDArray[np.uint8], bounds: NDArray[np.int64]) -> list[str]:
    """Return the pairs of neighbours that a permutation has in the wrong order, each as "NAME before NAME".

    The cut that leaves fewest such pairs is used. This compares one name at a time, for tables that fail
    `sorted_by_name`.
    """
    text, places = characters.tobytes(), bounds.tolist()
    names = [text[places[index] + 1 : places[index + 1]] for index in order.tolist()]
    best: list[str] | None = None
    for mark in CUTS:
        keys = [(name.partition(mark)[0] if mark else name, index) for name, index in zip(names, order, strict=True)]
        wrong = [rank for rank in range(1, len(keys)) if keys[rank - 1] > keys[rank]]
        falls = [f"{names[rank - 1].decode('latin-1')} before {names[rank].decode('latin-1')}" for rank in wrong]
        if best is None or len(falls) < len(best):
            best = falls
    return best or []


def name_cut(order: NDArray[np.int64], characters: NDArray[np.uint8], bounds: NDArray[np.int64]) -> bytes | None:
    """Return the mark at which names are cut so that the permutation sorts them.

    One of `CUTS`; None if the permutation does not sort the names by any of them.

    Args:
        order: the permutation, shape (n,).
        characters: type letters and names end to end.
        bounds: start of each symbol in ``characters``, and the end of the last one, shape (n + 1,).
    """
    starts, ends = bounds[:-1] + 1, bounds[1:]
    for mark in CUTS:
        if _sorted(order, characters, starts, _cut(characters.tobytes(), mark, starts, ends) if mark else ends):
            return mark
    return None


def read_order(data: NDArray[np.uint8], count: int, byte_order: str) -> NDArray[np.int64] | None:
    """Return the permutation that a whole table holds, shape (count,), or None.

    Args:
        data: the table's bytes.
        count: number of symbols.
        byte_order: ``"<"`` or ``">"``.
    """
    if not count or len(data) % count or len(data) // count not in (3, 4):
        return None
    return _permutation(data, 0, count, len(data) // count, byte_order)


def _cut(text: bytes, mark: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the ends of the names, moved to the first ``mark`` in each."""
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
    """Tell whether names never fall in this order, and equal ones rise by index.

    Eight bytes of many neighbours are compared at once, then the next eight of those that are still equal.
    """
    eights = lanes(characters, ">")

    def are_sorted(first: int) -> bool:
        part = order[first : first + COMPARED + 1]
        return _are_sorted(part, eights, starts.take(part), ends.take(part))

    return all(in_threads(are_sorted, range(0, len(order), COMPARED)))


def _are_sorted(
    order: NDArray[np.int64], eights: NDArray[np.uint64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> bool:
    """Tell of one chunk of the order what `_sorted` tells of all.

    ``eights`` are the lanes of the characters; the names begin and end at ``starts`` and ``ends`` in them.
    """
    # mask of the names that equal the next one in the first ``depth`` bytes
    equal, depth = np.ones(len(order) - 1, np.bool_), 0
    while True:
        left = np.clip(ends - starts - depth, 0, LANE)
        keys = eights[np.minimum(starts + depth, len(eights) - 1)] & _FIRST_BYTES.take(left)
        if (equal & (keys[:-1] > keys[1:])).any():
            return False
        equal &= keys[:-1] == keys[1:]
        depth += LANE
        ended = equal & (starts + depth > ends)[:-1]
        if (ended & (order[:-1] > order[1:])).any():
            return False
        equal = np.append(equal & ~ended, False)
        kept = equal | np.append(False, equal[:-1])
        if not kept.any():
            return True
        starts, ends, order, equal = starts[kept], ends[kept], order[kept], equal[kept][:-1]
