"""The areas of a running kernel's address space: its architecture's plans, with their bounds read from memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from kallsift.analysis.address_space.page_table import PageTable
from kallsift.analysis.address_space.region_checks import Bounded, against_page_table, bytes_of
from kallsift.arch.address_space import (
    DIRECT_END,
    DIRECT_START,
    IMAGE_END,
    IMAGE_START,
    PLACES,
    READ_ONLY_ALIAS,
    Area,
    AreaPlan,
    Bound,
    Rule,
)
from kallsift.arch.paging import WRITE
from kallsift.arch.registry import area_plans
from kallsift.errors import UnmappedError
from kallsift.kallsyms.evidence import Outcome
from kallsift.kernel.access.image_sections import address_of
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.kernel import Kernel

ALIAS_ALIGNMENT = 1 << 21
"""What read-only aliases of the image are aligned to."""

IMAGE_ROOM = 16 << 20
"""How far beyond its tables an image without symbols for its bounds can reach."""


@dataclass(frozen=True, eq=False)
class _Known:
    """What bounds can be made of.

    Attributes:
        kernel: whose variables are read.
        memory: its memory.
        places: those of `PLACES` that are known.
        values: of the variables that were asked for.
    """

    kernel: Kernel
    memory: VirtualMemory
    places: dict[str, int]
    values: dict[str, int | None] = field(default_factory=dict)

    def variable(self, name: str) -> int | None:
        """The value of a variable; None without a symbol of its name, or where it cannot be read."""
        if name not in self.values:
            place = address_of(self.kernel, name)
            try:
                self.values[name] = None if place is None else self.memory.value(place)
            except UnmappedError:
                self.values[name] = None
        return self.values[name]

    def value(self, bound: Bound) -> int | None:
        """The address that a bound is; None where something that it is made of is not known."""
        total = bound.plus
        if bound.base:
            base = self.places.get(bound.base) if bound.base in PLACES else self.variable(bound.base)
            if base is None:
                return None
            total += base
        if bound.size:
            size = self.variable(bound.size)
            if size is None:
                return None
            total += size
        return total // bound.align * bound.align

    def area(self, area: Area, plan: AreaPlan) -> Bounded | None:
        """An area with its bounds; None where one is not known, or they make no sense."""
        start, end = self.value(area.start), self.value(area.end)
        if area.start.base not in ("", *PLACES) and start == area.start.plus:
            return None  # a variable that was never set
        if start is None or end is None or not 0 <= start < end <= self.memory.words.mask + 1:
            return None
        names = dict.fromkeys(
            bound.base or ", ".join((plan.architecture, *plan.paging)) for bound in (area.start, area.end)
        )
        basis = " to ".join(names)
        return Bounded(area.name, start, end, basis, area.rule)


def planned(
    kernel: Kernel, memory: VirtualMemory, table: PageTable | None, image: tuple[int, int] | None
) -> tuple[Bounded, ...]:
    """The areas of the plan that the page table contradicts least, and leaves least unexplained.

    Args:
        kernel: a running kernel.
        memory: its memory.
        table: its page table; None where it has none.
        image: the bounds of its image; None if unknown.
    """
    best: tuple[tuple[int, ...], list[Bounded]] | None = None
    known = _Known(kernel, memory, _places(kernel, table, image))
    for plan in area_plans(kernel.architecture, kernel.paging):
        areas = [found for area in plan.areas if (found := known.area(area, plan)) is not None]
        if DIRECT_START in known.places and not any(area.rule is Rule.DIRECT for area in areas):
            # what a variable says of it is not there, or makes no sense
            start, end = known.places[DIRECT_START], known.places[DIRECT_END]
            areas.append(Bounded("direct map", start, end, f"{DIRECT_START} to {DIRECT_END}", Rule.DIRECT))
        areas = [_with_origin(known, area, plan) for area in areas]
        if table is None:
            return tuple(areas)
        rank = _rank(areas, table)
        if best is None or rank < best[0]:
            best = rank, areas
    return tuple(best[1]) if best else ()


def _rank(areas: list[Bounded], table: PageTable) -> tuple[int, ...]:
    """How badly a plan's areas fit a page table, the least first.

    By those that it contradicts; those that it proves; how much of what it maps is in none; and how far from its
    beginning the first page of vmalloc is, which is handed out from there on.
    """
    checks = [against_page_table(area, table) for area in areas]
    failed = sum(check.outcome is Outcome.FAILED for check in checks)
    proved = sum(
        check.outcome is Outcome.PASSED and area.rule is not Rule.NONE
        for area, check in zip(areas, checks, strict=True)
    )
    inside = [table.ranges.inside(area.start, area.end) for area in areas]
    unused = sum(
        int(ranges.starts[0]) - area.start if len(ranges) else area.end - area.start
        for area, ranges in zip(areas, inside, strict=True)
        if area.name == "vmalloc"
    )
    return failed, -proved, -sum(bytes_of(ranges) for ranges in inside), unused


def _places(kernel: Kernel, table: PageTable | None, image: tuple[int, int] | None) -> dict[str, int]:
    """Those places that are known."""
    places = {} if image is None else {IMAGE_START: image[0], IMAGE_END: image[1]}
    if table is None or table.offset is None:
        return places
    direct = table.direct
    places[DIRECT_START] = int(direct.starts[0])
    places[DIRECT_END] = int(direct.starts[-1]) + int(direct.sizes[-1])
    low, high = (address - kernel.distance & table.mask for address in image or _around_tables(kernel, table.mask))
    again = table.ranges.inside(places[DIRECT_END], table.mask + 1)
    fixed = (again.grants & WRITE == 0) & (again.starts % np.uint64(ALIAS_ALIGNMENT) == 0)
    fixed &= again.physical - np.uint64(low) < np.uint64(max(0, high - low))
    if fixed.any():
        places[READ_ONLY_ALIAS] = int(again.starts[fixed][0])
    return places


def _around_tables(kernel: Kernel, mask: int) -> tuple[int, int]:
    """Between which addresses an image without symbols for its bounds can be."""
    low, high = kernel.tables[0].virtual, kernel.tables[-1].virtual + kernel.tables[-1].size
    return max(kernel.distance, low - IMAGE_ROOM), min(high + IMAGE_ROOM, mask)


def _with_origin(known: _Known, area: Bounded, plan: AreaPlan) -> Bounded:
    """The direct map with the distance that the kernel's own variables give it."""
    if area.rule is not Rule.DIRECT or plan.origin is None:
        return area
    virtual, physical = (known.value(bound) for bound in plan.origin)
    if virtual is None or physical is None:
        return area
    return replace(area, claim=virtual - physical & (1 << 64) - 1)
