"""Walks of page tables against the mappings that were written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kallsift.arch.paging import PagingMode, translate, walk
from kallsift.arch.registry import MODES, WINDOWS
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment
from tests.arch.pages import LAYOUTS, Layout, Tables
from tests.examples import examples

bounded = settings(derandomize=True, max_examples=examples(25))
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
    return layout.lowest() + offset % (1 << layout.bits)


def test_every_mode_has_a_layout() -> None:
    assert {(mode.architecture, mode.name) for mode in MODES} == {(la.architecture, la.name) for la in LAYOUTS}


@each_layout
def test_shape(layout: Layout) -> None:
    mode = mode_of(layout)
    assert (mode.shifts, mode.virtual_bits) == (layout.shifts, layout.bits)
    assert mode.page_size == layout.size(len(layout.shifts) - 1)


@pytest.mark.sampled(6)
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
        physical = data.draw(st.integers(0, (1 << layout.physical_bits(level)) - 1)) // size * size
        # apart by what an entry of the top table covers, so that none lies in another
        if any(layout.shifts[0] and virtual >> layout.shifts[0] == other >> layout.shifts[0] for other, _, _ in taken):
            continue
        tables.map(virtual, physical, level)
        taken.append((virtual, physical, size))
    inner = data.draw(st.integers(0, 1 << 60))
    for virtual, physical, size in taken:
        offsets = (0, 1, inner % size, size - 1)
        assert lookup(tables, *(virtual + offset for offset in offsets)) == [physical + offset for offset in offsets]
        for outside in ((virtual - 1) % (1 << 64), (virtual + size) % (1 << 64)):
            if not any(other <= outside < other + length for other, _, length in taken):
                assert lookup(tables, outside) == [None]


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
    """With as many bits set as there can be."""
    tables = Tables(layout)
    level = len(layout.shifts) - 1
    virtual = kernel(layout, 0x8000_0000)
    table, index = tables.map(virtual, 0x5000_0000, level)
    assert lookup(tables, virtual) == [0x5000_0000]
    tables.set(table, index, layout.absent(level))
    assert lookup(tables, virtual) == [None]
    tables.set(tables.root, tables.index(virtual, 0), layout.absent(0))
    assert lookup(tables, virtual) == [None]


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout.bits < 64], ids=str)
def test_addresses_that_are_not_the_kernels(layout: Layout) -> None:
    tables = Tables(layout)
    tables.map(kernel(layout, 0), 0x5000_0000, len(layout.shifts) - 1)
    lowest = kernel(layout, 0)
    others = ((lowest - 1) % (1 << 64), (lowest + (1 << layout.bits)) % (1 << 64), lowest ^ 1 << 63)
    assert lookup(tables, *others) == [None, None, None]
    assert lookup(tables, lowest) == [0x5000_0000]


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout.architecture == "x86-64"], ids=str)
def test_a_table_that_points_at_itself_ends(layout: Layout) -> None:
    """As some kernels do on purpose: after all levels, the table is taken for a page."""
    tables = Tables(layout)
    tables.set(tables.root, tables.index(virtual := (1 << 64) - 1, 0), layout.entry(tables.root, 0, leaf=False))
    assert lookup(tables, virtual) == [tables.root + layout.size(len(layout.shifts) - 1) - 1]


def lookup_alone(name: str, root: int, data: dict[int, bytes], *virtual: int) -> list[int | None]:
    """Physical addresses by tables given as bytes."""
    segments = tuple(BytesSegment(place, np.frombuffer(content, np.uint8)) for place, content in sorted(data.items()))
    memory = Memory("test", "test", AddressSpace.PHYSICAL, segments)
    mode = next(mode for mode in MODES if mode.name == name)
    physical, mapped = translate(memory, mode, root, np.array(virtual, np.uint64))
    return [int(place) if there else None for place, there in zip(physical, mapped, strict=True)]


def test_supersections_and_large_pages_of_arm() -> None:
    """Sixteen entries each, all the same: 16 MiB with 40-bit addresses, and 64 KiB."""
    supersection = 0xAB00_0000 | 0x7 << 20 | 0x4 << 5 | 1 << 18 | 0b10
    large = 0x1234_0000 | 0b01
    first = np.zeros(4096, "<u4")
    first[0xC00:0xC10] = supersection
    first[0xC20] = 0x9000_0000 | 0b01
    second = np.zeros(256, "<u4")
    second[0x30:0x40] = large
    data = {0x8000_4000: first.tobytes(), 0x9000_0000: second.tobytes()}
    wanted = (0xC012_3456, 0xC0FF_FFFF, 0xC100_0000, 0xC203_0000, 0xC203_FFFF, 0xC204_0000)
    found = lookup_alone("short descriptors", 0x8000_4000, data, *wanted)
    assert found == [0x47_AB12_3456, 0x47_ABFF_FFFF, None, 0x1234_0000, 0x1234_FFFF, None]


def test_pages_of_64_kib_of_riscv() -> None:
    """Svnapot: sixteen entries whose page number ends in 1000, with bit 63 set."""
    tables = [np.zeros(512, "<u8") for _ in range(3)]
    tables[0][511], tables[1][511] = 0x8000_1000 >> 2 | 1, 0x8000_2000 >> 2 | 1
    tables[2][0x10:0x20] = 1 << 63 | (0x9ABC_0000 >> 12 | 0b1000) << 10 | 0xEF
    data = {0x8000_0000 + 0x1000 * number: table.tobytes() for number, table in enumerate(tables)}
    start = (1 << 64) - (1 << 21) + 0x1_0000
    found = lookup_alone("Sv39", 0x8000_0000, data, start, start + 0x8765, start + 0xFFFF, start + 0x1_0000)
    assert found == [0x9ABC_0000, 0x9ABC_8765, 0x9ABC_FFFF, None]


@pytest.mark.parametrize(
    ("architecture", "virtual", "physical"),
    [
        ("mips", 0x8010_0400, 0x10_0400),
        ("mips", 0xBFFF_FFFF, 0x1FFF_FFFF),
        ("mips", 0xC000_0000, None),
        ("mips", 0x7FFF_FFFF, None),
        ("mips64", 0xFFFF_FFFF_8010_0400, 0x10_0400),
        ("mips64", 0x9800_0000_9000_0000, 0x9000_0000),
        ("mips64", 0xA800_0000_0000_0010, 0x10),
        ("mips64", 0xC000_0000_0000_0000, None),
        ("loongarch64", 0x9000_0000_0020_0000, 0x20_0000),
        ("loongarch64", 0x8000_0000_1FE0_01E0, 0x1FE0_01E0),
        ("loongarch64", 0x9001_0000_0000_0000, None),
        ("ppc64", 0xC000_0000_0200_0000, 0x200_0000),
        ("ppc64", 0xC008_0000_0000_0000, None),
        ("ppc", 0xC000_4000, 0x4000),
    ],
)
def test_windows(architecture: str, virtual: int, physical: int | None) -> None:
    """By the manuals: what the processor maps without a table."""
    mapping = next(one for one in WINDOWS if one.architecture == architecture)
    nothing = Memory("test", "test", AddressSpace.PHYSICAL, ())
    found, mapped = translate(nothing, mapping, None, np.array([virtual], np.uint64))
    assert (int(found[0]) if mapped[0] else None) == physical
    assert mapping.translatable(np.array([virtual], np.uint64)).tolist() == [physical is not None]


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
