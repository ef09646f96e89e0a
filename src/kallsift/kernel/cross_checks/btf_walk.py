"""Find all types of one kind in BTF by walks from many places at once.

Types have no index; each gives its own length. A walk that begins inside a type soon falls into step with the true
walk. So pieces are walked side by side, each from its first word, and the true walk goes from piece to piece: where it
reaches a place that a piece's walk visited, it continues as that walk did.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kernel.access.btf import EACH, FIXED, KINDS, WORDS

PIECE = 256
"""Number of words of a piece."""

MAX_STEPS = 1 << 16
"""Highest number of types that are walked one by one until a piece is in step; real ones need some thousand."""

# a walk leaves a word that is no type by one word, because otherwise it would not fall into step
_SIZES, _EACH = np.ones(32, np.int64), np.zeros(32, np.int64)
_SIZES[1:KINDS] = WORDS
_SIZES[list(FIXED)] += list(FIXED.values())
_EACH[list(EACH)] = list(EACH.values())


@dataclass(frozen=True, eq=False)
class _Walk:
    """The results of the walks from the beginning of each piece.

    Attributes:
        ends: the first place that each walk reached behind its piece, shape (pieces,), int64.
        visited: mask of the words at which a walk met a type, shape (n,), bool.
        found: places of the wanted kind, inside or outside of true types.
    """

    ends: NDArray[np.int64]
    visited: NDArray[np.bool_]
    found: NDArray[np.int64]


def types_of_kind(words: NDArray[np.uint32], kind: int) -> NDArray[np.int64] | None:
    """Return the places at which the types of a kind begin, ascending.

    None where the types do not fit each other.

    Args:
        words: all types, shape (n,), uint32, native byte order.
        kind: the wanted kind.
    """
    walk = _side_by_side(words, kind)
    ends, visited = walk.ends.tolist(), walk.visited
    entered = np.full(len(ends), len(words), np.int64)
    alone: list[int] = []
    place = steps = 0
    while place <= len(words) - WORDS:
        if visited[place]:
            entered[place // PIECE] = place
            place = ends[place // PIECE]
            continue
        info = int(words[place + 1])
        steps += 1
        if steps > MAX_STEPS or not 0 < info >> 24 & 0x1F < KINDS:
            return None
        if info >> 24 & 0x1F == kind:
            alone.append(place)
        place += int(_SIZES[info >> 24 & 0x1F]) + int(_EACH[info >> 24 & 0x1F]) * (info & 0xFFFF)
    if place != len(words):
        return None
    true = walk.found[walk.found >= entered[walk.found // PIECE]]
    return np.sort(np.concatenate((true, np.array(alone, np.int64))))


def _side_by_side(words: NDArray[np.uint32], kind: int) -> _Walk:
    """Walk through all pieces at once."""
    lows = np.arange(0, len(words), PIECE, dtype=np.int64)
    stops = np.minimum(lows + PIECE, len(words) - WORDS + 1)
    places, visited, found = lows.copy(), np.zeros(len(words), np.bool_), [np.empty(0, np.int64)]
    active = np.flatnonzero(places < stops)
    while len(active):
        here = places[active]
        visited[here] = True
        info = words[here + 1]
        kinds = (info >> np.uint32(24)) & np.uint32(0x1F)
        found.append(here[kinds == kind])
        here = here + _SIZES[kinds] + _EACH[kinds] * (info & np.uint32(0xFFFF)).astype(np.int64)
        places[active] = here
        active = active[here < stops[active]]
    return _Walk(places, visited, np.concatenate(found))
