"""AVML dumps as microsoft/avml writes them: blocks of 16 MiB at most, each behind its header and packed by Snappy."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import cramjam

BLOCK = 16 << 20


def avml(ranges: Iterable[tuple[int, bytes]], *, zeros: bool = False) -> bytes:
    """Ranges (first address, content) as an AVML dump; blocks of zeros are left out unless ``zeros``."""
    return b"".join(blocks(ranges, zeros=zeros))


def blocks(ranges: Iterable[tuple[int, bytes]], *, zeros: bool = False) -> Iterator[bytes]:
    """The same, block by block."""
    for start, content in ranges:
        for offset in range(0, len(content), BLOCK):
            part = content[offset : offset + BLOCK]
            if not zeros and not part.strip(b"\0"):
                continue
            packed = bytes(cramjam.snappy.compress(part))
            low = start + offset
            header = struct.pack("<4sIQQQ", b"AVML", 2, low, low + len(part) - 1, 0)
            yield header + packed + struct.pack("<Q", len(packed))
