"""Whole forged tables, more of them than a budget pays for: the kernel's own come before them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.kernel.recovery.head_ranking import FRAME, MIN_HEADS, head_ranks
from kallsift.kernel.recovery.search import recover, recover_all
from tests.kernel.made_machine import IMAGE_SIZE, MIB, PAGE, TABLES, era_called, memory_of
from tests.oracle.symbols import population
from tests.oracle.writer import write

from .attacks import machine

FORGED, BEHIND = 60, 32 * MIB
STEP = BEHIND // FORGED // PAGE * PAGE
BASE = 0xFFFF_FFFF_A000_0000
HEADS = 64
WORK, OUTPUT = 1 << 29, 1 << 28
"""What pays for some ten of them."""


@lru_cache(maxsize=4)
def forged(count: int) -> bytes:
    """All tables of a kernel that never ran."""
    return write(population(count, 7, start=BASE, distinct=True), era_called("7.0"), address=BASE).data


def heads(place: int, distance: int) -> NDArray[np.uint8]:
    """Empty list heads at a physical address whose content is so far above it."""
    return np.repeat(np.uint64(place + distance) + 16 * np.arange(HEADS, dtype=np.uint64), 2).view(np.uint8)


def with_forged(count: int, *, has_heads: bool) -> NDArray[np.uint8]:
    """The machine's memory before others in which whole tables lie, each with empty list heads if wanted."""
    made, content = machine(), np.frombuffer(forged(count), np.uint8)
    data = np.concatenate((made.data, np.zeros(BEHIND, np.uint8)))
    for number in range(FORGED):
        place = len(made.data) + number * STEP
        data[place : place + len(content)] = content
        end = place + -(-len(content) // 16) * 16
        if has_heads:
            # the same bytes in each, as one page that is mapped again and again: they do not know where they lie
            data[end : end + 16 * HEADS] = heads(0, BASE)
    # images have some in more than one large page
    place = made.place + IMAGE_SIZE - 16 * HEADS
    data[place : place + 16 * HEADS] = heads(place, made.base - made.place)
    return data


@pytest.mark.sampled(3)
@pytest.mark.parametrize("has_heads", [False, True])
@pytest.mark.parametrize("count", [3000, 4500], ids=["more markers", "so many that they do not wait"])
@pytest.mark.parametrize("every", [False, True])
def test_more_whole_tables_than_the_budget_pays_for(count: int, every: bool, has_heads: bool) -> None:
    truth = [(symbol.address, symbol.name) for symbol in recover(machine().memory()).symbols]
    source, budget = memory_of(with_forged(count, has_heads=has_heads)), WorkBudget(WORK, OUTPUT)
    kernels = recover_all(source, budget=budget) if every else (recover(source, budget=budget),)
    proven = [kernel for kernel in kernels if kernel.proven]
    assert [[(symbol.address, symbol.name) for symbol in kernel.symbols] for kernel in proven] == [truth]
    assert budget.spent_work <= WORK
    if every:
        assert budget.refused["token tables"]


def test_heads_that_agree_all_over_memory_tell_no_image() -> None:
    data = np.zeros(256 * MIB, np.uint8)
    for place in range(0, len(data), 4 * FRAME):
        data[place : place + 16 * HEADS] = heads(place, 0xFFFF_8880_0000_0000)
    image = 64 * MIB
    for place in (image, image + FRAME):
        data[place + PAGE : place + PAGE + 16 * HEADS] = heads(place + PAGE, 0xFFFF_FFFF_8000_0000)
    addresses = [image + 2 * FRAME, image + 8 * FRAME, 200 * MIB]
    ranks = head_ranks(memory_of(data), addresses, WorkBudget.of(1 << 40))
    assert ranks == [(2, -1), (2, -7), (0, 0)]
    assert HEADS >= MIN_HEADS


def test_frames_that_the_budget_does_not_pay_for_have_no_heads() -> None:
    source = memory_of(with_forged(3000, has_heads=False))
    place = machine().place + TABLES
    assert head_ranks(source, [place], WorkBudget(1 << 40, 0)) == [(2, 0)]
    assert head_ranks(source, [place], WorkBudget(1 << 20, 0)) == [(0, 0)]
