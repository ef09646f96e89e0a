"""Read ARM's zImage: code that unpacks the kernel, which is compressed inside of it as "piggy data".

Format: arch/arm/boot/compressed/head.S. The words have the byte order of the kernel's data. The kernel inside is flat
and has no header of its own.
"""

from __future__ import annotations

from kallsift.arrays import Bytes
from kallsift.image.formats.base import BEHIND_LIMIT, Payload, WrappedImage, starts_with

MAGIC, MAGIC_PLACE = 0x016F2818, 0x24
MAGICS = (MAGIC.to_bytes(4, "little"), MAGIC.to_bytes(4, "big"))
START_PLACE, END_PLACE = 0x28, 0x2C
HEADER_SIZE = 0x30


def probe(view: Bytes) -> bool:
    """Tell whether the magic stands at its offset in either byte order."""
    return any(starts_with(view, magic, MAGIC_PLACE) for magic in MAGICS)


def read(view: Bytes) -> WrappedImage | None:
    """Return the compressed kernel; None for a dump that begins with such an image.

    It may be anywhere between the image's beginning and its end.
    """
    little = starts_with(view, MAGICS[0], MAGIC_PLACE)

    def word(place: int) -> int:
        return int.from_bytes(view[place : place + 4].tobytes(), "little" if little else "big")

    size = word(END_PLACE) - word(START_PLACE)
    if HEADER_SIZE < size < len(view) - BEHIND_LIMIT:
        return None
    # the magic can occur by chance in a memory dump, most of which is no image
    end = size if HEADER_SIZE < size <= len(view) else min(len(view), BEHIND_LIMIT)
    return WrappedImage("ARM zImage", (Payload(HEADER_SIZE, end, anywhere=True),), "arm")
