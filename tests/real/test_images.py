"""Kernel images of the lab's guests have the same symbols as the guests had, wherever those were loaded."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kallsift import State
from tests.real.census_truth import Reading, compare
from tests.real.comparison import text_of
from tests.real.conftest import GUESTS, Taken
from tests.real.listed import running


@pytest.mark.parametrize("name", GUESTS)
def test_image_has_the_symbols_of_its_guest(name: str, taken: Taken) -> None:
    """The image as its package has it: the guest's names and types in its order, and one slide of all addresses."""
    capture = taken(name)
    kernel = running(capture.kernel_image)
    found = compare(kernel, Reading(name, capture.core_kallsyms()))
    assert kernel.proven
    assert kernel.state is State.IMAGE
    assert found.names, found.first
    assert found.letters == found.excused, found.first
    assert len({shift for shift, _ in found.shifts} - {0}) <= 1


CHANGES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "another name": lambda lines: [*lines[:1000], lines[1000] + b"x", *lines[1001:]],
    "another type": lambda lines: [*lines[:1000], lines[1000][:17] + b"?" + lines[1000][18:], *lines[1001:]],
    "another address": lambda lines: [*lines[:1000], b"f" * 16 + lines[1000][16:], *lines[1001:]],
    "one line less": lambda lines: [*lines[:1000], *lines[1001:]],
    "one line more": lambda lines: [*lines, lines[-1]],
    "another order": lambda lines: [*lines[1000:], *lines[:1000]],
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_census_sees_any_difference(change: str, taken: Taken) -> None:
    """A reading that differs in one line is not taken for the same."""
    kernel = running(taken(GUESTS[0]).kernel_image)
    lines = text_of(kernel).splitlines()
    assert compare(kernel, Reading("itself", b"\n".join(lines))).identical
    found = compare(kernel, Reading("changed", b"\n".join(CHANGES[change](lines))))
    assert not found.identical
