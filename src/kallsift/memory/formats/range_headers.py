"""Read the header that LiME and AVML put before each range of memory, and find the next one after damage.

Sources: "LiME Memory Range Header Version 1 Specification", doc/README.md of 504ensicsLabs/LiME; microsoft/avml,
src/image.rs, which has the same fields behind another magic number.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

RANGE_HEADER = np.dtype(
    [
        ("magic", "u4"),
        ("version", "u4"),
        ("start", "u8"),  # physical address of the first byte
        ("end", "u8"),  # physical address of the last byte, inclusive
        ("reserved", "u8"),
    ]
)
SIZE = RANGE_HEADER.itemsize

SEARCHED_AT_ONCE = 1 << 20


class RangeFormat(NamedTuple):
    """The variable parts of a format's headers.

    Attributes:
        magic: first four bytes.
        version: the only known version.
        byte_order: byte order of all fields.
        behind: bytes that stand behind each header; empty if any bytes may.
    """

    magic: bytes
    version: int
    byte_order: Literal["<", ">"]
    behind: bytes = b""


class HeadedRange(NamedTuple):
    """One range: the file offset of its content, its first address, and its size."""

    content: int
    start: int
    size: int

    @property
    def end(self) -> int:
        """Address behind the last byte."""
        return self.start + self.size


def range_at(view: NDArray[np.uint8], position: int, form: RangeFormat) -> HeadedRange | None:
    """Return the range whose header stands at a file offset; None if none does."""
    header = view[position : position + SIZE]
    if len(header) < SIZE or header[:4].tobytes() != form.magic:
        return None
    fields = header.view(RANGE_HEADER.newbyteorder(form.byte_order))[0]
    start, end = int(fields["start"]), int(fields["end"])
    return (
        HeadedRange(position + SIZE, start, end - start + 1)
        if fields["version"] == form.version and start <= end
        else None
    )


def next_range(view: NDArray[np.uint8], position: int, form: RangeFormat) -> int:
    """Return the offset of the next confirmed header, else the file's size.

    A header is confirmed by another one behind its range, or by the end of the file. A dump may hold headers of another
    dump, in memory that was dumped: nothing of the kind follows those at the right offset. Where the format has fixed
    bytes behind a header (``RangeFormat.behind``), these confirm it instead.
    """
    order: Literal["little", "big"] = "little" if form.byte_order == "<" else "big"
    mark = form.magic + form.version.to_bytes(4, order)
    for start in range(position, len(view), SEARCHED_AT_ONCE):
        part = view[start : start + SEARCHED_AT_ONCE + len(mark) - 1].tobytes()
        found = part.find(mark)
        while found >= 0:
            if _is_confirmed(view, start + found, form):
                return start + found
            found = part.find(mark, found + 1)
    return len(view)


def _is_confirmed(view: NDArray[np.uint8], position: int, form: RangeFormat) -> bool:
    """Tell whether the following bytes confirm a header at a file offset."""
    found = range_at(view, position, form)
    if found is None:
        return False
    if form.behind:
        return view[found.content : found.content + len(form.behind)].tobytes() == form.behind
    behind = found.content + found.size
    return behind == len(view) or range_at(view, behind, form) is not None
