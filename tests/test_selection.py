"""What ``make fast`` takes of tests with many cases: as many as the mark says, and the same ones everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest

from tests.conftest import unsampled


@dataclass(frozen=True)
class Case:
    """As much of a case of a test as the choice asks for."""

    nodeid: str
    marks: tuple[pytest.Mark, ...]

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return next((mark for mark in self.marks if mark.name == name), None)


SAMPLED = pytest.mark.sampled(3).mark
CASES = [Case(f"test_a[{number}]", (SAMPLED,)) for number in range(10)]


def left_out(cases: list[Case]) -> set[str]:
    return {item.nodeid for item in unsampled(cast(list[pytest.Item], cases))}


def test_as_many_as_the_mark_says_of_each_test() -> None:
    assert len(left_out(CASES)) == 7
    others = [Case(f"test_b[{number}]", (SAMPLED,)) for number in range(3)]
    assert left_out([*CASES, *others, Case("test_c", ())]) == left_out(CASES)


def test_the_choice_does_not_depend_on_the_order() -> None:
    assert left_out(CASES[::-1]) == left_out(CASES)


def test_what_is_slow_anyway_takes_no_place() -> None:
    slow = [Case(f"test_a[slow {number}]", (SAMPLED, pytest.mark.slow.mark)) for number in range(10)]
    assert left_out([*slow, *CASES]) == left_out(CASES)
