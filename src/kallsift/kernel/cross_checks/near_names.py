"""Find names that differ only by what one code can stand for, as a changed bit or byte makes one name of another.

A name that a second source has and the table lacks is one of two things. Either the table never had it, or the table
has it in a changed form: then a name is there that begins or ends alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kernel.cross_checks.name_keys import Names

MAX_TOKEN = 32
"""Highest number of characters that one code of a name can stand for, and so change; real tables have 24."""

MIN_KEPT = 4
"""Lowest number of characters that a name keeps at its beginning or its end if one code of it changes."""


@dataclass(frozen=True, eq=False)
class NearNames:
    """Some of a table's names, among which a changed name can be searched.

    Attributes:
        names: all names of the table.
        indices: indices of the names that are searched, ascending, shape (n,).
        lengths: number of characters of each, shape (n,).
        heads: their first characters as one number, shape (n,), uint32.
        tails: their last characters as one number, shape (n,), uint32.
    """

    names: Names
    indices: NDArray[np.int64]
    lengths: NDArray[np.int64]
    heads: NDArray[np.uint32]
    tails: NDArray[np.uint32]

    @classmethod
    def of(cls, names: Names, indices: NDArray[np.int64]) -> NearNames:
        """Return the names at some indices for a search."""
        assert names.ends is not None
        starts, ends = names.starts[indices], names.ends[indices]
        heads = names.text[starts].astype(np.uint32)
        tails = names.text[np.maximum(ends - MIN_KEPT, 0)].astype(np.uint32)
        return cls(names, indices, ends - starts, heads, tails)

    def near(self, wanted: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield index and text of the names that one changed code may have made.

        Args:
            wanted: the unchanged name, of at least `MIN_KEPT` letters.
        """
        head, tail = (np.uint32(int.from_bytes(part, "little")) for part in (wanted[:MIN_KEPT], wanted[-MIN_KEPT:]))
        close = np.abs(self.lengths - len(wanted)) < MAX_TOKEN
        for place in np.flatnonzero(close & ((self.heads == head) | (self.tails == tail))).tolist():
            index = int(self.indices[place])
            have = self.names.string(index)
            if is_one_code_apart(have.partition(b".")[0], wanted) or is_one_code_apart(have, wanted):
                yield index, have


def is_one_code_apart(have: bytes, wanted: bytes) -> bool:
    """Tell whether a change of one code could have made one name of the other."""
    kept = sum(_alike(have, wanted))
    changed = max(len(have), len(wanted)) - kept
    return 0 < changed < MAX_TOKEN and kept >= max(MIN_KEPT, changed // 2)


def is_part(have: bytes, wanted: bytes) -> bool:
    """Tell whether one name is a part of the other.

    That is, one is the beginning or the end of the other, or ``have`` is ``wanted`` without a part inside.
    """
    same, after = _alike(have, wanted)
    return same == min(len(have), len(wanted)) or same + after == len(have)


def _alike(have: bytes, wanted: bytes) -> tuple[int, int]:
    """Count the characters at the beginning, and at the end, in which two names agree."""
    shorter = min(len(have), len(wanted))
    same = next((place for place in range(shorter) if have[place] != wanted[place]), shorter)
    after = next((place for place in range(shorter - same) if have[-1 - place] != wanted[-1 - place]), shorter - same)
    return same, after
