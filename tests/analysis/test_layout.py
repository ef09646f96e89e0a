"""The layout of a kernel made by hand: what the page table proves, contradicts, and leaves unknown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kallsift.addresses import PhysicalAddress, VirtualAddress
from kallsift.analysis.address_space.layout import Layout, Region, layout
from kallsift.arch.registry import mapping_named
from kallsift.kallsyms.evidence import Outcome
from kallsift.kernel.kernel import State, TableLocation
from kallsift.memory.memory import AddressSpace, ImageFacts, Memory
from kallsift.memory.segments import BytesSegment
from kallsift.output.text.layout import layout_lines, page_table_lines, size_text
from tests.kernel.made_up import DIRECT, IMAGE, LARGE, MAPPED, PAGES, PLACE, RAM, VMALLOC, WORDS, made_up
from tests.output.sample import kernel


def region(found: Layout, name: str) -> Region:
    return next(one for one in found.regions if one.name == name)


def test_all_of_it_is_proven() -> None:
    found = layout(made_up())
    assert found.agrees
    assert [one.name for one in found.regions if not one.name] == []
    direct = region(found, "direct map")
    assert (direct.start, direct.end, direct.physical, direct.mapped) == (DIRECT, DIRECT + RAM, 0, RAM)
    image = region(found, "image")
    assert (image.start, image.end, image.physical) == (IMAGE, IMAGE + LARGE, PLACE)
    for name in ("direct map", "image", "text", "vmalloc", "vmemmap", "kernel mapping"):
        assert region(found, name).check.outcome is Outcome.PASSED, name
    assert region(found, "modules").check.outcome is Outcome.ABSENT
    assert [one.name for one in found.at(IMAGE + 8)] == ["kernel mapping", "image", "text"]
    assert [one.name for one in found.at(DIRECT + 8)] == ["direct map"]
    assert found.at(0xFFFF_8000_0000_0000) == ()


def test_an_image_that_is_mapped_elsewhere_contradicts_it() -> None:
    found = layout(made_up(mapped={**MAPPED, IMAGE: PLACE + LARGE}))
    assert not found.agrees
    # none of the variables can be read then
    assert region(found, "text").check.outcome is Outcome.FAILED


def test_a_direct_map_with_a_page_out_of_order_contradicts_it() -> None:
    found = layout(made_up(mapped={**MAPPED, DIRECT + 2 * LARGE: 3 * LARGE}))
    assert region(found, "direct map").check.outcome is Outcome.FAILED
    assert "other distances" in region(found, "direct map").check.detail


def test_variables_that_lie_are_not_believed() -> None:
    found = layout(made_up(words={**WORDS, IMAGE + 0x1030: DIRECT + LARGE}))
    assert region(found, "direct map").check.outcome is Outcome.FAILED
    found = layout(made_up(words={**WORDS, IMAGE + 0x1040: PAGES - LARGE}))
    assert region(found, "vmemmap").check.outcome is Outcome.FAILED


def test_what_is_mapped_nowhere_known_is_said() -> None:
    found = layout(made_up(mapped={**MAPPED, 0xFFFF_F000_0000_0000: 0x280_0000}))
    assert [(one.start, one.size) for one in found.regions if not one.name] == [(0xFFFF_F000_0000_0000, LARGE)]


def test_what_does_not_run_has_its_image_alone() -> None:
    stale = layout(replace(made_up(), state=State.STALE))
    assert {one.name for one in stale.regions} == {"image", "text"}
    assert stale.page_table is None
    image = made_up()
    image = replace(image, memory=replace(image.memory, image=ImageFacts(("vmlinux",), 0)), state=State.IMAGE)
    assert [one.physical for one in layout(image).regions] == [None, None]


def test_random_memory_is_no_harm() -> None:
    random = np.random.default_rng(3)
    data = random.integers(0, 256, 1 << 20, np.uint8)
    memory = Memory("random", "test", AddressSpace.PHYSICAL, (BytesSegment(0, data),))
    for architecture, paging, size in (
        ("x86-64", "4-level", 8),
        ("arm64", "4 KiB pages, 48-bit", 8),
        ("s390x", "region-third table", 8),
        ("riscv64", "Sv39", 8),
        ("x86", "2-level", 4),
        ("arm", "short descriptors", 4),
    ):
        order = ">" if architecture == "s390x" else "<"
        rows = [(IMAGE & (1 << 8 * size) - 1, "T", "_stext"), (IMAGE + 0x800 & (1 << 8 * size) - 1, "T", "_etext")]
        found = layout(
            kernel(
                rows,
                size,
                memory=memory,
                architecture=architecture,
                mapping=mapping_named(architecture, paging, order),
                byte_order=order,
                page_table_root=0x1000,
                tables=(TableLocation("names", PhysicalAddress(0x4000), VirtualAddress(IMAGE), 0x100),),
            )
        )
        assert len(found.regions) < 1000


def test_lines() -> None:
    found = layout(made_up())
    lines = list(layout_lines(found, 8))
    assert len(lines) == len(found.regions)
    (direct,) = (line for line in lines if "  direct map  " in line)
    assert direct.startswith(f"{DIRECT:016x}-{DIRECT + RAM - 1:016x}     64 MiB")
    assert found.page_table is not None
    table = list(page_table_lines(found.page_table.ranges, found, 8))
    assert len(table) == 4
    assert table[0].split() == [
        f"{DIRECT:016x}-{DIRECT + RAM - 1:016x}",
        "64",
        "MiB",
        "2",
        "MiB",
        "rw--",
        "0",
        "direct",
        "map",
    ]
    assert table[1].startswith(f"{VMALLOC:016x}-")
    assert [size_text(size) for size in (0, 1, 1023, 4096, 1536, 1 << 64)] == [
        "0 bytes",
        "1 bytes",
        "1023 bytes",
        "4 KiB",
        "1.5 KiB",
        "16 EiB",
    ]


def test_broken_page_tables_are_no_harm() -> None:
    """Random entries in tables that work otherwise: whatever comes of it, it is bounded and no other error."""
    random = np.random.default_rng(11)
    for _ in range(5):
        broken = made_up()
        segments = []
        for part in broken.memory.segments:
            data = np.array(part.read())
            if part.start >= RAM:
                entries = data.view("<u8")
                chosen = random.integers(0, len(entries), 40)
                entries[chosen] = random.integers(0, RAM, 40, np.uint64) | random.choice([0x23, 0xA3, 0x21], 40).astype(
                    "<u8"
                )
            segments.append(BytesSegment(part.start, data))
        found = layout(replace(broken, memory=replace(broken.memory, segments=tuple(segments))))
        assert len(list(layout_lines(found, 8))) == len(found.regions)
        assert all(0 <= one.start < one.end <= 1 << 64 for one in found.regions)
