"""Read x86's bzImage (and zImage before it): setup code, then code that unpacks the compressed kernel inside.

Format: Documentation/arch/x86/boot.rst; offsets count from the start of the file.
"""

from __future__ import annotations

import numpy as np

from kallsift.arrays import Bytes
from kallsift.image.formats.base import BEHIND_LIMIT, Payload, WrappedImage, record, starts_with

SETUP_HEADER = np.dtype(
    {
        "names": [
            "setup_sectors",
            "syssize",
            "boot_flag",
            "magic",
            "version",
            "xloadflags",
            "payload_offset",
            "payload_length",
        ],
        "formats": ["u1", "<u4", "<u2", "S4", "<u2", "<u2", "<u4", "<u4"],
        "offsets": [0x1F1, 0x1F4, 0x1FE, 0x202, 0x206, 0x236, 0x248, 0x24C],
        "itemsize": 0x250,
    }
)
BOOT_FLAG, BOOT_FLAG_PLACE = b"\x55\xaa", 0x1FE
MAGIC, MAGIC_PLACE = b"HdrS", 0x202
SECTOR = 512
DEFAULT_SECTORS = 4
"""Number of setup sectors that 0 stands for."""

PARAGRAPH = 16
"""Unit of syssize, the size of everything behind the setup code, in bytes."""

SIZE_SINCE, PAYLOAD_SINCE, FLAGS_SINCE = 0x0204, 0x0208, 0x020C
"""Boot protocols since which the header has the image's size, the payload's offset, and a flag for 64-bit kernels."""
FLAG_64_BIT = 1


def probe(view: Bytes) -> bool:
    """Tell whether the setup header's two magics stand at their offsets."""
    return starts_with(view, BOOT_FLAG, BOOT_FLAG_PLACE) and starts_with(view, MAGIC, MAGIC_PLACE)


def read(view: Bytes) -> WrappedImage:
    """Return the payload at the header's offset, else anywhere behind the setup code."""
    header = record(view, 0, SETUP_HEADER, "setup header")
    version = int(header["version"])
    code = (1 + (int(header["setup_sectors"]) or DEFAULT_SECTORS)) * SECTOR
    size = int(header["syssize"]) * PARAGRAPH if version >= SIZE_SINCE else 0
    # such a header can begin a memory dump, most of which is no image
    parts = [Payload(code, min(len(view), code + (size or BEHIND_LIMIT)), anywhere=True)]
    length = int(header["payload_length"]) if version >= PAYLOAD_SINCE else 0
    if length:
        start = code + int(header["payload_offset"])
        parts.insert(0, Payload(start, start + length))
    wide = version >= FLAGS_SINCE and bool(header["xloadflags"] & FLAG_64_BIT)
    return WrappedImage("bzImage", tuple(parts), "x86-64" if wide else None)
