"""Sets of numbers by sorting: as NumPy's own, which hash."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kallsift.arrays import distinct, frequent, is_in

numbers = st.lists(st.integers(0, 40) | st.integers((1 << 64) - 4, (1 << 64) - 1), max_size=60)


def array(values: list[int]) -> NDArray[np.uint64]:
    return np.array(values, np.uint64)


@given(numbers)
def test_distinct(values: list[int]) -> None:
    assert distinct(array(values)).tolist() == sorted(set(values))


def test_distinct_flattens() -> None:
    assert distinct(np.array([[3, 1], [1, 2]], np.int64)).tolist() == [1, 2, 3]


@given(numbers, st.integers(1, 4))
def test_frequent(values: list[int], least: int) -> None:
    often, counts = frequent(array(values), least)
    expected = {value: times for value, times in sorted(Counter(values).items()) if times >= least}
    assert dict(zip(often.tolist(), counts.tolist(), strict=True)) == expected
    assert often.tolist() == list(expected)


@given(numbers, numbers)
def test_is_in(values: list[int], among: list[int]) -> None:
    assert is_in(array(values), array(among)).tolist() == [value in among for value in values]
