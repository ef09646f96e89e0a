"""LiME dumps: ranges of physical memory, each behind a header that says where it belongs.

Format: "LiME Memory Range Header Version 1 Specification", doc/README.md of 504ensicsLabs/LiME. The module writes the
header as the C structure that it is, hence in the byte order of the machine that it ran on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.memory.model import AddressSpace, Memory, Segment, cut_short, sorted_segments

MAGIC = 0x4C694D45
VERSION = 1

RANGE_HEADER = np.dtype(
    [
        ("magic", "u4"),
        ("version", "u4"),
        ("start", "u8"),  # physical address of the first byte
        ("end", "u8"),  # physical address of the last byte, inclusive
        ("reserved", "u8"),
    ]
)

RANGE_LIMIT = 1 << 16
"""A machine has dozens of ranges; more than this is no dump but an attack on our time."""

_BYTE_ORDERS: dict[bytes, Literal["<", ">"]] = {MAGIC.to_bytes(4, "little"): "<", MAGIC.to_bytes(4, "big"): ">"}


def probe(header: bytes) -> bool:
    """Whether a file that begins with ``header`` is a LiME dump."""
    return header[:4] in _BYTE_ORDERS


def open(name: str, view: NDArray[np.uint8], release: Callable[[], None]) -> Memory:
    """The ranges of a LiME dump as physical segments.

    A dump that ends in the middle of a range or of a later header keeps what is there, and `Memory.notes` says so.

    Args:
        name: the source as messages call it.
        view: the whole file, shape (size,), uint8.
        release: gives the file back.

    Raises:
        SourceError: for a broken header, with its file offset; for ranges that overlap; if there is no memory at all.
    """
    magic = view[:4].tobytes()
    layout = RANGE_HEADER.newbyteorder(_BYTE_ORDERS[magic])
    segments: list[Segment] = []
    notes: list[str] = []
    position = 0
    while position < len(view):
        if len(segments) == RANGE_LIMIT:
            raise SourceError(f"{name}: more than {RANGE_LIMIT} LiME ranges; this is no dump of a machine")
        found = view[position : position + layout.itemsize]
        mark = found[:4].tobytes()
        if mark != magic[: len(mark)]:
            raise SourceError(
                f"{name}: no LiME header at file offset {position:#x}, where the next range should begin; "
                "the dump is damaged, or is padded or raw from here on"
            )
        if len(found) < layout.itemsize:
            notes.append(cut_short(f"header at file offset {position:#x}", len(found), layout.itemsize))
            break
        header = found.view(layout)[0]
        version, start, end = int(header["version"]), int(header["start"]), int(header["end"])
        if version != VERSION:
            raise SourceError(
                f"{name}: LiME version {version} at file offset {position:#x}; only version {VERSION} is known"
            )
        if end < start:
            raise SourceError(
                f"{name}: the LiME range at file offset {position:#x} ends ({end:#x}) before it starts ({start:#x})"
            )
        position += layout.itemsize
        size = end - start + 1
        data = view[position : position + size]
        if len(data) < size:
            notes.append(cut_short(f"range {start:#x}-{end:#x}", len(data), size))
        segments.append(Segment(start, data))
        position += size
    kept = sorted_segments(segments)
    if not kept:
        raise SourceError(f"{name}: the LiME dump ends before any memory; copy it again")
    return Memory(
        source=name,
        container="LiME",
        space=AddressSpace.PHYSICAL,
        segments=kept,
        release=release,
        notes=tuple(notes),
    )
