"""The table to unwind the stack: a symbol beside a function that it has, and that is called once, is never proven."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from kallsift.kallsyms.evidence import CheckId, Outcome
from tests.kernel.twice import BASE, PADDING, STEP, Twice, function, put, twice

STARTS = CheckId.FUNCTION_STARTS

COUNT, ADDRESSES, ENTRIES = 1400, 0xC_0000, 0xD_0000
"""Functions, and where the two parts of the table are in the image."""

MOVED = 701
"""The function whose address is changed."""

INSIDE = (0, 5, 0x21, 0x30)
"""From where on in each function the stack is otherwise: the last place is aligned, and as at the start."""

BOUNDS = ("__start_orc_unwind_ip", "__stop_orc_unwind_ip", "__start_orc_unwind")


@lru_cache
def unwound(calls: int = 2, distances: tuple[int, ...] = (8, 16, 24, 8)) -> Twice:
    """A kernel with a table of such distances of the stack pointer, and so many calls of `MOVED`."""
    kernel = twice(COUNT, relative=False, padded=False)
    data = kernel.data.copy()
    places = [number * STEP + PADDING + inside for number in range(COUNT) for inside in INSIDE]
    put(data, ADDRESSES, *(place - ADDRESSES - 4 * number for number, place in enumerate(places)))
    put(data, ENTRIES, *[part for _ in range(COUNT) for distance in distances for part in (distance, 0, 1)], size=2)
    begin = (MOVED - 1) * STEP + PADDING
    for place in (begin + 8, begin + 16)[calls:]:
        data[place : place + 5] = 0
    bounds = (BASE + ADDRESSES, BASE + ADDRESSES + 4 * len(places), BASE + ENTRIES)
    rows = [*kernel.rows, *((address, "R", name) for address, name in zip(bounds, BOUNDS, strict=True))]
    return replace(kernel, rows=tuple(sorted(rows)), data=data)


def test_what_nothing_calls_is_confirmed_by_the_table() -> None:
    check = unwound(0).checks()[STARTS]
    assert check.outcome is Outcome.PASSED
    # a part of a function lies at such a place as well
    assert check.detail.startswith(f"0 names and {COUNT + 1:,} addresses")


@pytest.mark.parametrize("bit", range(4))
def test_one_call_of_what_the_table_has_is_enough(bit: int) -> None:
    assert STARTS in unwound(1).moved(function(MOVED), 1 << bit).failed()
    assert STARTS not in unwound(0).moved(function(MOVED), 1 << bit).failed()


@pytest.mark.parametrize("distances", [(16, 16, 24, 8), (0, 0, 0, 0)])
def test_a_table_that_does_not_have_the_functions_is_none(distances: tuple[int, ...]) -> None:
    kernel = unwound(1, distances)
    assert kernel.checks()[STARTS].detail.startswith(f"0 names and {COUNT - 1:,} addresses")
    assert STARTS not in kernel.moved(function(MOVED), 4).failed()


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("address", [0, BASE, (1 << 64) - 1])
def test_hostile_bounds_end(bound: str, address: int) -> None:
    kernel = unwound(2)
    rows = sorted((address if name == bound else place, letter, name) for place, letter, name in kernel.rows)
    assert replace(kernel, rows=tuple(rows)).checks()[STARTS].outcome is not Outcome.FAILED


def test_a_table_that_is_lost_says_nothing() -> None:
    kernel = unwound(1)
    lost = np.concatenate((kernel.data[:ENTRIES], kernel.data[ENTRIES:][:64]))
    assert replace(kernel, data=lost).checks()[STARTS].detail.startswith(f"0 names and {COUNT - 1:,} addresses")
