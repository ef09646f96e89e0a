"""Fixtures: captures of real kernels, and their memory as something that a test may write into."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from kallsift import Memory
from kallsift.memory.memory import AddressSpace
from kallsift.memory.segments import BytesSegment
from tests.lab import Capture, capture, guest_named, guests_of_set

GUESTS = [guest.name for guest in guests_of_set(os.environ.get("KALLSIFT_LAB_SET", "test"))]
"""Names of the guests that the claims are tested on: the lab's set ``test``, or the one that the variable names."""

Taken = Callable[[str], Capture]


@pytest.fixture(scope="session")
def taken() -> Taken:
    """A guest's capture by its name, booted first where it has not been."""
    return lambda name: capture(guest_named(name))


def writable(taken: Capture) -> NDArray[np.uint8]:
    """A capture's raw dump, copied on write: shape (size,), offset = physical address."""
    return np.memmap(taken.dump("raw"), np.uint8, "c")


def memory_of(data: NDArray[np.uint8]) -> Memory:
    """Those bytes as physical memory without any hint."""
    return Memory("test", "raw", AddressSpace.PHYSICAL, (BytesSegment(0, np.asarray(data)),))
