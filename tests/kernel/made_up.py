"""A small x86-64 kernel made by hand: an image, a direct map and what is around them, with page tables of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from kallsift.addresses import PhysicalAddress, VirtualAddress
from kallsift.kernel.kernel import Kernel, TableLocation
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment
from tests.arch.pages import LAYOUTS, Tables
from tests.output.sample import kernel

IMAGE, DIRECT, VMALLOC, PAGES = (
    0xFFFF_FFFF_8100_0000,
    0xFFFF_8880_0000_0000,
    0xFFFF_C900_0000_0000,
    0xFFFF_EA00_0000_0000,
)
PLACE, LARGE, RAM = 0x100_0000, 0x20_0000, 0x400_0000
"""Where the image lies in memory, bytes of a large page, and of all memory."""

TABLE, FUNCTIONS = IMAGE + 0x1000, tuple(IMAGE + 0x100 * number for number in range(1, 5))
"""A table of pointers in the image, and the functions that it leads to."""

ROWS = (
    (IMAGE, "T", "_stext"),
    (IMAGE, "T", "_text"),
    *((address, "T", f"__x64_sys_{number}") for number, address in enumerate(FUNCTIONS)),
    (IMAGE + 0x800, "T", "_etext"),
    (TABLE, "D", "sys_call_table"),
    (IMAGE + 0x1030, "D", "page_offset_base"),
    (IMAGE + 0x1038, "D", "vmalloc_base"),
    (IMAGE + 0x1040, "D", "vmemmap_base"),
    (IMAGE + LARGE, "B", "_end"),
)

WORDS: Mapping[int, int] = {
    **{TABLE + 8 * number: address for number, address in enumerate(FUNCTIONS)},
    IMAGE + 0x1030: DIRECT,
    IMAGE + 0x1038: VMALLOC,
    IMAGE + 0x1040: PAGES,
}

MAPPED: Mapping[int, int] = {
    IMAGE: PLACE,
    **{DIRECT + step: step for step in range(0, RAM, LARGE)},
    VMALLOC: 0x200_0000,
    PAGES: 0x240_0000,
}
"""Virtual and physical addresses of large pages."""


def made_up(
    words: Mapping[int, int] | None = None,
    mapped: Mapping[int, int] | None = None,
    rows: Sequence[tuple[int, str, str]] = ROWS,
) -> Kernel:
    """The kernel with these words in its image, these large pages mapped, and these symbols."""
    tables = Tables(next(layout for layout in LAYOUTS if str(layout) == "x86-64 4-level"))
    for virtual, physical in (MAPPED if mapped is None else mapped).items():
        tables.map(virtual, physical, 2)
    data = np.zeros(RAM, np.uint8)
    for address, value in (WORDS if words is None else words).items():
        place = address - IMAGE + PLACE
        data[place : place + 8] = np.frombuffer(value.to_bytes(8, "little"), np.uint8)
    found = kernel(
        rows,
        tables=(TableLocation("names", PhysicalAddress(PLACE + 0x2000), VirtualAddress(IMAGE + 0x2000), 0x1000),),
        virtual_base=VirtualAddress(IMAGE),
        physical_base=PhysicalAddress(PLACE),
        page_table_root=PhysicalAddress(tables.root),
        distance=IMAGE - PLACE,
    )
    segments = (BytesSegment(0, data), *tables.memory().segments)
    return replace(found, memory=Memory("made up", "test", AddressSpace.PHYSICAL, segments))
