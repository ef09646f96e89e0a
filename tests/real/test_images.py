"""Kernel images of the lab's guests: the same symbols as the guest had, wherever it was loaded."""

from __future__ import annotations

import pytest

import kallsift
from kallsift import State
from tests.real.census_truth import Reading, compare
from tests.real.conftest import GUESTS, Taken

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("name", GUESTS)
def test_image_has_the_symbols_of_the_guest(name: str, taken: Taken) -> None:
    """The image as its package has it: names, types and order of the guest's, and one slide between all addresses."""
    capture = taken(name)
    with kallsift.open(capture.folder / "vmlinuz") as memory:
        kernel = kallsift.recover(memory)
        found = compare(kernel, Reading(name, capture.core_kallsyms()))
    assert kernel.proven
    assert kernel.state is State.IMAGE
    assert found.names, found.first
    assert found.letters == found.excused, found.first
    assert len({shift for shift, _ in found.shifts} - {0}) <= 1
