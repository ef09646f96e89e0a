"""Tell whether a file can be a kdump, by its first bytes alone; the mark may be damaged or lost."""

from __future__ import annotations

from operator import eq
from typing import Literal

KDUMP, DISKDUMP = b"KDUMP   ", b"DISKDUMP"
"""Marks; an old diskdump has the same headers but another sub header, with registers."""
MIN_MARK = 5
"""Lowest number of intact bytes of a damaged mark."""
SIZE_OFFSETS, PAGE_SIZES = (416, 428), frozenset(1 << shift for shift in range(9, 19))
"""Offsets of the page size in the header, on 32 and 64 bits, and possible page sizes."""
BYTE_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")


def has_mark(header: bytes) -> bool:
    """Tell whether a file begins with most bytes of a mark."""
    return any(sum(map(eq, header, mark)) >= MIN_MARK for mark in (KDUMP, DISKDUMP))


def may_be_kdump(header: bytes) -> bool:
    """Tell whether a file may be a kdump, so that further tests are worthwhile.

    It has the mark, or a possible page size at its offset, or its header is lost.
    """
    sizes = {int.from_bytes(header[offset : offset + 4], order) for offset in SIZE_OFFSETS for order in BYTE_ORDERS}
    return has_mark(header) or not any(header) or not sizes.isdisjoint(PAGE_SIZES)
