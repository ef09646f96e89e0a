"""Read LiME dumps: ranges of physical memory, each behind a header with its addresses.

Format: "LiME Memory Range Header Version 1 Specification", doc/README.md of 504ensicsLabs/LiME. The module writes the
header as a C structure, so it has the byte order of the machine that it ran on. A damaged header costs its own range.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.errors import SourceError
from kallsift.memory.claimed import Claimed
from kallsift.memory.file_mapping import stored_size
from kallsift.memory.formats.range_headers import SIZE, HeadedRange, RangeFormat, next_range, range_at
from kallsift.memory.memory import AddressSpace, Memory, cut_short
from kallsift.memory.remarks import limited, reason
from kallsift.memory.run_budget import largest_segments
from kallsift.memory.segments import BytesSegment, sorted_segments

MAGIC = 0x4C694D45
VERSION = 1

RANGE_LIMIT = 1 << 16
"""Highest number of ranges, a limit on the work for hostile files; a machine has dozens."""

FORMATS = (
    RangeFormat(MAGIC.to_bytes(4, "little"), VERSION, "<"),
    RangeFormat(MAGIC.to_bytes(4, "big"), VERSION, ">"),
)


def probe(header: bytes) -> bool:
    """Tell whether a file that begins with ``header`` is a LiME dump."""
    return any(header.startswith(form.magic) for form in FORMATS)


def open(name: str, view: NDArray[np.uint8], release: Callable[[], None]) -> Memory:
    """Open the ranges of a LiME dump as physical segments.

    A dump that ends in the middle of a range or of a later header keeps the memory before. A dump with a damaged header
    keeps all ranges but that one. `Memory.notes` reports either.

    Args:
        name: name of the source in messages.
        view: the whole file, shape (size,), uint8.
        release: function that releases the file.

    Raises:
        SourceError: if there is no memory at all, or if there are too many ranges.
    """
    form = next(form for form in FORMATS if view[:4].tobytes() == form.magic)
    ranges, notes = _ranges(name, view, form)
    segments: list[BytesSegment] = []
    claimed = Claimed()
    for found in ranges:
        data = view[found.content : found.content + found.size]
        what = f"range {found.start:#x}-{found.end - 1:#x}"
        if len(data) < found.size:
            notes.append(cut_short(what, len(data), found.size))
        if claimed.claim_whole(found.start, found.start + len(data)):
            segments.append(BytesSegment(found.start, data))
        elif len(data):
            notes.append(f"{what} overlaps earlier ranges: it is left out")
    budget = WorkBudget.of(stored_size(view))
    kept = sorted_segments(largest_segments(segments, budget))
    notes += [budget.left_out] if budget.left_out else []
    if not kept:
        raise SourceError(f"{name}: the LiME dump ends before any memory{reason(notes)}; copy it again")
    return Memory(
        source=name,
        container="LiME",
        space=AddressSpace.PHYSICAL,
        segments=kept,
        release=release,
        notes=limited(notes),
    )


def _ranges(name: str, view: NDArray[np.uint8], form: RangeFormat) -> tuple[list[HeadedRange], list[str]]:
    """Return the ranges with valid headers in file order, and remarks on the others.

    Raises:
        SourceError: if there are too many.
    """
    ranges: list[HeadedRange] = []
    notes: list[str] = []
    position = 0
    while position < len(view):
        if len(ranges) == RANGE_LIMIT:
            raise SourceError(
                f"{name}: has more than {RANGE_LIMIT} LiME ranges, more than any machine; take the dump again"
            )
        found = range_at(view, position, form)
        behind = found.content + found.size if found else position
        # a range that runs past the end is cut short, unless there is another one in it
        if found and (behind <= len(view) or next_range(view, found.content, form) == len(view)):
            ranges.append(found)
            position = behind
            continue
        if len(view) - position < SIZE and form.magic.startswith(view[position : position + 4].tobytes()):
            notes.append(cut_short(f"header at file offset {position:#x}", len(view) - position, SIZE))
            break
        remark = f"no LiME header at file offset {position:#x}, where the next range should begin"
        # if the size of the range before is wrong, the next header may stand inside of its supposed content
        behind = next_range(view, ranges[-1].content if ranges and not found else position + 1, form)
        if found:
            remark = f"the LiME header at file offset {position:#x} is damaged"
        elif behind < position:
            lost = ranges.pop()
            remark = f"the LiME header at file offset {lost.content - SIZE:#x} is damaged"
        notes.append(f"{remark}: its range is left out")
        position = behind
    return ranges, notes
