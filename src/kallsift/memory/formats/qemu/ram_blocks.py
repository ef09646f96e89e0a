"""Hold the blocks of RAM of a QEMU migration stream, and read those that are flat in it ("mapped-ram")."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.memory.formats.qemu.page_bytes import FILL

PAGES_AT_LEAST = 1 << 20
"""Number of pages that a block may have in any stream; beyond it, each page takes the bytes of a
record."""

MAPPED_HEADER = np.dtype([("version", ">u4"), ("page", ">u8"), ("bitmap", ">u8"), ("pages", ">u8")])
"""struct MappedRamHeader of QEMU 9.0 and later, which stands behind a block's size if the RAM is flat."""


class CutShortError(Exception):
    """The stream ends where more must follow."""


class DamagedError(SourceError):
    """The stream contains something that cannot stand there."""


@dataclass(eq=False)
class Block:
    """One block of RAM.

    Attributes:
        name: QEMU's name of it, safe to print.
        size: size in bytes.
        places: for each page 0 if it was not sent, else the offset of its bytes in the stream, or a code (see `FILL`).
    """

    name: str
    size: int
    places: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


def enter_flat(source: str, view: NDArray[np.uint8], page: int, position: int, block: Block) -> int:
    """Enter a block that is flat; return the position behind its pages.

    A bitmap has a bit for each page that is not all zero.

    Args:
        source: name of the stream in messages.
        view: the whole file, shape (size,), uint8.
        page: size of a page.
        position: offset of the header behind the block's size.
        block: the block, which gets its pages.

    Raises:
        CutShortError: if the stream ends before the block.
        SourceError: if the block is laid out in an unknown way, or larger than the stream can be.
    """
    header = view[position : position + MAPPED_HEADER.itemsize]
    if len(header) < MAPPED_HEADER.itemsize:
        raise CutShortError
    fields = header.view(MAPPED_HEADER)[0]
    bitmap, pages, count = int(fields["bitmap"]), int(fields["pages"]), -(-block.size // page)
    if int(fields["version"]) != 1 or int(fields["page"]) != page:
        raise SourceError(f"{source}: {block.name} is laid out in an unknown way at offset {position:#x}")
    if bitmap + -(-count // 8) > len(view) or pages > len(view):
        raise CutShortError
    if count > PAGES_AT_LEAST + 2 * (len(view) // page):
        raise SourceError(f"{source}: {block.name} is larger than the stream can be; the stream is damaged")
    bits = np.unpackbits(view[bitmap : bitmap + -(-count // 8)], count=count, bitorder="little")
    places = pages + page * np.arange(count, dtype=np.int64)
    places[bits == 0] = FILL
    places[places > len(view) - page] = 0
    block.places = places
    return pages + block.size
