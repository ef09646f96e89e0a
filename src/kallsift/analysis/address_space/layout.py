"""Divide a kernel's virtual memory into regions and check them by the page table.

The parts of the image follow from symbols. The rest of the address space follows from the area plans of its
architecture, whose bounds are read from the kernel's variables. The mapped pages then prove or contradict them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kallsift.analysis.address_space.page_table import PageTable, page_table
from kallsift.analysis.address_space.planned_areas import planned
from kallsift.analysis.address_space.region_checks import (
    Bounded,
    against_page_table,
    bytes_of,
    holds_pages,
    image_against_page_table,
)
from kallsift.analysis.pointer_tables.per_cpu import per_cpu_areas
from kallsift.arch.address_space import AreaRule
from kallsift.arch.page_table_ranges import mapped_ranges
from kallsift.arch.paging import Segmented, Windows
from kallsift.errors import KallsiftError
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kernel.access.image_sections import ImagePart, sections
from kallsift.kernel.access.virtual_memory import VirtualMemory, virtual_memory
from kallsift.kernel.kernel import Kernel

MAX_UNKNOWN = 256
"""Highest number of stretches outside of all regions that are listed."""

APART = 1 << 21
"""Smallest gap in bytes that separates two stretches outside of all regions."""


@dataclass(frozen=True, repr=False)
class Region:
    """A part of a kernel's address space.

    Attributes:
        name: its purpose; empty for a mapped stretch outside of all known regions.
        start: its first address.
        end: the address behind it, 2^64 at most.
        basis: the source of its bounds: symbols, a variable, or the architecture's plan.
        physical: physical address of its first byte, for regions that are contiguous in memory; None for others.
        mapped: number of bytes that the page table maps in it; None if there is no page table, or it was not asked.
        check: whether the page table agrees.
        of_image: whether it is a part of the kernel's image.
        depth: number of regions that contain it.
    """

    name: str
    start: int
    end: int
    basis: str
    physical: int | None
    mapped: int | None
    check: Check
    of_image: bool = False
    depth: int = 0

    def __repr__(self) -> str:
        return f"<Region {self.name or '(unknown)'}: {self.start:#x} to {self.end:#x}, {self.check.outcome.value}>"

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.end - self.start


@dataclass(frozen=True, eq=False, repr=False)
class Layout:
    """The regions of one kernel's address space.

    Attributes:
        regions: in the order of their addresses, each before the parts of it.
        page_table: the page table that proves them; None if there is none.
    """

    regions: tuple[Region, ...]
    page_table: PageTable | None

    def __repr__(self) -> str:
        verdict = "nothing contradicts them" if self.agrees else "the page table contradicts some"
        return f"<Layout: {len(self.regions)} regions, {verdict}>"

    def at(self, address: int) -> tuple[Region, ...]:
        """Return the regions that contain an address, from the widest to the narrowest."""
        return tuple(region for region in self.regions if region.start <= address < region.end)

    @property
    def agrees(self) -> bool:
        """True if no mapped page contradicts a region."""
        return all(region.check.outcome is not Outcome.FAILED for region in self.regions)


def layout(kernel: Kernel) -> Layout:
    """Return the layout of a kernel's virtual memory.

    Images and copies of a kernel do not run; for them the layout has the parts of the image alone.

    Raises:
        KallsiftError: if neither symbols nor a page table give any region.
    """
    runs = kernel.has_memory
    memory = virtual_memory(kernel) if runs else None
    parts = sections(kernel, memory)
    if memory is None:
        check = Check(CheckId.PAGE_TABLE, Outcome.ABSENT, "this kernel does not run")
        regions = [_region(part, _place(kernel, part.start), check, None, True) for part in parts]
        return Layout(_nested(regions), None)
    table = page_table(kernel, memory)
    regions = [
        _region(part, _place(kernel, part.start), image_against_page_table(part.start, part.end, table), table, True)
        for part in parts
    ]
    image = next(((part.start, part.end) for part in parts if part.name == "image"), None)
    for area in planned(kernel, memory, table, image):
        offset = table.offset if table is not None and area.rule is AreaRule.DIRECT else None
        physical = None if offset is None else area.start - offset & (1 << 64) - 1
        regions.append(_region(area, physical, against_page_table(area, table), table))
    regions += [_region(units, None, check, table) for units, check in per_cpu_areas(kernel, memory)]
    regions += _windows(memory)
    if table is not None:
        regions += _outside(table, memory, regions)
    if not regions:
        raise KallsiftError(
            "the layout of this kernel is unknown: neither its symbols nor a page table give it; see 'kallsift info'"
        )
    return Layout(_nested(regions), table)


def _region(
    part: ImagePart | Bounded, physical: int | None, check: Check, table: PageTable | None, of_image: bool = False
) -> Region:
    mapped = None if table is None else bytes_of(table.ranges.inside(part.start, part.end))
    return Region(part.name, part.start, part.end, part.basis, physical, mapped, check, of_image=of_image)


def _place(kernel: Kernel, address: int) -> int | None:
    """Return the physical address of a byte of the image; None for image files."""
    if kernel.memory.image is not None:
        return None
    return address - kernel.distance & (1 << 8 * kernel.symbols.word_size) - 1


def _windows(memory: VirtualMemory) -> list[Region]:
    """Return the windows that the processor maps without a page table.

    For `Segmented` mappings, the segments that the kernel's own page table maps follow.
    """
    mapping = memory.mapping
    windows = mapping.windows if isinstance(mapping, Segmented) else mapping
    if not isinstance(windows, Windows):
        return []
    check = Check.that(CheckId.PAGE_TABLE, True, "the processor maps it without a page table")
    regions = [
        Region(
            windows.name,
            window.virtual,
            window.virtual + window.size,
            windows.architecture,
            window.physical,
            None,
            check,
        )
        for window in windows.windows
    ]
    return [*regions, *_mapped_segments(memory, mapping)] if isinstance(mapping, Segmented) else regions


def _mapped_segments(memory: VirtualMemory, mapping: Segmented) -> list[Region]:
    ranges = mapped_ranges(memory.memory, mapping.tables, memory.root or 0)
    regions = []
    for stretch in mapping.tables.stretches:
        mapped = bytes_of(ranges.inside(stretch.start, stretch.stop))
        check = Check.that(CheckId.PAGE_TABLE, True, f"the kernel's own page table maps {mapped:,} bytes of it")
        name, basis = "mapped segment", mapping.architecture
        regions.append(Region(name, stretch.start, stretch.stop, basis, None, mapped, check))
    return regions


def _outside(table: PageTable, memory: VirtualMemory, regions: list[Region]) -> list[Region]:
    """Return the mapped stretches outside of all regions.

    Stretches with small gaps are joined. The array of pages (vmemmap) is recognised by its content.
    """
    found, position = [], 0
    bounds = sorted((region.start, region.end) for region in regions)
    for low, high in [*bounds, (1 << 64, 1 << 64)]:
        between = table.ranges.inside(position, low)
        position = max(position, high)
        if not len(between):
            continue
        ends = between.starts + between.sizes
        gaps = (np.flatnonzero(between.starts[1:] - ends[:-1] >= np.uint64(APART)) + 1).tolist()
        for first, behind in zip([0, *gaps], [*gaps, len(between)], strict=True):
            last = behind - 1
            start, end = int(between.starts[first]), int(between.starts[last]) + int(between.sizes[last])
            pages = Bounded("vmemmap", start, end, "its content", AreaRule.PAGES)
            if holds_pages(pages, table, memory):
                found.append(_region(pages, None, against_page_table(pages, table), table))
            else:
                check = Check(CheckId.PAGE_TABLE, Outcome.ABSENT, "mapped, but in no known region")
                found.append(_region(Bounded("", start, end, "page table"), None, check, table))
            if len(found) == MAX_UNKNOWN:
                return found
    return found


def _nested(regions: list[Region]) -> tuple[Region, ...]:
    """Return the regions in order, each with the number of regions that contain it."""
    ordered = sorted(regions, key=lambda region: (region.start, -region.end))
    result: list[Region] = []
    around: list[Region] = []
    for region in ordered:
        around = [outer for outer in around if region.end <= outer.end]
        result.append(replace(region, depth=len(around)))
        around.append(region)
    return tuple(result)
