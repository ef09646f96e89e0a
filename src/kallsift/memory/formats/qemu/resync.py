"""Find the next record of a page in a QEMU migration stream behind a damaged one.

Only the flags of a record tell its length. The next record is recognised by its page number, which follows the last one
in a block that is sent in order, and by the records behind it; or by the name of its block, if it has one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

FILLED, PLAIN, END, CONTINUED, COMPRESSED = 0x02, 0x08, 0x10, 0x20, 0x100
"""RAM_SAVE_FLAG_ZERO, _PAGE, _EOS, _CONTINUE, _COMPRESS_PAGE (QEMU, migration/ram.c)."""

MAX_SKIPPED = 16
"""Highest number of pages that may be lost between two records."""
CONFIRMED_BY = 4
"""Number of records in a row that confirm one that was searched for; fewer before the end of a section."""
MAX_PACKED = 2
"""Size that no packed page reaches, in pages."""
NAME_WITHIN = 1 << 24
"""Number of bytes that are searched for the name of a block."""


def next_record(view: NDArray[np.uint8], start: int, page: int, last: int) -> int | None:
    """Return the offset where the pages of a block continue; None if they do not.

    The number of the first page must be a little above ``last``.

    Args:
        view: the whole file.
        start: lowest possible offset.
        page: size of a page.
        last: number of the last page before the damage.
    """
    stop = min(start + (MAX_PACKED + 1) * page, len(view) - 8)
    if stop <= start:
        return None
    words = np.lib.stride_tricks.sliding_window_view(view[start : stop + 7], 8)
    numbers = np.ascontiguousarray(words).view(">u8")[:, 0] // np.uint64(page)
    low = np.uint64(max(0, last + 1))
    likely = np.flatnonzero((numbers >= low) & (numbers < low + np.uint64(MAX_SKIPPED))) + start
    return next((position for position in likely.tolist() if _is_confirmed(view, position, page)), None)


def next_named(view: NDArray[np.uint8], start: int, page: int, names: Iterable[bytes]) -> int | None:
    """Return the offset of the next record that names its block.

    The result is None if there is none within `NAME_WITHIN` bytes.
    """
    content = view[start : start + NAME_WITHIN].tobytes()
    found: list[int] = []
    for name in names:
        mark = bytes([len(name)]) + name
        place = content.find(mark, 8)
        while place >= 0:
            flags = int.from_bytes(content[place - 8 : place], "big") & (page - 1)
            if flags in (PLAIN, FILLED, COMPRESSED):
                found.append(start + place - 8)
                break
            place = content.find(mark, place + 1)
    return min(found, default=None)


def _record(view: NDArray[np.uint8], position: int, page: int) -> tuple[int | None, int]:
    """Return the page number of the record at an offset, and the record's end.

    The number is None if no record stands there.
    """
    if position + 8 > len(view):
        return None, position
    (header,) = struct.unpack_from(">Q", view.data, position)
    flags = header & (page - 1)
    if flags == PLAIN | CONTINUED:
        return header // page, position + 8 + page
    if flags == FILLED | CONTINUED:
        return header // page, position + 9
    if flags == COMPRESSED | CONTINUED and position + 12 <= len(view):
        (size,) = struct.unpack_from(">I", view.data, position + 8)
        if size < MAX_PACKED * page:
            return header // page, position + 12 + size
    return None, position


def _is_confirmed(view: NDArray[np.uint8], position: int, page: int) -> bool:
    """Tell whether records in order stand from an offset on."""
    before: int | None = None
    for _ in range(CONFIRMED_BY):
        number, behind = _record(view, position, page)
        if number is None:
            is_end = view[position : position + 8].tobytes() == END.to_bytes(8, "big")
            return before is not None and is_end
        if before is not None and number != before + 1:
            return False
        before, position = number, behind
    return True
