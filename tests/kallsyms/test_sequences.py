"""Whether a permutation sorts names, beside Python's own sorting."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kallsift.kallsyms.format import seqs_of_names
from kallsift.kallsyms.format.seqs_of_names import sorted_by_name

NAMES = st.lists(st.text("ab_", max_size=3).map(lambda end: "prefix__prefix__"[: len(end) * 8] + end), max_size=30)


@pytest.fixture(autouse=True, params=(1, 4, 1 << 14))
def compared(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compare so many names at once: also those at the borders are compared."""
    with patch.object(seqs_of_names, "COMPARED", request.param):
        yield


def is_sorted(names: list[str], order: list[int]) -> bool:
    texts = ["t" + name for name in names]
    bounds = np.cumsum([0, *map(len, texts)])
    characters = np.frombuffer("".join(texts).encode(), np.uint8)
    return sorted_by_name(np.array(order, np.int64), characters, bounds)


@given(NAMES.filter(bool))
def test_names_in_order_are_sorted(names: list[str]) -> None:
    order = sorted(range(len(names)), key=lambda index: (names[index], index))
    assert is_sorted(names, order)


@given(NAMES.filter(lambda names: len(names) > 1), st.data())
def test_two_that_change_places_are_noticed(names: list[str], data: st.DataObject) -> None:
    """Also where they are equal: then the order of their indices counts."""
    order = sorted(range(len(names)), key=lambda index: (names[index], index))
    place = data.draw(st.integers(0, len(names) - 2))
    order[place], order[place + 1] = order[place + 1], order[place]
    assert not is_sorted(names, order)
