"""Find the areas of a running kernel's address space by its architecture's plans.

The bounds of the planned areas are read from the kernel's variables.
"""

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
    AreaRule,
    Bound,
)
from kallsift.arch.paging import WRITE
from kallsift.arch.registry import area_plans
from kallsift.errors import UnmappedError
from kallsift.kallsyms.evidence import Outcome
from kallsift.kernel.access.image_sections import address_of
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.kernel import Kernel

ALIAS_ALIGNMENT = 1 << 21
"""Alignment, in bytes, of read-only aliases of the image."""

IMAGE_ROOM = 16 << 20
"""Greatest distance in bytes from the kallsyms tables to either end of the image.

It bounds images without symbols for their bounds.
"""


@dataclass(frozen=True, eq=False)
class _KnownBounds:
    """The values from which bounds are computed.

    Attributes:
        kernel: the kernel whose variables are read.
        memory: its memory.
        places: the addresses of those `PLACES` that are known.
        values: values of the variables that were asked for.
    """

    kernel: Kernel
    memory: VirtualMemory
    places: dict[str, int]
    values: dict[str, int | None] = field(default_factory=dict)

    def variable(self, name: str) -> int | None:
        """Return the value of a variable.

        None if no symbol has its name, or it cannot be read.
        """
        if name not in self.values:
            place = address_of(self.kernel, name)
            try:
                self.values[name] = None if place is None else self.memory.value(place)
            except UnmappedError:
                self.values[name] = None
        return self.values[name]

    def value(self, bound: Bound) -> int | None:
        """Return the address that a bound stands for; None if a part of it is unknown."""
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
        """Return an area with its bounds; None if one is unknown or they make no sense."""
        start, end = self.value(area.start), self.value(area.end)
        if area.start.base not in ("", *PLACES) and start == area.start.plus:
            return None  # the variable is 0: it was never set
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
    """Return the areas of the plan that fits the page table best.

    That is the plan that the page table contradicts least, and that leaves the fewest mapped bytes unexplained.

    Args:
        kernel: a running kernel.
        memory: its memory.
        table: its page table; None if it has none. The first plan is taken then.
        image: first address of its image and the address behind it; None if unknown.
    """
    best: tuple[tuple[int, ...], list[Bounded]] | None = None
    known = _KnownBounds(kernel, memory, _places(kernel, table, image))
    for plan in area_plans(kernel.architecture, kernel.paging):
        areas = [found for area in plan.areas if (found := known.area(area, plan)) is not None]
        if DIRECT_START in known.places and not any(area.rule is AreaRule.DIRECT for area in areas):
            # the variable of the plan is missing, or its value makes no sense
            start, end = known.places[DIRECT_START], known.places[DIRECT_END]
            areas.append(Bounded("direct map", start, end, f"{DIRECT_START} to {DIRECT_END}", AreaRule.DIRECT))
        areas = [_with_origin(known, area, plan) for area in areas]
        if table is None:
            return tuple(areas)
        rank = _rank(areas, table)
        if best is None or rank < best[0]:
            best = rank, areas
    return tuple(best[1]) if best else ()


def _rank(areas: list[Bounded], table: PageTable) -> tuple[int, ...]:
    """Return how badly a plan's areas fit a page table; the lowest rank fits best.

    Criteria, in this order: how many areas the table contradicts; how many it proves; how many mapped bytes lie in the
    areas; how far the first mapped page of vmalloc lies from its beginning, since the kernel hands out vmalloc from
    there.
    """
    checks = [against_page_table(area, table) for area in areas]
    failed = sum(check.outcome is Outcome.FAILED for check in checks)
    proved = sum(
        check.outcome is Outcome.PASSED and area.rule is not AreaRule.NONE
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
    """Return the addresses of those `PLACES` that are known."""
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
    """Return the widest bounds of an image that has no symbols for its bounds."""
    low, high = kernel.tables[0].virtual, kernel.tables[-1].virtual + kernel.tables[-1].size
    return max(kernel.distance, low - IMAGE_ROOM), min(high + IMAGE_ROOM, mask)


def _with_origin(known: _KnownBounds, area: Bounded, plan: AreaPlan) -> Bounded:
    """Return an area; a direct map gets the distance that the kernel's variables give."""
    if area.rule is not AreaRule.DIRECT or plan.origin is None:
        return area
    virtual, physical = (known.value(bound) for bound in plan.origin)
    if virtual is None or physical is None:
        return area
    return replace(area, claim=virtual - physical & (1 << 64) - 1)
