"""s390's bzImage (and its uncompressed image): flat, offsets are the addresses that it is loaded to.

Format: arch/s390/boot/head.S and ipl_parm.h; since 4.x the boot part holds the kernel compressed. Nothing in the header
says where, but the header is found by its magic alone.
"""

from __future__ import annotations

from kallsift.arrays import Bytes
from kallsift.image.formats.base import Bare, flat, starts_with
from kallsift.memory.memory import AddressSpace

MAGIC, MAGIC_PLACE = b"S390EP", 0x10008
SIZE_LIMIT = 96 << 20
"""Uncompressed images have a third of that; a dump of a guest's memory has more, and the magic at the same place."""


def probe(view: Bytes) -> bool:
    """Whether the magic stands behind the entry point."""
    return starts_with(view, MAGIC, MAGIC_PLACE) and len(view) <= SIZE_LIMIT


def read(view: Bytes) -> Bare:
    """The whole image, which is found to hold a kernel bare or packed."""
    return Bare("s390 image", AddressSpace.FILE, flat(view), "s390x", big_endian=True, unpacker=True)
