"""Check whether a page table agrees with an area of the address space.

It agrees if what it maps in the area is what the area is for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kallsift.analysis.address_space.page_table import PageTable
from kallsift.arch.address_space import AreaRule
from kallsift.arch.page_table_ranges import MappedRanges
from kallsift.arch.paging import Entries
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kernel.access.virtual_memory import VirtualMemory

PAGE_STRUCTURE = 64
"""Size of ``struct page`` on 64-bit machines, in bytes."""

LINKS = 8
"""Offset in ``struct page`` of the links of the list that a page is in, in bytes."""

LEAST_LINKED = 0.05
"""Lowest share of the sampled pages whose links must lead to a page.

The links lead to a neighbour in a list, or, for a page in no list, to the page itself.
"""

SAMPLES = 1 << 11
"""Number of pages that are looked up in the array of pages.

That many are spread over the direct map; the first and last pages of up to that many ranges are added.
"""

MIB = 1 << 20

MOST_SPARE = 8 * MIB
"""Bytes that the array of pages may have beyond twice the need of its pages.

The array is made in sections, so that the last ones can be mostly empty.
"""


@dataclass(frozen=True)
class Bounded:
    """An area with its bounds.

    Attributes:
        name: its purpose.
        start: its first address.
        end: the address behind it.
        basis: the source of its bounds.
        rule: the kind of memory that must be mapped in it.
        claim: for a direct map, the distance that the kernel's variables give; None if they give none.
    """

    name: str
    start: int
    end: int
    basis: str
    rule: AreaRule = AreaRule.NONE
    claim: int | None = None

    @property
    def direct(self) -> bool:
        """True for the direct map."""
        return self.rule is AreaRule.DIRECT


def bytes_of(ranges: MappedRanges) -> int:
    """Return the total size of some ranges in bytes."""
    return int(ranges.sizes.sum())


def against_page_table(area: Bounded, table: PageTable | None) -> Check:
    """Check whether a page table agrees with an area."""
    if table is None:
        return _unseen("this kernel's page table is unknown")
    inside = table.ranges.inside(area.start, area.end)
    mapped = bytes_of(inside)
    if not mapped:
        return _unseen("nothing is mapped in it")
    size = f"{mapped / MIB:,.1f} MiB are mapped in it"
    if area.rule is AreaRule.DIRECT:
        return _direct(area, inside, table, mapped)
    if area.rule is AreaRule.IMAGE:
        elsewhere = mapped - bytes_of(table.of_image(inside))
        return _check(
            not elsewhere, f"{size}, all of them the image", f"{elsewhere:,} mapped bytes in it are not the image"
        )
    if area.rule is AreaRule.PAGES:
        return _pages(area, table)
    crossing = _spans(table.ranges, area.start) or _spans(table.ranges, area.end)
    return _check(not crossing, f"{size}, and no mapped range crosses its bounds", "a mapped range crosses its bounds")


def image_against_page_table(start: int, end: int, table: PageTable | None) -> Check:
    """Check whether the mapped bytes of a part of the image lie where the image does."""
    if table is None:
        return _unseen("this kernel's page table is unknown")
    inside = table.ranges.inside(start, end)
    mapped, agreeing = bytes_of(inside), bytes_of(table.of_image(inside))
    if not mapped:
        return _unseen("it is no longer mapped")
    return _check(
        agreeing == mapped,
        "all its mapped bytes are where the image has them",
        f"{mapped - agreeing:,} mapped bytes of it are not where the image has them",
    )


def _unseen(why: str) -> Check:
    return Check(CheckId.PAGE_TABLE, Outcome.ABSENT, why)


def _check(holds: bool, right: str, wrong: str) -> Check:
    return Check.that(CheckId.PAGE_TABLE, holds, right if holds else wrong)


def _spans(ranges: MappedRanges, address: int) -> bool:
    """Tell whether one range contains both an address and the one before it."""
    if not 0 < address < 1 << 64:
        return False
    number = int(np.searchsorted(ranges.starts, np.uint64(address - 1), side="right")) - 1
    return number >= 0 and int(ranges.starts[number]) + int(ranges.sizes[number]) > address


def _direct(area: Bounded, inside: MappedRanges, table: PageTable, mapped: int) -> Check:
    """Check whether the direct map maps every byte at one distance.

    The distance must also be the one that the kernel's own variables give, if they give one.
    """
    if table.offset is None:
        return _unseen("most of the memory that it maps is not in the source")
    if area.claim is not None and area.claim != table.offset:
        wrong = f"the kernel's variables give the distance {area.claim:#x}, the page table {table.offset:#x}"
        return _check(False, "", wrong)
    right = bytes_of(inside.chosen(inside.offsets == np.uint64(table.offset)))
    wrong = f"{mapped - right:,} bytes in it are mapped at other distances"
    right_text = f"maps {mapped / MIB:,.1f} MiB, each byte {table.offset:#x} above its physical address"
    return _check(right == mapped, right_text, wrong)


def _pages(area: Bounded, table: PageTable) -> Check:
    """Check whether the array of pages has the ``struct page`` of each page.

    A sample of the pages that the direct map maps is looked up.
    """
    if table.offset is None:
        return _unseen("there is no direct map to compare it with")
    direct, ranges = table.direct, table.ranges
    sample = _sample(direct)
    lacks = []
    # pages are numbered from the first page of RAM, or from physical address 0
    for first in (direct.starts[0], np.uint64(table.offset)):
        numbers = (sample - first) >> np.uint64(table.page_bits)
        places = np.uint64(area.start) + numbers * np.uint64(PAGE_STRUCTURE)
        owner = np.searchsorted(ranges.starts, places, side="right") - 1
        there = (owner >= 0) & (places - ranges.starts[owner] < ranges.sizes[owner])
        there &= places < np.uint64(area.end - 1)
        lacks.append(int(np.count_nonzero(~there)))
    missing = min(lacks)
    wanted = f"{len(sample):,} pages of the direct map"
    return _check(not missing, f"holds the structures of {wanted}", f"lacks the structures of {missing:,} of {wanted}")


def holds_pages(area: Bounded, table: PageTable, memory: VirtualMemory) -> bool:
    """Tell whether an area that no variable names is the array of pages.

    Three facts are required. All that is mapped in the area is memory, not devices. It is at most `MOST_SPARE` larger
    than twice the need of the pages. The lists that pages are in lead from page to page: the links stand behind the
    first word, and the links of a page in no list lead to the page itself.
    """
    if table.offset is None or memory.words.size == 4 or _pages(area, table).outcome is not Outcome.PASSED:
        return False
    inside = table.ranges.inside(area.start, area.end)
    wanted = (bytes_of(table.direct) >> table.page_bits) * PAGE_STRUCTURE
    if not bytes_of(inside) == int(table.held(inside).sum()) <= 2 * wanted + MOST_SPARE:
        return False
    numbers = (_sample(table.direct) - table.direct.starts[0]) >> np.uint64(table.page_bits)
    links, _ = memory.values(np.uint64(area.start) + numbers * np.uint64(PAGE_STRUCTURE) + np.uint64(LINKS))
    distance = links - np.uint64(area.start)
    to_pages = (distance < np.uint64(area.end - area.start)) & (distance % np.uint64(PAGE_STRUCTURE) == LINKS)
    return int(np.count_nonzero(to_pages)) >= LEAST_LINKED * len(links)


def _sample(ranges: MappedRanges) -> Entries:
    """Return addresses spread over some ranges, and the ends of ranges among them."""
    behind = np.cumsum(ranges.sizes)
    steps = np.linspace(0, float(behind[-1]) - 1, SAMPLES).astype(np.uint64)
    owner = np.minimum(np.searchsorted(behind, steps, side="right"), len(ranges) - 1)
    everywhere = ranges.starts[owner] + (steps - (behind[owner] - ranges.sizes[owner]))
    some = slice(None, None, -(-len(ranges) // SAMPLES))
    ends = ranges.starts[some] + (ranges.sizes[some] - np.uint64(1))
    return np.concatenate((everywhere, ranges.starts[some], ends))
