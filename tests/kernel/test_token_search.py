"""In which order token tables are followed: those first that the most words stand before that can be markers."""

from __future__ import annotations

import numpy as np

from kallsift.budget import WorkBudget
from kallsift.kernel.token_search import EAGER_PARTS, TokenSearch
from kallsift.memory.model import AddressSpace, Memory, Segment
from tests.hostile.attacks import token_table
from tests.kernel.made_machine import MIB

MARKERS = {1 * MIB: 0, 9 * MIB: 8, 17 * MIB: 40, 25 * MIB: 700}
"""Words that can be markers, by the address of the token table behind them."""


def memory() -> Memory:
    data = np.zeros(32 * MIB, np.uint8)
    table = np.frombuffer(token_table(), np.uint8)
    for address, count in MARKERS.items():
        data[address : address + len(table)] = table
        markers = np.arange(count, dtype="<u4") * 3000
        data[address - 4 * count : address] = markers.view(np.uint8)
    return Memory("made", "raw", AddressSpace.PHYSICAL, (Segment(0, data),))


def followed(budget: WorkBudget) -> list[int]:
    """The addresses of the token tables, in the order in which they are followed."""
    return [near.start + tokens.offset for near, tokens in TokenSearch(memory(), budget).tables()]


def test_many_markers_do_not_wait() -> None:
    assert followed(WorkBudget.of(1 << 40)) == [17 * MIB, 25 * MIB, 9 * MIB, MIB]


def test_what_little_can_be_spent_goes_to_the_most_markers() -> None:
    assert EAGER_PARTS > 1
    # enough to count markers and for one attempt, but no eighth of it is
    assert followed(WorkBudget(200 * MIB, 0)) == [25 * MIB]


def test_those_that_are_left_out_are_counted() -> None:
    budget = WorkBudget(200 * MIB, 0)
    followed(budget)
    assert budget.refused["token tables"] == 3
