"""Check names of uncertain index by seqs_of_names: a name must lie between names of lower and of higher ranks.

Among all indices that neighbouring names can have, only the true one puts all of them where their ranks say.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, compress, pairwise

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.damaged.seqs_of_names import Ranks

NARROW = 16
"""Highest difference of ranks between two known names that confirm a name between them: by chance fewer than one in
10,000 other names lies there."""

LEAST_RANKED = 16
"""Lowest number of neighbouring names with surviving ranks; fewer are in order by chance."""

CLEAR = 3
"""Lowest number of names that must be misplaced at every other index of the neighbours."""

SAMPLE = 48
"""Number of names that are tried at all indices, before all names are tried at the remaining ones."""

NEIGHBOURS = 96
"""Number of neighbours by name that are tried next: names between them tell indices in sections sorted by name
apart."""

MAX_CELLS = 1 << 20
"""Number of ranks that are compared at once."""

MOST_OUT_OF_ORDER = 0.01
"""Highest share of the names that may contradict the order and are left out; with more, it is not the order of these
names."""

KEYS: tuple[Callable[[bytes], bytes], ...] = (
    lambda name: name,
    lambda name: name.split(b".llvm.")[0],
    lambda name: name.split(b".")[0],
)
"""Keys by which names are sorted: the names themselves, or, in Clang LTO kernels up to 6.10, the names cut at a
mark."""


@dataclass(frozen=True, eq=False)
class NameOrder:
    """Known names in their order.

    Attributes:
        ranks: the surviving part of seqs_of_names.
        key: the key by which names are sorted.
        sorted_keys: keys of the known names whose ranks are known, ascending.
        sorted_ranks: their ranks, shape (k,).
        below: shape (n,), the number of known names that have a lower rank than each rank.
        all_keys: keys of all names whose text is known, those of unknown index included, ascending.
        contradicting: indices of known names that cannot be right together with their neighbours in that order.
    """

    ranks: Ranks
    key: Callable[[bytes], bytes]
    sorted_keys: list[bytes]
    sorted_ranks: NDArray[np.int64]
    below: NDArray[np.int64]
    all_keys: list[bytes]
    contradicting: NDArray[np.int64]

    @classmethod
    def of(cls, ranks: Ranks, names: Sequence[bytes], others: Iterable[bytes] = ()) -> NameOrder | None:
        """Return the order of known names; None if the ranks are not their order.

        Args:
            ranks: the surviving part of seqs_of_names.
            names: names of all symbols; empty where unknown.
            others: names of which the index is unknown.
        """
        count = len(ranks.order)
        indices = ranks.order[ranks.order >= 0]
        there = np.array([index for index in indices.tolist() if names[index]], np.int64)
        # where no name is known yet, no order is contradicted
        least = len(there) * (1 - MOST_OUT_OF_ORDER)
        best: tuple[NDArray[np.int64], list[bytes], Callable[[bytes], bytes]] | None = None
        for key in KEYS:
            kept, keys = _in_order(there, _keys([names[index] for index in there.tolist()], key), least)
            if len(kept) >= least and (best is None or len(kept) > len(best[0])):
                best = kept, keys, key
            if len(kept) == len(there):
                break
        if best is None:
            return None
        kept, keys, key = best
        own = ranks.rank[kept]
        # the names that are in order already come first, so that sorting costs little more than merging
        is_kept = np.zeros(len(names), np.bool_)
        is_kept[kept] = True
        rest = compress(names, (~is_kept).tolist())
        known = sorted(keys + _keys([name for name in chain(rest, others) if name], key))
        below = np.searchsorted(own, np.arange(count))
        return cls(ranks, key, keys, own, below, known, np.setdiff1d(there, kept, assume_unique=True))

    def _limits(self, names: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the numbers of known names below, and not above, each name."""
        keys = _keys(names, self.key)
        lower = np.array([bisect_left(self.sorted_keys, key) for key in keys], np.int64)
        upper = np.array([bisect_right(self.sorted_keys, key) for key in keys], np.int64)
        return lower, upper

    def confirmed(self, indices: NDArray[np.int64], names: Sequence[bytes]) -> NDArray[np.bool_]:
        """Tell whether each name lies between known names of almost its index's rank.

        Args:
            indices: indices of the symbols that names are proposed for, shape (m,), none of them known.
            names: the proposed names; empty where unknown.
        """
        rank = self.ranks.rank[indices]
        lower, upper = self._limits(names)
        below = self.below[np.maximum(rank, 0)]
        fits = (rank >= 0) & (lower <= below) & (below <= upper) & np.array([bool(name) for name in names], np.bool_)
        fits &= (below > 0) & (below < len(self.sorted_ranks))
        inner = np.clip(below, 1, max(1, len(self.sorted_ranks) - 1))
        if len(self.sorted_ranks) > 1:
            fits &= self.sorted_ranks[inner] - self.sorted_ranks[inner - 1] <= NARROW
        return fits

    def first_index(self, names: Sequence[bytes], low: int, high: int, most: int) -> tuple[int | None, int]:
        """Return the index of the first of some neighbouring names, and the ranks read.

        The index is None where the ranks do not tell it. The second value is the number of ranks that were read.

        Args:
            names: names of neighbouring symbols; empty where unknown.
            low: the lowest index that the first of them can have.
            high: the highest index that the last of them can have.
            most: highest number of ranks that are read.
        """
        firsts = np.arange(low, high - len(names) + 2)
        numbers = np.flatnonzero([bool(name) for name in names])
        read = 0
        if not len(firsts) or len(numbers) < LEAST_RANKED:
            return None, read
        by_name, *limits = self._by_name(names, numbers)
        spread = np.unique(np.linspace(0, len(by_name) - 1, SAMPLE).astype(np.int64))
        misplaced = ranked = np.zeros(0, np.int64)
        for part in (spread, np.arange(min(NEIGHBOURS, len(by_name))), np.arange(len(by_name))):
            if read + len(firsts) * len(part) > most:
                return None, read
            read += len(firsts) * len(part)
            misplaced, ranked = self._misplaced(firsts, by_name[part], *(limit[part] for limit in limits))
            close = misplaced < CLEAR
            firsts, misplaced, ranked = firsts[close], misplaced[close], ranked[close]
        # an index at which too few ranks are known proves nothing
        firsts, misplaced = firsts[ranked >= LEAST_RANKED], misplaced[ranked >= LEAST_RANKED]
        if not len(firsts):
            return None, read
        best = int(misplaced.argmin())
        others = np.delete(misplaced, best)
        if misplaced[best] or (len(others) and others.min() < CLEAR):
            return None, read
        return int(firsts[best]), read

    def contradicts(self, names: Sequence[bytes], first: int) -> bool:
        """Tell whether ranks contradict some neighbouring names at a given first index.

        Names that are unknown are empty.
        """
        misplaced, _ = self._misplaced(
            np.array([first]), *self._by_name(names, np.flatnonzero([bool(name) for name in names]))
        )
        return bool(misplaced.any())

    def _by_name(
        self, names: Sequence[bytes], numbers: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the numbers of some names in the order of the names.

        With them come the other arguments of `_misplaced`.
        """
        by_name = np.array(sorted(numbers.tolist(), key=lambda number: self.key(names[number])), np.int64)
        ordered = [names[number] for number in by_name.tolist()]
        lower, upper = self._limits(ordered)
        keys = _keys(ordered, self.key)
        first = np.array([bisect_left(self.all_keys, key) for key in keys], np.int64)
        last = np.array([bisect_right(self.all_keys, key) for key in keys], np.int64) - 1
        return by_name, lower, upper, first, last

    def _misplaced(
        self,
        firsts: NDArray[np.int64],
        by_name: NDArray[np.int64],
        lower: NDArray[np.int64],
        upper: NDArray[np.int64],
        first: NDArray[np.int64],
        last: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the number of misplaced names, and of known ranks, for each first index.

        Args:
            firsts: the indices of the first name to try.
            by_name: numbers of the names, counted from the first one, in the order of the names.
            lower: number of known names that are lower than each name.
            upper: number of known names that are not higher than each name.
            first: position of each name among all names of known text, whether their index is known or not; at least as
                many ranks lie between two names as positions.
            last: position of the last name that equals it.
        """
        counts = np.zeros((2, len(firsts)), np.int64)
        steps = np.arange(len(by_name))[:, None]
        width = max(1, MAX_CELLS // max(1, len(by_name)))
        for column in range(0, len(firsts), width):
            rank = self.ranks.rank[firsts[column : column + width] + by_name[:, None]]
            known = rank >= 0
            below = self.below[np.maximum(rank, 0)]
            # for each name, the highest rank of the names before it, and the number of the name that has this rank
            highest = np.full_like(rank, -1)
            np.maximum.accumulate(rank[:-1], axis=0, out=highest[1:])
            risen = np.full_like(rank, -1)
            np.maximum.accumulate(np.where(rank > highest, steps, -1)[:-1], axis=0, out=risen[1:])
            beneath = np.where(risen >= 0, last[risen], 0)
            crowded = (highest >= 0) & (rank - highest < first[:, None] - beneath)
            wrong = known & ((below < lower[:, None]) | (below > upper[:, None]) | crowded)
            counts[:, column : column + width] = wrong.sum(axis=0), known.sum(axis=0)
        return counts[0], counts[1]


def _keys(names: Sequence[bytes], key: Callable[[bytes], bytes]) -> list[bytes]:
    """Return the keys that names are sorted by."""
    return list(names) if key is KEYS[0] else [key(name) for name in names]


def _in_order(indices: NDArray[np.int64], keys: list[bytes], least: float) -> tuple[NDArray[np.int64], list[bytes]]:
    """Return those of the names whose keys rise, with their keys.

    The work stops when fewer than ``least`` are left, because these are of no use.
    """
    while len(indices) >= least:
        falls = np.array([a > b for a, b in pairwise(keys)], np.bool_)
        if not falls.any():
            break
        # of two names that contradict each other, either can be wrong
        fine = ~(np.append(falls, False) | np.append(False, falls))
        indices, keys = indices[fine], [key for key, kept in zip(keys, fine.tolist(), strict=True) if kept]
    return indices, keys
