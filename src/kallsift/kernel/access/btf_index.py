"""Find where each type of BTF begins by walks from many places at once.

Types have no index; each gives its own length. A walk that begins inside a type soon falls into step with the true
walk. So pieces are walked side by side, each from its first word, and the true walk goes from piece to piece: where it
reaches a place that a piece's walk visited, it continues as that walk did.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WORDS = 3
"""Number of 32-bit words that each type has: name, kind and count, size or type."""

KINDS = 128
"""Number of values that a kind can have."""

MAX_COUNT = 0xFF_FFFF
"""Highest number of records of a type; the upper bits of the count are 0 in older kernels, which do not use them."""

PIECE = 256
"""Number of words of a piece."""

MAX_STEPS = 1 << 16
"""Highest number of types that are walked one by one until a piece is in step; real ones need some thousand."""


@dataclass(frozen=True, eq=False)
class KindSizes:
    """Lengths of types, by kind.

    Attributes:
        known: whether types of that kind can be skipped, shape (128,), bool.
        fixed: words behind the common ones, shape (128,), int64.
        each: words behind these for each record, shape (128,), int64.
    """

    known: NDArray[np.bool_]
    fixed: NDArray[np.int64]
    each: NDArray[np.int64]

    @classmethod
    def of_none(cls) -> KindSizes:
        """Return sizes that tell of no kind."""
        return cls(np.zeros(KINDS, np.bool_), np.zeros(KINDS, np.int64), np.zeros(KINDS, np.int64))


@dataclass(frozen=True, eq=False)
class _Walk:
    """The results of the walks from the beginning of each piece.

    Attributes:
        ends: the first place that each walk reached behind its piece, shape (pieces,), int64.
        visited: mask of the words at which a walk met a type, shape (n,), bool.
    """

    ends: NDArray[np.int64]
    visited: NDArray[np.bool_]


def type_starts(words: NDArray[np.uint32], sizes: KindSizes) -> NDArray[np.int64] | None:
    """Return the index of each type's first word, ascending; None where the types do not fit each other.

    Args:
        words: all types, shape (n,), uint32, native byte order.
        sizes: how long types of each kind are.
    """
    # a walk leaves a word that is no type by one word, because otherwise it would not fall into step
    fixed, each = np.where(sizes.known, sizes.fixed + WORDS, 1), sizes.each
    walk = _side_by_side(words, fixed, each)
    ends, visited = walk.ends.tolist(), walk.visited
    entered = np.full(len(ends), len(words), np.int64)
    alone: list[int] = []
    place = 0
    while place <= len(words) - WORDS:
        if visited[place]:
            entered[place // PIECE] = place
            place = ends[place // PIECE]
            continue
        info = int(words[place + 1])
        alone.append(place)
        if len(alone) > MAX_STEPS:
            return None
        place += int(fixed[info >> 24 & 0x7F]) + int(each[info >> 24 & 0x7F]) * (info & MAX_COUNT)
    if place != len(words):
        return None
    reached = np.flatnonzero(visited)
    true = reached[reached >= entered[reached // PIECE]]
    starts = np.sort(np.concatenate((true, np.array(alone, np.int64))), kind="stable")
    return starts if sizes.known[words[starts + 1] >> np.uint32(24) & np.uint32(0x7F)].all() else None


def _side_by_side(words: NDArray[np.uint32], fixed: NDArray[np.int64], each: NDArray[np.int64]) -> _Walk:
    """Walk through all pieces at once."""
    lows = np.arange(0, len(words), PIECE, dtype=np.int64)
    stops = np.minimum(lows + PIECE, len(words) - WORDS + 1)
    places, visited = lows.copy(), np.zeros(len(words), np.bool_)
    active = np.flatnonzero(places < stops)
    while len(active):
        here = places[active]
        visited[here] = True
        info = words[here + 1]
        kinds = (info >> np.uint32(24)) & np.uint32(0x7F)
        here = here + fixed[kinds] + each[kinds] * (info & np.uint32(MAX_COUNT)).astype(np.int64)
        places[active] = here
        active = active[here < stops[active]]
    return _Walk(places, visited)
