"""Names that differ by what one code can stand for: what a changed bit or byte makes of a name, and of no other.

A name that a second place has and the table lacks is one of two things. Either the table never had it, or it has it in
another form: then a name is there that begins or ends alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kernel.cross_checks.name_keys import Names

MAX_TOKEN = 32
"""Characters that one code of a name can stand for, and so change, at most; real tables have 24."""

MIN_KEPT = 4
"""Characters that a name keeps at its beginning or its end if one code of it changes."""


@dataclass(frozen=True, eq=False)
class NearNames:
    """Some of a table's names, to be asked which of them could be another one that was changed.

    Attributes:
        names: all names of the table.
        indices: those that are looked at, ascending, shape (n,).
        lengths: characters of each, shape (n,).
        heads: their first characters as one number, shape (n,), uint32.
        tails: their last ones.
    """

    names: Names
    indices: NDArray[np.int64]
    lengths: NDArray[np.int64]
    heads: NDArray[np.uint32]
    tails: NDArray[np.uint32]

    @classmethod
    def of(cls, names: Names, indices: NDArray[np.int64]) -> NearNames:
        """Look at the names at some indices."""
        assert names.ends is not None
        starts, ends = names.starts[indices], names.ends[indices]
        heads = names.text[starts].astype(np.uint32)
        tails = names.text[np.maximum(ends - MIN_KEPT, 0)].astype(np.uint32)
        return cls(names, indices, ends - starts, heads, tails)

    def near(self, wanted: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield index and text of the names that one code apart could be ``wanted``, of at least `MIN_KEPT` letters."""
        head, tail = (np.uint32(int.from_bytes(part, "little")) for part in (wanted[:MIN_KEPT], wanted[-MIN_KEPT:]))
        close = np.abs(self.lengths - len(wanted)) < MAX_TOKEN
        for place in np.flatnonzero(close & ((self.heads == head) | (self.tails == tail))).tolist():
            index = int(self.indices[place])
            have = self.names.string(index)
            if is_one_code_apart(have.partition(b".")[0], wanted) or is_one_code_apart(have, wanted):
                yield index, have


def is_one_code_apart(have: bytes, wanted: bytes) -> bool:
    """Tell whether another code in its place could have made one name of the other."""
    kept = sum(_alike(have, wanted))
    changed = max(len(have), len(wanted)) - kept
    return 0 < changed < MAX_TOKEN and kept >= max(MIN_KEPT, changed // 2)


def is_part(have: bytes, wanted: bytes) -> bool:
    """Tell whether one name is the beginning or the end of the other, or the former is the latter less a part."""
    same, after = _alike(have, wanted)
    return same == min(len(have), len(wanted)) or same + after == len(have)


def _alike(have: bytes, wanted: bytes) -> tuple[int, int]:
    """Count the characters at the beginning, and those at the end, in which two names are alike."""
    shorter = min(len(have), len(wanted))
    same = next((place for place in range(shorter) if have[place] != wanted[place]), shorter)
    after = next((place for place in range(shorter - same) if have[-1 - place] != wanted[-1 - place]), shorter - same)
    return same, after
