"""What a guest says of its RAM, and whether two memories hold the same there."""

from __future__ import annotations

import re

import numpy as np

import kallsift
from tests.lab import Capture

PAGE = 4096
AT_ONCE = 1 << 24

RAM = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) : System RAM$", re.MULTILINE)

Range = tuple[int, int]
"""First and last address."""


def ranges_of(capture: Capture) -> list[Range]:
    """The lines of the guest's /proc/iomem that LiME goes by: those of the tree's first level."""
    return [(int(first, 16), int(last, 16)) for first, last in RAM.findall(capture.truth("iomem"))]


def assert_same(ours: kallsift.Memory, theirs: kallsift.Memory, ranges: list[Range]) -> None:
    """Every whole page of some ranges is in both, and the same."""
    for first, last in ranges:
        end = first + (last + 1 - first) // PAGE * PAGE
        for start in range(first, end, AT_ONCE):
            size = min(AT_ONCE, end - start)
            assert np.array_equal(ours.read(start, size), theirs.read(start, size)), f"{start:#x}"
