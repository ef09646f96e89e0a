"""Which parts a kernel's address space has beside its image, as data: each architecture's module states its own.

Bounds move: with the paging mode, with KASLR, with configurations and releases. So a bound is what a variable of the
kernel holds, or a place that only the running kernel tells, or neither, plus a constant; and where releases differ an
architecture has several plans, of which the page table chooses one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

DIRECT_START = "start of mapped memory"
DIRECT_END = "end of mapped memory"
IMAGE_START = "start of the image"
IMAGE_END = "end of the image"
READ_ONLY_ALIAS = "read-only alias of the image"
"""The first address above the direct map at which a page of the image is mapped once more, and cannot be written."""

PLACES = frozenset({DIRECT_START, DIRECT_END, IMAGE_START, IMAGE_END, READ_ONLY_ALIAS})
"""Places in a layout that no constant and no variable tells: the page table and the symbols do."""


@dataclass(frozen=True)
class Bound:
    """An address.

    Attributes:
        base: a variable of the kernel's that holds it, or one of `PLACES`; empty for a mere number.
        plus: what is added to that, modulo the size of the address space.
        size: a second variable whose value is added too, for areas whose size is in one; empty for none.
        align: the result is cut to a multiple of that.
    """

    base: str = ""
    plus: int = 0
    size: str = ""
    align: int = 1


class Rule(Enum):
    """What a page table must map in an area."""

    NONE = "anything"
    DIRECT = "physical memory in order, at one distance"
    IMAGE = "the kernel's image alone, at its distance"
    PAGES = "the array of struct page, as far as the direct map has memory"


@dataclass(frozen=True)
class Area:
    """A part of a kernel's address space.

    Attributes:
        name: as the kernel's documentation calls it.
        start: its first address.
        end: the address behind it; 2^64 or 2^32 at the end of the address space.
        rule: what must be mapped in it.
    """

    name: str
    start: Bound
    end: Bound
    rule: Rule = Rule.NONE


@dataclass(frozen=True)
class AreaPlan:
    """One way to divide an address space.

    Attributes:
        architecture: as `PagingMode` names it.
        paging: names of the modes that it is for; empty for all.
        areas: some can be left out by a kernel, which then has not the variables of their bounds.
        origin: what a virtual address of the direct map is, and the physical one that it stands for; None where
            the page table alone tells.
    """

    architecture: str
    paging: tuple[str, ...]
    areas: tuple[Area, ...]
    origin: tuple[Bound, Bound] | None = None


def at(address: int) -> Bound:
    """A bound that never moves."""
    return Bound(plus=address)
