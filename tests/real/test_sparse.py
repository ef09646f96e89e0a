"""A real guest's memory in a sparse file of 1 TiB: the same table, and next to nothing is read of the holes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import kallsift
from bench.check import SPARSE_SIZE, sparse
from kallsift.memory.segments import BytesSegment
from tests.real.comparison import text_of
from tests.real.conftest import Taken

MAX_IN_HOLES = 1 << 24
"""Bytes of holes that are looked at at most: what the kernel's own pointers and page tables lead to."""


class Watched(BytesSegment):
    """A segment that counts what is looked at of its holes."""

    in_holes = 0

    def read(self, low: int = 0, high: int | None = None) -> NDArray[np.uint8]:
        part = super().read(low, high)
        if len(part) <= 1 << 26:
            type(self).in_holes += len(part) - sum(b - a for a, b in BytesSegment(0, part).stored())
        return part

    def gather(self, offsets: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
        edges = np.array(list(self.stored()), np.int64).ravel()
        type(self).in_holes += width * int(np.count_nonzero(np.searchsorted(edges, offsets, side="right") % 2 == 0))
        return super().gather(offsets, width)


@pytest.mark.parametrize("guest", ["amd64-7.2"])
def test_holes_are_not_read(taken: Taken, tmp_path: Path, guest: str) -> None:
    capture = taken(guest)
    path = sparse(capture.dump("elf"), tmp_path / "dump")
    if path.stat().st_blocks * 512 >= SPARSE_SIZE:
        pytest.skip("this file system stores holes")
    with kallsift.open(path) as memory:
        assert memory.stored_size <= capture.dump("elf").stat().st_size
        segments = tuple(Watched(segment.start, segment.read()) for segment in memory.segments)
        kernel = kallsift.recover(replace(memory, segments=segments))
    assert kernel.proven
    assert text_of(kernel) == capture.core_kallsyms()
    assert Watched.in_holes < MAX_IN_HOLES
