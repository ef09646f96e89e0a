"""Whether a page table agrees with an area of the address space: what it maps there is what the area is for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kallsift.kallsyms.evidence import Check, Outcome
from kallsift.machine.areas import Rule
from kallsift.machine.mapped_ranges import MappedRanges

PAGE_STRUCTURE = 64
"""Bytes of ``struct page`` on machines of 64 bits."""

MAX_SAMPLES = 1 << 12
"""Ends of ranges of the direct map that are looked up in the array of pages at most."""

MIB = 1 << 20


@dataclass(frozen=True)
class Bounded:
    """An area with its bounds.

    Attributes:
        name: what it is for.
        start: its first address.
        end: the address behind it.
        basis: what gave its bounds.
        rule: what must be mapped in it.
        claim: of the direct map, the distance that the kernel's variables give; None where they give none.
    """

    name: str
    start: int
    end: int
    basis: str
    rule: Rule = Rule.NONE
    claim: int | None = None

    @property
    def direct(self) -> bool:
        """Whether it is the direct map."""
        return self.rule is Rule.DIRECT

    def claiming(self, offset: int) -> Bounded:
        """The same with the distance that the kernel's variables give."""
        return replace(self, claim=offset)


def bytes_of(ranges: MappedRanges) -> int:
    """Bytes in all ranges."""
    return int(ranges.sizes.sum())


def against_page_table(area: Bounded, ranges: MappedRanges | None, offset: int | None, distance: int) -> Check:
    """Whether a page table agrees with an area.

    Args:
        area: a part of the address space.
        ranges: all that the page table maps; None where there is none.
        offset: how far the direct map lies above physical addresses; None if there is none.
        distance: the same of the image.
    """
    if ranges is None:
        return _unseen("there is none to ask")
    inside = ranges.inside(area.start, area.end)
    mapped = bytes_of(inside)
    if not mapped:
        return _unseen("nothing is mapped in it")
    size = f"{mapped / MIB:,.1f} MiB are mapped in it"
    if area.rule is Rule.DIRECT:
        return _direct(area, inside, offset, mapped)
    if area.rule is Rule.IMAGE:
        elsewhere = mapped - bytes_of(inside.chosen(inside.offsets == np.uint64(distance)))
        return _check(not elsewhere, f"{size}, all of it the image", f"{elsewhere:,} bytes in it are not the image")
    if area.rule is Rule.PAGES:
        return _pages(area, ranges, offset)
    crossing = _spans(ranges, area.start) or _spans(ranges, area.end)
    return _check(not crossing, f"{size}, and nothing crosses its bounds", "a range that is mapped crosses its bounds")


def _unseen(why: str) -> Check:
    return Check("page table", Outcome.ABSENT, why)


def _check(holds: bool, right: str, wrong: str) -> Check:
    return Check.that("page table", holds, right if holds else wrong)


def _spans(ranges: MappedRanges, address: int) -> bool:
    """Whether one range holds an address and the one before it."""
    if not 0 < address < 1 << 64:
        return False
    number = int(np.searchsorted(ranges.starts, np.uint64(address - 1), side="right")) - 1
    return number >= 0 and int(ranges.starts[number]) + int(ranges.sizes[number]) > address


def _direct(area: Bounded, inside: MappedRanges, offset: int | None, mapped: int) -> Check:
    """Whether it maps every byte at one distance, and the one that the kernel itself reckons with."""
    if offset is None:
        return _unseen("most of what it maps is not in this memory")
    mask = np.uint64(0xFFFF_FFFF if area.end <= 1 << 32 else (1 << 64) - 1)
    right = bytes_of(inside.chosen((inside.offsets & mask) == np.uint64(offset) & mask))
    if area.claim is not None and area.claim != offset:
        return _check(False, "", f"the kernel's own variables put it at a distance of {area.claim:#x}, not {offset:#x}")
    wrong = f"{mapped - right:,} bytes in it are mapped at other distances"
    return _check(right == mapped, f"maps {mapped / MIB:,.1f} MiB, each byte {offset:#x} above its place", wrong)


def _pages(area: Bounded, ranges: MappedRanges, offset: int | None) -> Check:
    """Whether the structure of each page that the direct map maps is there, as far as a sample of pages tells."""
    if offset is None:
        return _unseen("there is no direct map to compare it with")
    direct = ranges.chosen(ranges.offsets == np.uint64(offset))
    ends = np.concatenate((direct.starts, direct.starts + (direct.sizes - np.uint64(1))))
    page = int(direct.page_bits.min())
    numbers = (ends[:: max(1, len(ends) // MAX_SAMPLES)] - np.uint64(int(direct.starts[0]))) >> np.uint64(page)
    places = np.uint64(area.start) + numbers * np.uint64(PAGE_STRUCTURE)
    owner = np.searchsorted(ranges.starts, places, side="right") - 1
    there = (owner >= 0) & (places - ranges.starts[owner] < ranges.sizes[owner])
    there &= places < np.uint64(area.end - 1)
    wanted = f"{len(places):,} pages of the direct map"
    missing = int(np.count_nonzero(~there))
    return _check(not missing, f"holds the structures of {wanted}", f"lacks the structures of {missing:,} of {wanted}")
