"""The layout of a kernel's virtual memory: its regions, what bounds each, and whether the page table agrees.

The parts of the image follow from symbols. The rest of the address space follows from its architecture's plans, whose
bounds are read from the kernel's variables; what the page table maps then proves or contradicts them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kallsift.errors import KallsiftError
from kallsift.kallsyms.evidence import Check, Outcome
from kallsift.kernel.direct_map import direct_offset
from kallsift.kernel.model import Kernel, State
from kallsift.kernel.per_cpu import per_cpu_areas
from kallsift.kernel.planned import planned, walked
from kallsift.kernel.region_checks import against_page_table, bytes_of
from kallsift.kernel.sections import Section, sections
from kallsift.kernel.virtual import VirtualMemory, virtual_memory
from kallsift.machine.mapped_ranges import MappedRanges
from kallsift.machine.model import Windows

MAX_UNKNOWN = 256
"""Stretches outside of all regions that are listed at most."""

APART = 1 << 21
"""Bytes between mapped pages outside of all regions from which on they count as two stretches."""


@dataclass(frozen=True)
class Region:
    """A part of a kernel's address space.

    Attributes:
        name: what it is for; empty for what is mapped outside of all that is known.
        start: its first address.
        end: the address behind it, 2^64 at most.
        basis: what gives its bounds: symbols, a variable, or the architecture's plan.
        physical: where its first byte lies in memory, for regions that are in order there; None for others.
        mapped: bytes that the page table maps in it; None where there is none, or it was not asked.
        check: whether the page table agrees.
        depth: how many regions it is part of.
    """

    name: str
    start: int
    end: int
    basis: str
    physical: int | None
    mapped: int | None
    check: Check
    depth: int = 0

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


@dataclass(frozen=True, eq=False)
class Layout:
    """The regions of one kernel's address space.

    Attributes:
        regions: in the order of their addresses, each before the parts of it.
        ranges: all that the page table maps; None where there is none.
        offset: how far the direct map lies above physical addresses, modulo the address space; None if unknown.
    """

    regions: tuple[Region, ...]
    ranges: MappedRanges | None
    offset: int | None

    def at(self, address: int) -> tuple[Region, ...]:
        """The regions that an address lies in, from the widest to the narrowest."""
        return tuple(region for region in self.regions if region.start <= address < region.end)

    @property
    def agrees(self) -> bool:
        """Whether nothing that is mapped contradicts a region."""
        return all(region.check.outcome is not Outcome.FAILED for region in self.regions)


def layout(kernel: Kernel) -> Layout:
    """The layout of a kernel's virtual memory; of images and copies, which do not run, that of the image alone.

    Raises:
        KallsiftError: if no symbol and no page table tells anything of it.
    """
    runs = kernel.memory.image is None and kernel.state in (State.RUNNING, State.GUEST)
    memory = virtual_memory(kernel) if runs else None
    parts = sections(kernel, memory)
    if memory is None:
        unseen = Check("page table", Outcome.ABSENT, "as it was linked: it does not run")
        regions = [
            Region(part.name, part.start, part.end, part.basis, _place(kernel, part.start), None, unseen)
            for part in parts
        ]
        return Layout(_nested(regions), None, None)
    ranges = walked(memory)
    offset = direct_offset(memory, ranges) if ranges is not None else None
    regions = [_of_image(kernel, part, ranges) for part in parts]
    image = next(((part.start, part.end) for part in parts if part.name == "image"), None)
    for area in planned(kernel, memory, ranges, offset, image):
        check = against_page_table(area, ranges, offset, kernel.distance)
        mapped = None if ranges is None else bytes_of(ranges.inside(area.start, area.end))
        physical = area.start - offset & memory.words.mask if area.direct and offset is not None else None
        regions.append(Region(area.name, area.start, area.end, area.basis, physical, mapped, check))
    for units, check in per_cpu_areas(kernel, memory):
        mapped = None if ranges is None else bytes_of(ranges.inside(units.start, units.end))
        regions.append(Region(units.name, units.start, units.end, units.basis, None, mapped, check))
    regions += _windows(memory)
    if ranges is not None:
        regions += _unknown(ranges, regions)
    if not regions:
        raise KallsiftError("neither symbols nor a page table tell of this kernel's layout")
    return Layout(_nested(regions), ranges, offset)


def _place(kernel: Kernel, address: int) -> int | None:
    """Where a byte of the image lies in memory; None for images, which lie nowhere."""
    if kernel.memory.image is not None:
        return None
    return address - kernel.distance & (1 << 8 * kernel.symbols.word_size) - 1


def _of_image(kernel: Kernel, part: Section, ranges: MappedRanges | None) -> Region:
    """A part of the image of a running kernel: what is mapped of it must lie where the image does."""
    physical = _place(kernel, part.start)
    if ranges is None:
        check = Check("page table", Outcome.ABSENT, "there is none to ask")
        return Region(part.name, part.start, part.end, part.basis, physical, None, check)
    inside = ranges.inside(part.start, part.end)
    mask = np.uint64((1 << 8 * kernel.symbols.word_size) - 1)
    right = inside.chosen((inside.offsets & mask) == np.uint64(kernel.distance) & mask)
    mapped, agreeing = bytes_of(inside), bytes_of(right)
    if not mapped:
        check = Check("page table", Outcome.ABSENT, "none of it is mapped any more")
    elif agreeing == mapped:
        check = Check.that("page table", True, "all that is mapped of it lies in order")
    else:
        check = Check.that("page table", False, f"{mapped - agreeing:,} bytes of it are mapped elsewhere")
    return Region(part.name, part.start, part.end, part.basis, physical, mapped, check)


def _windows(memory: VirtualMemory) -> list[Region]:
    """What the processor maps without a table."""
    if not isinstance(memory.mapping, Windows):
        return []
    check = Check.that("page table", True, "the processor maps it without one")
    return [
        Region("unmapped segment", window.virtual, window.virtual + window.size, basis, window.physical, None, check)
        for window in memory.mapping.windows
        for basis in [f"{memory.mapping.architecture}, {memory.mapping.name}"]
    ]


def _unknown(ranges: MappedRanges, regions: list[Region]) -> list[Region]:
    """What is mapped outside of all regions, near stretches together."""
    outside, position = [], 0
    for region in sorted(regions, key=lambda region: region.start):
        if region.start > position:
            outside.append(ranges.inside(position, region.start))
        position = max(position, region.end)
    if position < 1 << 64:
        outside.append(ranges.inside(position, 1 << 64))
    found = []
    for part in outside:
        if not len(part):
            continue
        gaps = np.flatnonzero(part.starts[1:] - (part.starts[:-1] + part.sizes[:-1]) >= np.uint64(APART)) + 1
        for low, high in zip([0, *gaps.tolist()], [*gaps.tolist(), len(part)], strict=True):
            start, end = int(part.starts[low]), int(part.starts[high - 1]) + int(part.sizes[high - 1])
            check = Check("page table", Outcome.ABSENT, "mapped, and in no region that is known")
            found.append(Region("", start, end, "page table", None, int(part.sizes[low:high].sum()), check))
    return found[:MAX_UNKNOWN]


def _nested(regions: list[Region]) -> tuple[Region, ...]:
    """The regions in order, each with the number of those that hold it as a whole."""
    ordered = sorted(regions, key=lambda region: (region.start, -region.end))
    result: list[Region] = []
    around: list[Region] = []
    for region in ordered:
        around = [outer for outer in around if region.end <= outer.end]
        result.append(replace(region, depth=len(around)))
        around.append(region)
    return tuple(result)
