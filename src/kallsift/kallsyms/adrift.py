"""Names between two lost pages with no marker between them: seqs_of_names says which they are.

Whatever their indices are, the names' own order is known, and so must be that of their ranks: among all indices that
the first of them can have, only the true one puts the ranks in order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.sequences import Ranks

LEAST_PAIRS = 16
"""Neighbours by name whose ranks survive; fewer are in order by chance."""

CLEAR = 0.98
"""No other index may put so many of them in order: neighbours by address often are neighbours by name."""


def first_index(ranks: Ranks, names: list[bytes], low: int, high: int) -> int | None:
    """The index of the first of some neighbouring names; None where their ranks do not tell.

    Args:
        ranks: what is left of seqs_of_names.
        names: of neighbouring symbols, without their letters.
        low: the lowest index that the first of them can have.
        high: the highest that the last of them can have.
    """
    firsts = np.arange(low, high - len(names) + 2)
    if not len(firsts):
        return None
    by_name = np.array(sorted(range(len(names)), key=lambda number: names[number]), np.int64)
    found = ranks.rank[firsts[:, None] + by_name]
    known = (found[:, 1:] >= 0) & (found[:, :-1] >= 0)
    rising = known & (found[:, 1:] > found[:, :-1])
    pairs: NDArray[np.int64] = known.sum(axis=1)
    share = rising.sum(axis=1) / np.maximum(pairs, 1)
    share[pairs < LEAST_PAIRS] = 0
    best = int(share.argmax())
    others = np.delete(share, best)
    if share[best] < 1 or (len(others) and others.max() >= CLEAR):
        return None
    return int(firsts[best])
