"""What threads make of items comes in their order, and no more of it waits than is asked for."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import count, islice

import pytest

from kallsift.threads import AHEAD, in_threads


@pytest.mark.parametrize("processors", [1, 2, 5])
@pytest.mark.parametrize("items", [0, 1, 2, 50])
def test_results_come_in_order(processors: int, items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)

    def slow(number: int) -> int:
        time.sleep(0.001 * (number % 3))
        return number * number

    assert list(in_threads(slow, range(items))) == [number * number for number in range(items)]


def test_few_results_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    taken = []

    def items() -> Iterator[int]:
        for number in count():
            taken.append(number)
            yield number

    assert list(islice(in_threads(lambda number: number, items()), 10)) == list(range(10))
    assert len(taken) <= 10 + 2 * AHEAD + 2


def test_an_error_is_raised_in_its_turn() -> None:
    results = in_threads(lambda number: 12 // number, [1, 2, 0, 3])
    assert list(islice(results, 2)) == [12, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)
