"""Read the headers of diskdump and kdump files: the offsets of bitmaps, page descriptors, pages and notes.

The files are written as C structures, hence in the word size, alignment and byte order of the machine that wrote them.
Nothing in them tells these, so all combinations are tried, and the one whose fields make sense is taken.

Sources: makedumpfile, diskdump_mod.h and IMPLEMENTATION; QEMU, include/sysemu/dump.h; on 32-bit machines that align
64-bit words to 8 bytes, libkdumpfile, diskdump.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.memory.formats.elf_notes import ByteOrder
from kallsift.memory.formats.kdump.mark import DISKDUMP
from kallsift.memory.reassembled_file import Content

_FIELDS = (
    "status",
    "block_size",
    "sub_header_blocks",
    "bitmap_blocks",
    "max_page",  # the lower half of it
    "ram_blocks",
    "device_blocks",
    "written_blocks",
    "current_cpu",
    "cpus",
)
HEADER_OFFSETS = {64: 424, 32: 412}
"""Offset of the fields by word size in bits.

Before them stand mark, version, the six names of uname(), of 65 bytes each (blank from QEMU), and an aligned time of
two words.
"""


def _header(start: int) -> np.dtype[np.void]:
    return np.dtype(
        {
            "names": ["mark", "version", *_FIELDS],
            "formats": ["S8", "i4", *["u4"] * len(_FIELDS)],
            "offsets": [0, 8, *range(start, start + 4 * len(_FIELDS), 4)],
            "itemsize": start + 4 * len(_FIELDS),
        }
    )


HEADER = {bits: _header(start) for bits, start in HEADER_OFFSETS.items()}
"""Layout of the main header by word size in bits."""

_SUB_FIELDS = (
    # name, and width; "word" stands for a word of the machine
    ("phys_base", "word"),
    ("dump_level", "u4"),
    ("split", "u4"),
    ("first_page_low", "word"),
    ("end_page_low", "word"),
    ("vmcoreinfo", "u8"),
    ("vmcoreinfo_size", "word"),
    ("notes", "u8"),
    ("notes_size", "word"),
    ("erased", "u8"),
    ("erased_size", "word"),
    ("first_page", "u8"),
    ("end_page", "u8"),
    ("max_page", "u8"),
)


def _sub_header(word: str, aligned: bool) -> np.dtype[np.void]:
    return np.dtype([(name, word if width == "word" else width) for name, width in _SUB_FIELDS], align=aligned)


SUB_HEADERS = (
    (64, _sub_header("u8", True)),
    (32, _sub_header("u4", False)),  # i386
    (32, _sub_header("u4", True)),  # arm
)
"""Word size in bits, and layout of the sub header."""
SPLIT_SINCE, VMCOREINFO_SINCE, NOTES_SINCE, PAGES_SINCE = 2, 3, 4, 6
"""Versions of the format that added the fields from ``split``, ``vmcoreinfo``, ``notes`` and ``first_page`` on."""
LATEST = 6

DESCRIPTOR = np.dtype([("offset", "u8"), ("size", "u4"), ("flags", "u4"), ("page_flags", "u8")])
"""Descriptor of a page; there is one for each page in the file, in the order of page numbers."""

ORDERS: tuple[ByteOrder, ByteOrder] = ("<", ">")

INCOMPLETE = 0x8
"""Bit of the status: there was no room for all pages."""

SMALLEST_BLOCK, LARGEST_BLOCK = 1 << 9, 1 << 18
MOST_PAGES = 1 << 44
NOTE_BYTES_LIMIT = 1 << 24


@dataclass(frozen=True)
class KdumpHeader:
    """The contents of the headers.

    Attributes:
        mark: `KDUMP` or `DISKDUMP`.
        version: version of the format.
        bits: word size of the machine.
        byte_order: byte order of all words.
        block_size: size of a page in bytes.
        bitmap: offset of the bitmap of the pages that are in the file.
        bitmap_size: size of this bitmap in bytes.
        has_both: True if the bitmap of all RAM stands before it.
        descriptors: offset of the page descriptors.
        max_page: highest possible page number, plus one.
        first_page: first page of this part of a split dump; 0 if it is the whole.
        end_page: number behind the part's last page; `max_page` if it is the whole.
        split: True if this file is a part of a split dump.
        incomplete: True if the writer ran out of room.
        notes: offset and size of the ELF notes.
        vmcoreinfo: offset and size of the text.
    """

    mark: bytes
    version: int
    bits: int
    byte_order: ByteOrder
    block_size: int
    bitmap: int
    bitmap_size: int
    has_both: bool
    descriptors: int
    max_page: int
    first_page: int
    end_page: int
    split: bool
    incomplete: bool
    notes: tuple[int, int]
    vmcoreinfo: tuple[int, int]


def read_header(content: Content) -> KdumpHeader | None:
    """Return the headers of a file.

    The result is None if they make no sense in any word size and byte order.
    """
    return next(_readings(content), None)


def main_header(content: Content) -> KdumpHeader | None:
    """Return the contents of the main header alone; None if it makes no sense."""
    for order in ORDERS:
        for bits, layout in HEADER.items():
            head = record_at(content, 0, layout.newbyteorder(order))
            if head is not None and _sensible(head, len(content)):
                return _described(head, None, bits, order)
    return None


def _readings(content: Content) -> Iterator[KdumpHeader]:
    """Yield the ways to read the headers that make sense, the likeliest first."""
    for order in ORDERS:
        for bits, layout in HEADER.items():
            head = record_at(content, 0, layout.newbyteorder(order))
            if head is None or not _sensible(head, len(content)):
                continue
            if head["mark"] == DISKDUMP or head["version"] < 1:
                yield _described(head, None, bits, order)
                continue
            # the time in the main header need not have the width of a word
            for width, sub_layout in sorted(SUB_HEADERS, key=lambda each: each[0] != bits):
                sub = record_at(content, int(head["block_size"]), sub_layout.newbyteorder(order))
                if sub is not None and _agrees(head, sub, len(content)):
                    yield _described(head, sub, width, order)


def record_at(content: Content, offset: int, layout: np.dtype[np.void]) -> np.void | None:
    """Return one structure of the file; None if the file ends before its end."""
    data: NDArray[np.uint8] = content[offset : offset + layout.itemsize]
    if len(data) < layout.itemsize:
        return None
    record: np.void = np.ascontiguousarray(data).view(layout)[0]
    return record


def _sensible(head: np.void, size: int) -> bool:
    block = int(head["block_size"])
    if not SMALLEST_BLOCK <= block <= LARGEST_BLOCK or block & (block - 1) or not 0 <= head["version"] <= LATEST + 2:
        return False
    bitmap_blocks = int(head["bitmap_blocks"])
    # the page descriptors follow all of these; a file that ends within them is useless
    return bitmap_blocks > 0 and (1 + int(head["sub_header_blocks"]) + bitmap_blocks) * block <= size


def _agrees(head: np.void, sub: np.void, size: int) -> bool:
    """Tell whether a sub header agrees with the file's size and the main header."""
    version, block = int(head["version"]), int(head["block_size"])
    if version >= PAGES_SINCE:
        most = int(sub["max_page"])
        if int(head["max_page"]) not in (most & 0xFFFFFFFF, min(most, 0xFFFFFFFF)) or most > MOST_PAGES:
            return False
    else:
        # only this distinguishes the layouts: vmcoreinfo and notes stand within the sub header's blocks
        size = (1 + int(head["sub_header_blocks"])) * block
    for name, since in (("vmcoreinfo", VMCOREINFO_SINCE), ("notes", NOTES_SINCE)):
        start, length = int(sub[name]), int(sub[f"{name}_size"])
        is_used = length or (start and version < PAGES_SINCE)
        if version >= since and is_used and not (length and block < start and start + length <= size):
            return False
    return version < SPLIT_SINCE or int(sub["split"]) in (0, 1)


