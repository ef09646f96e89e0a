"""Read Android's boot images: a header, then the kernel and the ramdisk, each from the beginning of a page.

Format: system/tools/mkbootimg/include/bootimg/bootimg.h of AOSP. In headers below version 3, some old vendors' images
have the size of a device tree in the field of the version.
"""

from __future__ import annotations

import numpy as np

from kallsift.arrays import Bytes
from kallsift.errors import ImageError
from kallsift.image.formats.base import Payload, WrappedImage, record, starts_with

MAGIC, VENDOR_MAGIC = b"ANDROID!", b"VNDRBOOT"
HEADER = np.dtype(
    {
        "names": ["kernel_size", "page_size", "version"],
        "formats": ["<u4", "<u4", "<u4"],
        "offsets": [8, 36, 40],
        "itemsize": 44,
    }
)
NEWEST, PAGE_FIXED_SINCE = 4, 3
FIXED_PAGE = 4096
PAGE_SIZES = tuple(1 << shift for shift in range(11, 18))
"""Possible page sizes, 2 KiB to 128 KiB, which are all that flash memory has."""


def probe(view: Bytes) -> bool:
    """Tell whether the image begins with one of the magics."""
    return starts_with(view, MAGIC) or starts_with(view, VENDOR_MAGIC)


def read(view: Bytes) -> WrappedImage:
    """Return the kernel, which begins on the second page."""
    if starts_with(view, VENDOR_MAGIC):
        raise ImageError("Android vendor_boot: holds ramdisks and a device tree but no kernel; open boot.img instead")
    header = record(view, 0, HEADER, "boot.img header")
    size, version = int(header["kernel_size"]), int(header["version"])
    if version > NEWEST:
        version = 0
    page = FIXED_PAGE if version >= PAGE_FIXED_SINCE else int(header["page_size"])
    if page not in PAGE_SIZES:
        raise ImageError(f"boot.img v{version}: pages of {page} bytes; the header is broken, copy the image again")
    if not size:
        raise ImageError(f"boot.img v{version}: holds no kernel (an init_boot image has only a ramdisk); open boot.img")
    return WrappedImage(f"boot.img v{version}", (Payload(page, page + size),))
