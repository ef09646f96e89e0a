"""In which order token tables are followed: those first that the most markers with names stand before."""

from __future__ import annotations

import numpy as np
import pytest

from kallsift.budget import WorkBudget
from kallsift.kernel.recovery.marker_ranking import MarkerRanking
from kallsift.kernel.recovery.token_search import ATTEMPT_COST, TOKEN_TABLE_COST, TokenSearch
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment
from tests.hostile.attacks import token_table
from tests.kernel.made_machine import MIB

NAME = b"\x01a"
GROUP = 256 * len(NAME)

FORGED = {1 * MIB: 0, 9 * MIB: 8, 17 * MIB: 40, 25 * MIB: 700}
"""Words that can be markers but have no names, by the address of the token table behind them."""
CROWD = 100
"""Token tables with nothing before them, behind the first one."""
REAL, GROUPS = 21 * MIB, 24
"""A token table behind markers of so many groups of names."""


def tables(byte_order: str = "<", width: int = 4, *, count: int = 256 * GROUPS, lost: int | None = None) -> bytes:
    """The number of names, the names, and their markers; one of the names may be lost."""
    names = bytearray(NAME * (256 * GROUPS))
    if lost is not None:
        names[2 * lost] = 0
    markers = np.arange(GROUPS) * GROUP
    number = np.array([count], f"{byte_order}u{width}").tobytes()
    return bytes(8) + number + bytes(names) + markers.astype(f"{byte_order}u{width}").tobytes()


def memory(before: bytes | None = None, crowd: int = 0) -> Memory:
    data = np.zeros(32 * MIB, np.uint8)
    table = np.frombuffer(token_table(), np.uint8)
    for number in range(1, crowd + 1):
        data[1 * MIB + 4096 * number :][: len(table)] = table
    for address, count in FORGED.items():
        data[address : address + len(table)] = table
        data[address - 4 * count : address] = (np.arange(count, dtype="<u4") * 3000).view(np.uint8)
    if before is not None:
        data[REAL : REAL + len(table)] = table
        data[REAL - len(before) : REAL] = np.frombuffer(before, np.uint8)
    return Memory("made", "raw", AddressSpace.PHYSICAL, (BytesSegment(0, data),))


def followed(source: Memory, budget: WorkBudget) -> list[int]:
    """The addresses of the token tables, in the order in which they are followed."""
    return [near.start + tokens.offset for near, tokens in TokenSearch(source, budget).tables()]


def test_markers_with_names_do_not_wait() -> None:
    others = [25 * MIB, 17 * MIB, 9 * MIB, 1 * MIB]
    assert followed(memory(tables()), WorkBudget.of(1 << 40)) == [REAL, *others]
    assert followed(memory(), WorkBudget.of(1 << 40)) == others


def test_what_little_can_be_spent_goes_to_them() -> None:
    source, plenty = memory(tables(), CROWD), WorkBudget.of(1 << 40)
    attempts = len(followed(source, plenty))
    assert attempts == 1 + len(FORGED) + CROWD
    # enough to look at all markers, and for some attempts
    budget = WorkBudget(2 * (plenty.spent_work - attempts * (ATTEMPT_COST + TOKEN_TABLE_COST)), 0)
    found = followed(source, budget)
    assert found[0] == REAL
    assert 0 < budget.refused["token tables"] == attempts - len(found)


def test_telling_which_to_follow_leaves_enough_to_follow_some() -> None:
    budget = WorkBudget(4 * (ATTEMPT_COST + TOKEN_TABLE_COST), 0)
    assert followed(memory(tables(), CROWD), budget)
    assert budget.refused["token tables"]


@pytest.mark.parametrize("width", [4, 8])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_either_byte_order_and_width(byte_order: str, width: int) -> None:
    source = memory(tables(byte_order, width))
    assert MarkerRanking(source, WorkBudget.of(1 << 40)).rank(REAL)[0] == GROUPS


@pytest.mark.parametrize(
    "broken",
    [{"count": 256 * GROUPS + 1}, {"count": 256 * GROUPS // 2}, {"lost": 3}, {"lost": 256 * 10 + 5}],
    ids=str,
)
def test_names_that_do_not_fit_do_not_count(broken: dict[str, int]) -> None:
    """Of lost names only the first group is always asked; all others may be."""
    source = memory(tables(**broken))  # type: ignore[arg-type]
    found = {MarkerRanking(source, WorkBudget.of(1 << 40)).rank(REAL)[0] for _ in range(100)}
    assert 0 in found
    assert max(found) <= GROUPS
    if "lost" not in broken or broken["lost"] < 256:
        assert found == {0}
