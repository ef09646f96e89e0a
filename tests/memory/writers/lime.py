"""What LiME writes without headers: ranges of System RAM one after the other (raw), or with zeros between (padded).

It cannot map pages of which a range has only a part, and writes zeros for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

PAGE = 4096
AT_ONCE = 1 << 24

Range = tuple[int, int]
"""First and last address."""

Read = Callable[[int, int], bytes]
"""Gives so many bytes from an address on."""


def raw(ranges: Iterable[Range], read: Read) -> Iterator[bytes]:
    """The ranges, in the order of their addresses."""
    for first, last in ranges:
        whole = (last + 1 - first) // PAGE * PAGE
        for offset in range(0, whole, AT_ONCE):
            yield read(first + offset, min(AT_ONCE, whole - offset))
        yield bytes(last + 1 - first - whole)


def padded(ranges: Iterable[Range], read: Read) -> Iterator[bytes]:
    """The same with zeros from address 0 on."""
    end = 0
    for first, last in ranges:
        yield bytes(first - end)
        yield from raw([(first, last)], read)
        end = last + 1