def _described(head: np.void, sub: np.void | None, bits: int, order: ByteOrder) -> KdumpHeader:
    version, block = int(head["version"]), int(head["block_size"])
    values = {} if sub is None else {name: int(sub[name]) for name, _ in _SUB_FIELDS}
    bitmap, size = (1 + int(head["sub_header_blocks"])) * block, int(head["bitmap_blocks"]) * block
    descriptors = bitmap + size
    most = values["max_page"] if values and version >= PAGES_SINCE else int(head["max_page"])
    # the first half is the bitmap of RAM, the second that of pages in the file; the oldest files have only one
    has_both = most <= size * 8 // 2
    if has_both:
        size //= 2
        bitmap += size
    most = min(most, size * 8)
    split = bool(values) and version >= SPLIT_SINCE and values["split"] == 1
    first, end = 0, most
    if split:
        suffix = "" if version >= PAGES_SINCE else "_low"
        end = min(most, values[f"end_page{suffix}"])
        first = min(end, values[f"first_page{suffix}"])
    return KdumpHeader(
        mark=bytes(head["mark"]),
        version=version,
        bits=bits,
        byte_order=order,
        block_size=block,
        bitmap=bitmap,
        bitmap_size=size,
        has_both=has_both,
        descriptors=descriptors,
        max_page=most,
        first_page=first,
        end_page=end,
        split=split,
        incomplete=bool(int(head["status"]) & INCOMPLETE),
        notes=(values["notes"], values["notes_size"]) if values and version >= NOTES_SINCE else (0, 0),
        vmcoreinfo=(values["vmcoreinfo"], values["vmcoreinfo_size"])
        if values and version >= VMCOREINFO_SINCE
        else (0, 0),
    )
