"""Bare RAM is laid out as machines have it, every byte once."""

from __future__ import annotations

import numpy as np
import pytest

from kallsift.kernel.ram import layout_candidates
from kallsift.kernel.ram.layout_candidates import arrangements
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.ram_layouts import RamLayout
from kallsift.memory.segments import BytesSegment

SMALL = (
    RamLayout("early", below=0x3000),
    RamLayout("early again", below=0x3000),
    RamLayout("late", below=0x5000, resumes=0x20000),
    RamLayout("large only", below=0x2000, split_from=0x9000),
    RamLayout("based", base=0x8000),
)


def memory(size: int, start: int = 0, space: AddressSpace = AddressSpace.PHYSICAL) -> Memory:
    data = (np.arange(size, dtype=np.uint32) // 0x100).astype(np.uint8)
    return Memory("test", "raw", space, (BytesSegment(start, data),))


@pytest.fixture(autouse=True)
def _small_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_candidates, "LAYOUTS", SMALL)


def test_each_layout_is_tried_once() -> None:
    bare = memory(0x8000)
    found = list(arrangements(bare))
    assert [each.check.detail for each in found] == [
        "the RAM lies as early has it: 0x3000 bytes at 0x0, 0x5000 bytes at 0x100000000",
        "the RAM lies as late has it: 0x5000 bytes at 0x0, 0x3000 bytes at 0x20000",
    ]
    for each in found:
        for offset in range(0, 0x8000, 0x700):
            there = each.memory.read(each.address(offset), 0x100)
            assert np.array_equal(there, bare.read(offset, 0x100))
        assert each.memory.size == bare.size
    assert found[0].address(0x3000) == 1 << 32
    assert found[1].address(0x3000) == 0x3000
    assert found[1].address(0x5001) == 0x20001


def test_only_bare_ram_is_rearranged() -> None:
    assert list(arrangements(memory(0x2000))) == []
    assert list(arrangements(memory(0x8000, start=0x1000))) == []
    assert list(arrangements(memory(0x8000, space=AddressSpace.VIRTUAL))) == []
