"""All that a page table maps, in tables of every mode that are written by the processors' manuals; and broken ones."""

from __future__ import annotations

from itertools import pairwise
from time import process_time

import numpy as np
import pytest

from kallsift.arch.page_table_ranges import MAX_RANGES, MappedRanges, mapped_ranges
from kallsift.arch.paging import EXECUTE, USER, WRITE, PagingMode, translate
from kallsift.arch.registry import MODES
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment
from tests.arch.modes import kernel_start, mode_of
from tests.arch.pages import LAYOUTS, Layout, Tables

BITS = {"x86-64": ((0, 1 << 1), 1 << 63, 0), "arm64": ((1 << 7, 0), 1 << 53, 1 << 54)}
"""By architecture: the bit that forbids writing, the one that allows it, the one that forbids execution, and others."""


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_every_page_is_there(layout: Layout) -> None:
    """Pages at every level that can map memory, two of each side by side and one alone."""
    tables = Tables(layout)
    start, wanted = kernel_start(layout), []
    for turn, level in enumerate(layout.blocks):
        if layout.name == "short descriptors" and level == 0:
            continue  # supersections are sixteen entries that agree
        size = layout.size(level)
        for place in (0, 1, 5):
            virtual = start + (3 + 8 * turn) * layout.size(layout.blocks[0]) + place * size
            physical = (turn + 1) * layout.size(layout.blocks[0]) + place * size & (
                1 << layout.physical_bits(level)
            ) - 1
            tables.map(virtual, physical, level)
            wanted.append((virtual, size, physical))
    found = mapped_ranges(tables.memory(), mode_of(layout), tables.root)
    assert found.whole
    for virtual, size, physical in wanted:
        inside = found.inside(virtual, virtual + size)
        assert (len(inside), int(inside.starts[0]), int(inside.sizes[0])) == (1, virtual, size)
        assert int(inside.physical[0]) == physical
    assert int(found.sizes.sum()) == sum(size for _, size, _ in wanted)
    assert len(found) == 2 * (len(wanted) // 3)
    assert all(low < high for low, high in pairwise(found.starts.tolist()))


@pytest.mark.parametrize("layout", [one for one in LAYOUTS if one.architecture in ("x86-64", "arm64")], ids=str)
def test_a_path_grants_what_all_of_its_entries_do(layout: Layout) -> None:
    tables = Tables(layout)
    level = len(layout.shifts) - 1
    start = kernel_start(layout)
    write, no_execution, other = BITS[layout.architecture]
    entry = layout.entry(0x20_0000, level, leaf=True)
    allowed = (entry | write[1]) & ~no_execution & ~other & ~write[0]
    for number, changed in enumerate((allowed, allowed & ~write[1] | write[0], allowed | no_execution)):
        table, index = tables.map(start + number * layout.size(level), 0x20_0000, level)
        tables.set(table, index, changed)
    for (table, index), below in list(tables.children.items()):
        upper = next(level for level, _ in enumerate(layout.shifts) if (table, index) in tables.children)
        tables.set(table, index, layout.entry(below, upper, leaf=False) & ~(no_execution | other))
    found = mapped_ranges(tables.memory(), mode_of(layout), tables.root)
    assert [int(grants) & (WRITE | EXECUTE) for grants in found.grants] == [WRITE | EXECUTE, EXECUTE, WRITE]
    assert not (found.grants & USER).any() or layout.architecture == "x86-64"


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: f"{mode.architecture} {mode.name}")
def test_a_table_that_leads_to_itself_ends(mode: PagingMode) -> None:
    """Every entry points at its own table: a walk of all paths would never end."""
    layout = next(one for one in LAYOUTS if (one.architecture, one.name) == (mode.architecture, mode.name))
    tables = Tables(layout)
    for index in range(layout.table_size(0) // layout.width):
        tables.set(tables.root, index, layout.entry(tables.root, 0, leaf=False))
    begun = process_time()
    found = mapped_ranges(tables.memory(), mode, tables.root)
    assert len(found) <= MAX_RANGES
    assert process_time() - begun < 30


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: f"{mode.architecture} {mode.name}")
def test_random_bytes_map_what_they_map(mode: PagingMode) -> None:
    """Whatever is listed, the walk for single addresses agrees."""
    random = np.random.default_rng(7)
    data = random.integers(0, 256, 1 << 20, np.uint8)
    memory = Memory("test", "test", AddressSpace.PHYSICAL, (BytesSegment(0, data),))
    found = mapped_ranges(memory, mode, 0)
    if not len(found):
        return
    chosen = random.integers(0, len(found), 500)
    physical, mapped = translate(memory, mode, 0, found.starts[chosen])
    assert mapped[mode.translatable(found.starts[chosen])].all()
    assert np.array_equal(physical[mapped], found.physical[chosen][mapped])


def test_cutting_and_merging() -> None:
    def of(*rows: tuple[int, int, int]) -> MappedRanges:
        starts, sizes, physical = (np.array(column, np.uint64) for column in zip(*rows, strict=True))
        same = np.full(len(rows), 12, np.uint8)
        return MappedRanges(starts, sizes, physical, same, same * 0)

    ranges = of((0x1000, 0x1000, 0x5000), (0x2000, 0x1000, 0x9000), (0xFFFF_FFFF_FFFF_F000, 0x1000, 0))
    assert ranges.merged().sizes.tolist() == [0x1000, 0x1000, 0x1000]
    assert ranges.merged(contiguous=False).sizes.tolist() == [0x2000, 0x1000]
    cut = ranges.inside(0x1800, 0x2010)
    assert (cut.starts.tolist(), cut.sizes.tolist()) == ([0x1800, 0x2000], [0x800, 0x10])
    assert cut.physical.tolist() == [0x5800, 0x9000]
    assert len(ranges.inside(0x3000, 0x4000)) == 0
    assert len(ranges.inside(5, 5)) == 0
    assert ranges.inside(0x8000, 1 << 64).starts.tolist() == [0xFFFF_FFFF_FFFF_F000]
