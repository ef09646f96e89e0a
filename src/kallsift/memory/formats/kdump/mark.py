"""Tell whether a file can be a kdump, by its first bytes alone; the mark may be damaged or lost."""

from __future__ import annotations

from operator import eq
from typing import Literal

KDUMP, DISKDUMP = b"KDUMP   ", b"DISKDUMP"
"""Marks; an old diskdump has the same headers but another sub header, of registers."""
MIN_MARK = 5
"""Bytes of a mark that are left where it is damaged."""
SIZE_OFFSETS, PAGE_SIZES = (416, 428), frozenset(1 << shift for shift in range(9, 19))
"""Where a header has the size of a page, on 32 and 64 bits, and which sizes there are."""
BYTE_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")


def has_mark(header: bytes) -> bool:
    """Tell whether a file begins with most bytes of a mark."""
    return any(sum(map(eq, header, mark)) >= MIN_MARK for mark in (KDUMP, DISKDUMP))


def may_be_kdump(header: bytes) -> bool:
    """Tell whether it is worth while to ask on: a file has the mark, or the size of a page, or its header is lost."""
    sizes = {int.from_bytes(header[offset : offset + 4], order) for offset in SIZE_OFFSETS for order in BYTE_ORDERS}
    return has_mark(header) or not any(header) or not sizes.isdisjoint(PAGE_SIZES)
