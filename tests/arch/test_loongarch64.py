"""Page tables of loongarch64 beside its windows, filled as its kernels fill them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from kallsift.arch.loongarch64 import SEGMENTED
from kallsift.arch.page_table_ranges import mapped_ranges
from kallsift.arch.paging import EXECUTE, WRITE, PagingMode, Segmented, translate
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment

CACHED = 0x9000_0000_0000_0000
SIZE = 1 << 16
"""Room for a table of any shape."""
PLACE, TARGET = 0x40_0000, 0x123_0000
VALID, DIRTY, HUGE, PRESENT_WRITE, NO_EXECUTION = 1, 1 << 1, 1 << 6, 0b11 << 7, 1 << 62

each = pytest.mark.parametrize("mapping", [group[0] for group in SEGMENTED], ids=lambda mapping: mapping.name)


def written(mode: PagingMode, leaf: int) -> tuple[Memory, int, int]:
    """Memory with an empty table of each level below the top, and a way through others to a page; the top table's
    place, and the page's address."""
    levels, words = len(mode.shifts), SIZE // 8
    data: NDArray[np.uint64] = np.zeros((2 * levels, words), np.uint64)
    for below in range(1, levels):
        data[below] = CACHED + PLACE + (below - 1) * SIZE
    for used in range(levels):
        data[levels + used] = data[used]
        data[levels + used, 1] = CACHED + PLACE + (levels + used - 1) * SIZE if used else TARGET | leaf
    memory = Memory("test", "test", AddressSpace.PHYSICAL, (BytesSegment(PLACE, data.reshape(-1).view(np.uint8)),))
    first = (1 << 64) - (1 << mode.virtual_bits)
    return memory, PLACE + (2 * levels - 1) * SIZE, first + sum(1 << shift for shift in mode.shifts)


@each
def test_tables_and_windows_side_by_side(mapping: Segmented) -> None:
    mode = mapping.tables
    memory, root, address = written(mode, VALID | DIRTY | HUGE | PRESENT_WRITE)
    asked = [address, address + 5, address + mode.page_size, address - 1, CACHED + 0x1234, 0x1234]
    physical, mapped = translate(memory, mapping, root, np.array(asked, np.uint64))
    assert mapped.tolist() == [True, True, False, False, True, False]
    assert physical[mapped].tolist() == [TARGET, TARGET + 5, 0x1234]
    found = mapped_ranges(memory, mode, root)
    assert found.whole
    assert (found.starts.tolist(), found.physical.tolist()) == ([address], [TARGET])
    assert found.grants.tolist() == [WRITE | EXECUTE]


@each
def test_what_is_not_valid_maps_nothing(mapping: Segmented) -> None:
    memory, root, address = written(mapping.tables, DIRTY | HUGE | PRESENT_WRITE)
    assert not translate(memory, mapping, root, np.array([address], np.uint64))[1].any()


@each
def test_execution_can_be_forbidden(mapping: Segmented) -> None:
    memory, root, _ = written(mapping.tables, VALID | NO_EXECUTION)
    assert mapped_ranges(memory, mapping.tables, root).grants.tolist() == [0]


def test_huge_pages() -> None:
    """Entries of the kernel that Debian builds, as one of its dumps has them: 32 MiB of the array of pages."""
    (mapping,) = SEGMENTED[3]
    memory, root, address = written(mapping.tables, VALID)
    data = memory.segments[0].read().copy().view(np.uint64).reshape(-1, SIZE // 8)
    data[4, 2] = 0xAC00_11D3
    huge = Memory("test", "test", AddressSpace.PHYSICAL, (BytesSegment(PLACE, data.reshape(-1).view(np.uint8)),))
    wanted = (address >> 25 << 25) + (1 << 25) + 0x12_3456
    physical, mapped = translate(huge, mapping, root, np.array([wanted], np.uint64))
    assert (physical.tolist(), mapped.tolist()) == ([0xAC12_3456], [True])
