"""Read U-Boot's legacy uImage: a header of 64 bytes, then one file, or several behind a list of their sizes.

Format: include/image.h of U-Boot. All words are big-endian.
"""

from __future__ import annotations

import numpy as np

from kallsift.arrays import Bytes
from kallsift.errors import ImageError
from kallsift.image.formats.base import Payload, WrappedImage, record, starts_with
from kallsift.image.formats.machine_ids import UIMAGE_ARCHITECTURES

MAGIC = b"\x27\x05\x19\x56"
HEADER = np.dtype(
    [
        ("magic", ">u4"),
        ("header_checksum", ">u4"),
        ("time", ">u4"),
        ("size", ">u4"),
        ("load", ">u4"),
        ("entry", ">u4"),
        ("checksum", ">u4"),
        ("system", "u1"),
        ("architecture", "u1"),
        ("kind", "u1"),
        ("compression", "u1"),
        ("name", "S32"),
    ]
)
KINDS = {2: "kernel", 4: "multi", 5: "firmware", 8: "flat device tree", 14: "kernel", 3: "RAM disk", 6: "script"}
KERNEL_KINDS = (2, 14)
STANDALONE, MULTI, FIRMWARE = 1, 4, 5
"""Types of images that may hold a kernel; a firmware file may hold a kernel's uImage."""
PART_LIMIT = 16

CODECS: dict[int, str | None] = {0: None, 1: "gzip", 2: "bzip2", 3: "lzma", 4: "lzo", 5: "lz4", 6: "zstd"}
"""Codecs by ih_comp (IH_COMP_*)."""

LINKED_WHERE_LOADED = {"mips": 0, "mips64": 0xFFFF_FFFF_0000_0000}
"""Architectures whose kernels run at their load address, and the upper half that a 32-bit load address lacks."""


def probe(view: Bytes) -> bool:
    """Tell whether the image begins with the magic."""
    return starts_with(view, MAGIC)


def read(view: Bytes) -> WrappedImage:
    """Return the kernel: all of the data, or the first of several files."""
    header = record(view, 0, HEADER, "uImage header")
    kind, compression = int(header["kind"]), int(header["compression"])
    if kind not in (STANDALONE, MULTI, FIRMWARE, *KERNEL_KINDS):
        raise ImageError(
            f"uImage: holds a {KINDS.get(kind, f'file of type {kind}')}, not a kernel; open the uImage of the kernel"
        )
    if compression not in CODECS:
        raise ImageError(f"uImage: compression {compression} is unknown; unpack the data after the header of 64 bytes")
    start, size = HEADER.itemsize, int(header["size"])
    if kind == MULTI:
        start, size = _first_file(view)
    architecture = UIMAGE_ARCHITECTURES.get(int(header["architecture"]))
    base = None
    if architecture in LINKED_WHERE_LOADED:
        base = LINKED_WHERE_LOADED[architecture] | int(header["load"])
    return WrappedImage("uImage", (Payload(start, start + size, CODECS[compression]),), architecture, base)


def _first_file(view: Bytes) -> tuple[int, int]:
    """Return the offset and size of the first of several files."""
    place = HEADER.itemsize
    words = view[place : place + 4 * (PART_LIMIT + 1)]
    sizes = words[: len(words) // 4 * 4].view(">u4").tolist()
    if 0 not in sizes[1:] or not sizes[0]:
        raise ImageError(f"uImage: the list of its files at offset {place:#x} is broken; copy the image again")
    return place + 4 * (sizes.index(0) + 1), sizes[0]
