"""Walks of page tables against the mappings that were written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kallsift.machine.model import PagingMode, translate, walk
from kallsift.machine.registry import MODES
from tests.machine.pages import LAYOUTS, Layout, Tables

bounded = settings(deadline=None, derandomize=True, max_examples=25)
each_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=str)


def mode_of(layout: Layout) -> PagingMode:
    return next(mode for mode in MODES if (mode.architecture, mode.name) == (layout.architecture, layout.name))


def lookup(tables: Tables, *virtual: int, left_out: tuple[int, ...] = ()) -> list[int | None]:
    """Physical addresses, None for what is not mapped."""
    physical, mapped = translate(
        tables.memory(*left_out), mode_of(tables.layout), tables.root, np.array(virtual, np.uint64)
    )
    assert physical.shape == mapped.shape == (len(virtual),)
    return [int(place) if there else None for place, there in zip(physical, mapped, strict=True)]


def kernel(layout: Layout, offset: int) -> int:
    """A kernel address ``offset`` bytes above the lowest one."""
    return (1 << 64) - (1 << layout.bits) + offset % (1 << layout.bits)


def physical_bits(layout: Layout) -> int:
    return 52 if layout.architecture == "x86-64" or layout.bits == 52 else 48


def test_every_mode_has_a_layout() -> None:
    assert {(mode.architecture, mode.name) for mode in MODES} == {(la.architecture, la.name) for la in LAYOUTS}


@each_layout
def test_shape(layout: Layout) -> None:
    mode = mode_of(layout)
    assert (mode.shifts, mode.virtual_bits) == (layout.shifts, layout.bits)
    assert mode.page_size == layout.size(len(layout.shifts) - 1)


@each_layout
@bounded
@given(data=st.data())
def test_pages_and_blocks(layout: Layout, data: st.DataObject) -> None:
    """Mappings of all sizes side by side: their first, some inner and their last byte, and the bytes around them."""
    tables = Tables(layout)
    taken: list[tuple[int, int, int]] = []
    for _ in range(data.draw(st.integers(1, 5))):
        level = data.draw(st.sampled_from(layout.blocks))
        size = layout.size(level)
        virtual = kernel(layout, data.draw(st.integers(0, (1 << layout.bits) - 1))) // size * size
        physical = data.draw(st.integers(0, (1 << physical_bits(layout)) - 1)) // size * size
        # apart by what an entry of the top table covers, so that none lies in another
        if any(layout.shifts[0] and virtual >> layout.shifts[0] == other >> layout.shifts[0] for other, _, _ in taken):
            continue
        tables.map(virtual, physical, level)
        taken.append((virtual, physical, size))
    inner = data.draw(st.integers(0, 1 << 60))
    for virtual, physical, size in taken:
        offsets = (0, 1, inner % size, size - 1)
        assert lookup(tables, *(virtual + offset for offset in offsets)) == [physical + offset for offset in offsets]
        for outside in (virtual - 1, virtual + size):
            if not any(other <= outside < other + length for other, _, length in taken):
                assert lookup(tables, outside % (1 << 64)) == [None]


@each_layout
def test_neighbours_in_one_table(layout: Layout) -> None:
    tables = Tables(layout)
    size = layout.size(len(layout.shifts) - 1)
    start = kernel(layout, 0x1_2345_0000) >> layout.shifts[-2] << layout.shifts[-2]
    frames = [0x7000_0000 + size * (index * 7 % 16) for index in range(16)]
    for index, frame in enumerate(frames):
        tables.map(start + index * size, frame, len(layout.shifts) - 1)
    assert lookup(tables, *(start + index * size + 5 for index in range(16))) == [frame + 5 for frame in frames]
    assert lookup(tables, start + 16 * size) == [None]


@each_layout
def test_absent_entries(layout: Layout) -> None:
    """All bits but the lowest set."""
    tables = Tables(layout)
    level = len(layout.shifts) - 1
    virtual = kernel(layout, 0x8000_0000)
    table, index = tables.map(virtual, 0x5000_0000, level)
    assert lookup(tables, virtual) == [0x5000_0000]
    tables.set(table, index, (1 << 64) - 2)
    assert lookup(tables, virtual) == [None]
    tables.set(tables.root, tables.index(virtual, 0), (1 << 64) - 2)
    assert lookup(tables, virtual) == [None]


@each_layout
def test_addresses_that_are_not_the_kernels(layout: Layout) -> None:
    tables = Tables(layout)
    tables.map(kernel(layout, 0), 0x5000_0000, len(layout.shifts) - 1)
    low = kernel(layout, 0) & (1 << layout.bits) - 1
    assert lookup(tables, low, kernel(layout, 0) - 1, kernel(layout, 0) ^ 1 << 63) == [None, None, None]
    assert lookup(tables, kernel(layout, 0)) == [0x5000_0000]


@each_layout
def test_a_table_that_points_at_itself_ends(layout: Layout) -> None:
    """As some kernels do on purpose: after all levels, the table is taken for a page."""
    tables = Tables(layout)
    virtual = (1 << 64) - 1
    tables.set(tables.root, tables.index(virtual, 0), layout.entry(tables.root, 0, leaf=False))
    found = lookup(tables, virtual)
    uniform = len({layout.table_size(level) for level in range(len(layout.shifts))}) == 1
    assert found == ([tables.root + layout.size(len(layout.shifts) - 1) - 1] if uniform else found)


@each_layout
def test_tables_outside_of_memory(layout: Layout) -> None:
    tables = Tables(layout)
    level = len(layout.shifts) - 1
    virtual = kernel(layout, 0x8000_0000)
    table, _ = tables.map(virtual, 0x5000_0000, level)
    assert lookup(tables, virtual, left_out=(table,)) == [None]
    assert lookup(tables, virtual, left_out=(tables.root,)) == [None]
    assert lookup(tables, virtual, left_out=tuple(tables.tables)) == [None]
    # what is mapped need not be in memory itself
    assert lookup(tables, virtual) == [0x5000_0000]


@each_layout
@pytest.mark.parametrize("root", [0, 1, (1 << 64) - 8, (1 << 52) - 4096])
def test_roots_that_are_nowhere(layout: Layout, root: int) -> None:
    tables = Tables(layout)
    _, mapped = translate(tables.memory(), mode_of(layout), root, np.array([(1 << 64) - 1], np.uint64))
    assert not mapped.any()


@each_layout
def test_a_table_of_its_own_for_each_address(layout: Layout) -> None:
    one, other = Tables(layout), Tables(layout, base=0x9000_0000)
    virtual = kernel(layout, 0x8000_0000)
    one.map(virtual, 0x5000_0000, len(layout.shifts) - 1)
    other.map(virtual, 0x6000_0000, len(layout.shifts) - 1)
    one.tables.update(other.tables)
    roots = np.array([one.root, other.root, 0], np.uint64)
    physical, mapped = walk(one.memory(), mode_of(layout), roots, np.array([virtual] * 3, np.uint64))
    assert mapped.tolist() == [True, True, False]
    assert physical[:2].tolist() == [0x5000_0000, 0x6000_0000]
    assert roots.tolist() == [one.root, other.root, 0]


@each_layout
def test_no_addresses(layout: Layout) -> None:
    assert lookup(Tables(layout)) == []


@each_layout
@bounded
@given(content=st.binary(min_size=8, max_size=512), virtual=st.integers(0, (1 << 64) - 1))
def test_random_tables_never_raise(layout: Layout, content: bytes, virtual: int) -> None:
    tables = Tables(layout)
    room = tables.tables[tables.root]
    room[:] = (content * (len(room) // len(content) + 1))[: len(room)]
    lookup(tables, virtual, kernel(layout, virtual))
