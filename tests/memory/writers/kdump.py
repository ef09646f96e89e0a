"""Writers of kdump files and of flattened streams, by `struct`, from makedumpfile's and QEMU's published structures."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import cramjam
import lzallright
from backports import zstd

from tests.memory.builders import ByteOrder

SUB_HEADERS = {
    "64": "QIIQQQQQQQQQQQ",
    "32": "IIIIIQIQIQIQQQ",
    "32 aligned": "IIIIIxxxxQIxxxxQIxxxxQIxxxxQQQ",
}
"""phys_base, dump_level, split, first and end page, three times offset and size, first, end and highest page."""
TIMES = {"64": "6xQQ", "32": "2xII", "32 aligned": "2xII"}

PACKED: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "none": (0, lambda page: page),
    "zlib": (1, zlib.compress),
    "lzo": (2, lambda page: bytes(lzallright.LZOCompressor().compress(page))),
    "snappy": (4, lambda page: bytes(cramjam.snappy.compress_raw(page))),
    "zstd": (32, zstd.compress),
}
"""The flag of a packed page, and what packs it."""


@dataclass
class Kdump:
    """What can vary in a file."""

    layout: str = "64"
    order: ByteOrder = "<"
    version: int = 6
    page: int = 4096
    packing: str = "zlib"
    notes: bytes = b""
    vmcoreinfo: bytes = b""
    split: tuple[int, int] | None = None
    highest: int | None = None
    status: int = 0
    mark: bytes = b"KDUMP   "
    one_bitmap: bool = False


def kdump(pages: Mapping[int, bytes], how: Kdump | None = None) -> bytes:
    """A file of pages, by their numbers; those of the same content stand in it once, as blank ones do."""
    how = how or Kdump()
    highest = max(pages, default=0) + 1 if how.highest is None else how.highest
    size = struct.calcsize("=" + SUB_HEADERS[how.layout])
    notes_start, vmcoreinfo_start = how.page + size, how.page + size + len(how.notes)
    sub_blocks = -(-(size + len(how.notes) + len(how.vmcoreinfo)) // how.page)
    first, end = how.split or (0, highest)
    sub = struct.pack(
        how.order + SUB_HEADERS[how.layout],
        0,
        31,
        int(how.split is not None),
        min(first, 0xFFFFFFFF),
        min(end, 0xFFFFFFFF),
        vmcoreinfo_start if how.vmcoreinfo else 0,
        len(how.vmcoreinfo),
        notes_start if how.notes else 0,
        len(how.notes),
        0,
        0,
        first,
        end,
        highest,
    )
    bits = bytearray(-(-highest // (8 * how.page)) * how.page)
    for number in pages:
        bits[number // 8] |= 1 << number % 8
    bitmaps = bytes(bits) if how.one_bitmap else bytes(b"\xff" * len(bits)) + bits
    header = how.mark + struct.pack(how.order + "i", how.version) + b"Linux".ljust(390, b"\0")
    header += struct.pack(how.order + TIMES[how.layout], 1, 2)
    fields = (how.status, how.page, sub_blocks, len(bitmaps) // how.page, min(highest, 0xFFFFFFFF), 0, 0, 0, 0, 2)
    header += struct.pack(how.order + "10I", *fields)
    before = header.ljust(how.page, b"\0") + (sub + how.notes + how.vmcoreinfo).ljust(sub_blocks * how.page, b"\0")
    before += bitmaps
    chosen = [pages[number] for number in sorted(pages) if first <= number < end]
    position = len(before) + 24 * len(chosen)
    flag, pack = PACKED[how.packing]
    table, body = b"", b""
    places: dict[bytes, bytes] = {}
    for page in chosen:
        if page not in places:
            packed = pack(page)
            stored, flags = (packed, flag) if len(packed) < how.page else (page, 0)
            places[page] = struct.pack(how.order + "QIIQ", position + len(body), len(stored), flags, 0)
            body += stored
        table += places[page]
    return before + table + body


def flattened(pieces: Iterable[tuple[int, bytes]], end: bool = True) -> bytes:
    """A flattened stream of pieces with their offsets."""
    content = struct.pack(">16sqq", b"makedumpfile", 1, 1).ljust(4096, b"\0")
    for offset, data in pieces:
        content += struct.pack(">qq", offset, len(data)) + data
    return content + (struct.pack(">qq", -1, -1) if end else b"")


def cut(content: bytes, size: int) -> list[tuple[int, bytes]]:
    """A file as pieces of one size."""
    return [(start, content[start : start + size]) for start in range(0, len(content), size)]
