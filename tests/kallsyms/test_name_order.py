"""Where names cannot be by their ranks: counted for all indices at once, and held against one name after the other."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from kallsift.kallsyms.damaged import sort_order
from kallsift.kallsyms.damaged.seqs_of_names import Ranks
from kallsift.kallsyms.damaged.sort_order import KEYS, NameOrder

SYMBOLS, NAMES = 200, 14


def misplaced_one_by_one(order: NameOrder, first_index: int, places: list[NDArray[np.int64]]) -> tuple[int, int]:
    """Return how many names are where they cannot be if the first has that index, and how many have a rank."""
    misplaced = ranked = 0
    highest, beneath = -1, 0
    for number, lower, upper, first, last in zip(*(column.tolist() for column in places), strict=True):
        rank = int(order.ranks.rank[first_index + number])
        if rank < 0:
            continue
        ranked += 1
        is_crowded = highest >= 0 and rank - highest < first - beneath
        misplaced += not lower <= order.below[rank] <= upper or is_crowded
        if rank > highest:
            highest, beneath = rank, last
    return misplaced, ranked


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("cells", [1, 100, 1 << 20])
def test_all_indices_at_once(monkeypatch: pytest.MonkeyPatch, seed: int, cells: int) -> None:
    monkeypatch.setattr(sort_order, "MAX_CELLS", cells)
    chance = np.random.default_rng(seed)
    rank = chance.permutation(SYMBOLS)
    rank[chance.random(SYMBOLS) < 0.4] = -1
    below = np.sort(chance.integers(0, SYMBOLS, SYMBOLS))
    nothing = np.empty(0, np.int64)
    order = NameOrder(Ranks(0, 3, nothing, rank, 0), KEYS[0], [], nothing, below, [], nothing)
    lower, first = (np.sort(chance.integers(0, SYMBOLS, NAMES)) for _ in range(2))
    upper, last = lower + chance.integers(0, SYMBOLS, NAMES), first + chance.integers(0, 3, NAMES)
    places = [chance.permutation(NAMES), lower, upper, first, last]
    firsts = np.arange(SYMBOLS - NAMES)
    misplaced, ranked = order._misplaced(firsts, *places)
    expected = [misplaced_one_by_one(order, index, places) for index in firsts.tolist()]
    assert list(zip(misplaced.tolist(), ranked.tolist(), strict=True)) == expected
