"""AVML dumps as microsoft/avml writes them: blocks of 16 MiB at most, each behind its header, packed by Snappy or not.

What is not packed has LiME's headers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import cramjam

BLOCK = 16 << 20


def avml(ranges: Iterable[tuple[int, bytes]], *, zeros: bool = False) -> bytes:
    """Ranges (first address, content) as an AVML dump; blocks of zeros are left out unless ``zeros``."""
    return b"".join(blocks(ranges, zeros=zeros))


def blocks(
    ranges: Iterable[tuple[int, bytes]], *, zeros: bool = False, packed: bool = True, size: int = BLOCK
) -> Iterator[bytes]:
    """The same, block by block of ``size`` bytes; in LiME's format unless ``packed``."""
    for start, content in ranges:
        for offset in range(0, len(content), size):
            part = content[offset : offset + size]
            if not zeros and not part.strip(b"\0"):
                continue
            low = start + offset
            magic, version = (b"AVML", 2) if packed else (b"EMiL", 1)
            yield struct.pack("<4sIQQQ", magic, version, low, low + len(part) - 1, 0)
            data = bytes(cramjam.snappy.compress(part)) if packed else part
            yield data
            if packed:
                yield struct.pack("<Q", len(data))
