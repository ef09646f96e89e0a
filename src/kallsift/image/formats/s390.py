"""Read s390's bzImage (and its uncompressed image): flat, with offsets that are the load addresses.

Format: arch/s390/boot/head.S and ipl_parm.h; since 4.x the boot part holds the kernel compressed. No header field tells
its offset: compressed streams are found by their magics.
"""

from __future__ import annotations

from kallsift.arrays import Bytes
from kallsift.image.formats.base import KernelPayload, flat, starts_with
from kallsift.memory.memory import AddressSpace

MAGIC, MAGIC_PLACE = b"S390EP", 0x10008
SIZE_LIMIT = 96 << 20
"""Highest size of an image in bytes: three times that of uncompressed ones.

A dump of a guest's memory is larger, and has the magic at the same offset.
"""


def probe(view: Bytes) -> bool:
    """Tell whether the magic stands behind the entry point."""
    return starts_with(view, MAGIC, MAGIC_PLACE) and len(view) <= SIZE_LIMIT


def read(view: Bytes) -> KernelPayload:
    """Return the whole image; the kernel in it may be bare or compressed."""
    return KernelPayload("s390 image", AddressSpace.FILE, flat(view), "s390x", big_endian=True, unpacker=True)
