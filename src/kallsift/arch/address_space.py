"""Describe the areas of a kernel's address space besides its image; the data is in each architecture's module.

Bounds of areas depend on the paging mode, KASLR, configurations and releases. So a bound is a constant plus, where
needed, the value of one of the kernel's variables or an address that only the running kernel's page table tells. Where
releases differ, an architecture has several plans, and the page table decides among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

DIRECT_START = "start of mapped memory"
DIRECT_END = "end of mapped memory"
IMAGE_START = "start of the image"
IMAGE_END = "end of the image"
READ_ONLY_ALIAS = "read-only alias of the image"
"""First address above the direct map at which a page of the image is mapped once more, read-only."""

PLACES = frozenset({DIRECT_START, DIRECT_END, IMAGE_START, IMAGE_END, READ_ONLY_ALIAS})
"""Addresses that no constant and no variable tells, but the page table and the symbols do."""


@dataclass(frozen=True)
class Bound:
    """An address: a base plus a constant.

    Attributes:
        base: variable of the kernel that holds the base, or one of `PLACES`; empty for a base of 0.
        plus: number to add, modulo the size of the address space.
        size: second variable whose value is added too, for areas whose size is in a variable; empty for none.
        align: the result is rounded down to a multiple of this number.
    """

    base: str = ""
    plus: int = 0
    size: str = ""
    align: int = 1


class AreaRule(Enum):
    """The memory that a page table must map in an area."""

    NONE = "anything"
    DIRECT = "physical memory in order, at one distance"
    IMAGE = "the kernel's image alone, at its distance"
    PAGES = "the array of struct page, as far as the direct map has memory"


@dataclass(frozen=True)
class Area:
    """One part of a kernel's address space.

    Attributes:
        name: name in the kernel's documentation.
        start: its first address.
        end: the address behind it; 2^64 or 2^32 at the end of the address space.
        rule: memory that must be mapped in it.
    """

    name: str
    start: Bound
    end: Bound
    rule: AreaRule = AreaRule.NONE


@dataclass(frozen=True)
class AreaPlan:
    """One way to divide an address space.

    Attributes:
        architecture: name as in `PagingMode`.
        paging: names of the paging modes with this plan; empty for all.
        areas: the areas; a kernel that lacks one also lacks the variables of its bounds.
        origin: a virtual address of the direct map, and the physical address that it stands for; None where only the
            page table tells them.
    """

    architecture: str
    paging: tuple[str, ...]
    areas: tuple[Area, ...]
    origin: tuple[Bound, Bound] | None = None


def at(address: int) -> Bound:
    """Return a bound at a constant address."""
    return Bound(plus=address)
