"""Writes VMware's saved states."""

from __future__ import annotations

import struct
from collections.abc import Iterable

Region = tuple[int, int, int]
"""First page in the file, first page in memory, number of pages."""


def tag(name: str, value: bytes, *indexes: int) -> bytes:
    """One value of up to 61 bytes."""
    head = struct.pack("<BB", len(indexes) << 6 | len(value), len(name)) + name.encode()
    return head + b"".join(struct.pack("<I", index) for index in indexes) + value


def block(name: str, data: bytes, *indexes: int, padding: int = 3, packed: bool = False, old: bool = False) -> bytes:
    """A value of any size."""
    head = struct.pack("<BB", len(indexes) << 6 | (62 if packed else 63), len(name)) + name.encode()
    head += b"".join(struct.pack("<I", index) for index in indexes)
    return head + struct.pack("<IIH" if old else "<QQH", len(data), len(data), padding) + bytes(padding) + data


def regions(parts: Iterable[Region]) -> bytes:
    """The tags that place parts of the RAM."""
    parts = list(parts)
    out = tag("align_mask", struct.pack("<I", 0xFFFF)) + tag("regionsCount", struct.pack("<I", len(parts)))
    for number, values in enumerate(parts):
        for name, value in zip(("regionPageNum", "regionPPN", "regionSize"), values, strict=True):
            out += tag(name, struct.pack("<I", value), number)
    return out


def state(groups: dict[str, bytes], magic: int = 0xBED2BED2) -> bytes:
    """A .vmss or .vmsn file of groups of tags."""
    position = 12 + 80 * len(groups)
    table = body = b""
    for name, tags in groups.items():
        tags += b"\0\0"
        table += struct.pack("<64sQQ", name.encode(), position + len(body), len(tags))
        body += tags
    return struct.pack("<III", magic, 8, len(groups)) + table + body
