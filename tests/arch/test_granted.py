"""What a page table grants at single addresses is what a walk over all of it says."""

from __future__ import annotations

import numpy as np
import pytest

from kallsift.arch.granted import granted
from kallsift.arch.page_table_ranges import mapped_ranges
from kallsift.arch.paging import EVERYTHING, EXECUTE
from kallsift.arch.registry import mapping_named
from tests.arch.modes import kernel_start, mode_of
from tests.arch.pages import LAYOUTS, Layout, Tables


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_as_the_whole_table_says(layout: Layout) -> None:
    """Pages of all sizes, of which some lack a bit that grants something."""
    tables, start = Tables(layout), kernel_start(layout)
    pages = []
    for turn, level in enumerate(layout.blocks):
        if layout.name == "short descriptors" and level == 0:
            continue
        virtual = start + (3 + 8 * turn) * layout.size(layout.blocks[0])
        tables.map(virtual, (turn + 1) * layout.size(layout.blocks[0]) & (1 << layout.physical_bits(level)) - 1, level)
        pages.append(virtual)
    memory, mode, root = tables.memory(), mode_of(layout), tables.root
    ranges = mapped_ranges(memory, mode, root)
    for seed in range(4):
        # the highest bits and the lowest ones say what is granted
        places = np.random.default_rng(seed).choice(pages, 4).astype(np.uint64)
        expected = [int(ranges.grants[np.flatnonzero(ranges.starts <= place)[-1]]) for place in places]
        assert granted(memory, mode, root, places).tolist() == expected
    nowhere = np.array([start, start + layout.size(layout.blocks[0])], np.uint64)
    assert granted(memory, mode, root, nowhere).tolist() == [0, 0]


def test_execution_is_forbidden_by_any_entry() -> None:
    """x86-64: the bit in a table's entry counts for all that the table maps."""
    layout = next(layout for layout in LAYOUTS if str(layout) == "x86-64 4-level")
    tables = Tables(layout)
    start = kernel_start(layout)
    tables.map(start, 0x20_0000, 2)
    place = np.array([start], np.uint64)
    for spared in (None, *tables.tables):
        for entries in tables.tables:
            for index in range(512):
                value = int.from_bytes(tables.tables[entries][8 * index : 8 * index + 8], "little")
                if value & 1:
                    forbids = 0 if spared is None or entries != spared else 1 << 63
                    tables.set(entries, index, value & ~(1 << 63) | forbids)
        found = granted(tables.memory(), mode_of(layout), tables.root, place)
        assert bool(found[0] & EXECUTE) is (spared is None)


def test_what_is_mapped_without_tables() -> None:
    windows = mapping_named("mips", "kseg0", "<")
    assert windows is not None
    memory = Tables(LAYOUTS[0]).memory()
    places = np.array([0x8000_1000, 0x1000], np.uint64)
    assert granted(memory, windows, None, places).tolist() == [EVERYTHING, 0]
