"""Pages for dumps that leave some out, and the runs that they make."""

from __future__ import annotations

import struct
from itertools import groupby


def page(number: int, size: int = 4096) -> bytes:
    """Make a page that can be packed, and differs from others."""
    return struct.pack("<QQ", number, ~number & 0xFFFF) * (size // 16)


def some_pages(size: int = 4096) -> dict[int, bytes]:
    """Make two runs, with blank pages and one that does not shrink."""
    noise = b"".join(struct.pack("<I", number * 2654435761 % 2**32) for number in range(size // 4))
    numbers = [*range(3, 43), *range(100, 137)]
    return {number: page(number, size) for number in numbers} | {20: bytes(size), 21: bytes(size), 110: noise}


def expected(pages: dict[int, bytes], size: int = 4096) -> dict[int, bytes]:
    """Join pages to runs, by address."""
    runs: dict[int, bytes] = {}
    for _, group in groupby(enumerate(sorted(pages)), key=lambda each: each[1] - each[0]):
        numbers = [number for _, number in group]
        runs[numbers[0] * size] = b"".join(pages[number] for number in numbers)
    return runs
