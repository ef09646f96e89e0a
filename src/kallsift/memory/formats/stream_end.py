"""Find the offset of the end of a dump, if a part of unknown size is lost before it.

The headers of ELF cores tell the size of the file; those of LiME tell each other's offsets. A QEMU stream's records and
AVML's ranges have addresses of their own. Raw memory has a size that is divisible by a large power of two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.memory.formats import avml, elf_core, elf_headers, lime, registry
from kallsift.memory.formats.qemu import migration_stream
from kallsift.memory.formats.range_headers import RangeFormat, next_range, range_at
from kallsift.memory.spool_file import End, behind_least

Bytes = NDArray[np.uint8]

NOBITS = 8
"""Type of ELF sections that take no room in the file (elf(5))."""
MIN_RAM_UNIT = 1 << 20
"""Smallest unit of a machine's RAM in bytes."""


def offset_of_end(head: Bytes, tail: Bytes, possible: range) -> End | None:
    """Return the offset in a dump at which its end belongs; None if nothing tells.

    Args:
        head: bytes before the lost ones.
        tail: bytes behind the lost ones, up to the end of the dump.
        possible: possible numbers of lost bytes.
    """
    header = head[: registry.HEADER_SIZE].tobytes()
    if avml.probe(header) or migration_stream.probe(header):
        return behind_least(head, tail, possible)
    is_guess = False
    if elf_core.probe(header):
        size = _elf_size(head)
    elif lime.probe(header):
        size = _lime_size(head, tail)
    elif registry.is_dump(header):
        return None
    else:
        known, is_guess = len(head) + len(tail), True
        size = _raw_size(range(known + possible.start, known + possible.stop))
    return None if size is None else End(size - len(tail), is_guess)


def _elf_size(head: Bytes) -> int | None:
    """Return the size of an ELF core; None if its headers cannot be read.

    The core ends with its last segment, or with a section of names behind it.
    """
    header = elf_headers.file_header(head[: registry.HEADER_SIZE].tobytes())
    if header is None:
        return None
    start, count, layout = (
        int(header.record["section_offset"]),
        int(header.record["section_count"]),
        elf_headers.SECTION_HEADER[header.bits].newbyteorder(header.byte_order),
    )
    try:
        programs = elf_headers.read_headers("", head).programs
        sections = elf_headers.records("", head, "sections", start, count, layout)
    except SourceError:
        return None
    sections = sections[sections["type"] != NOBITS]
    ends = [
        int((rows["offset"] + rows[size].astype(np.uint64)).max(initial=0))
        for rows, size in ((programs, "file_size"), (sections, "size"))
    ]
    return max(*ends, start + count * layout.itemsize)


def _lime_size(head: Bytes, tail: Bytes) -> int | None:
    """Return the size of a LiME dump; None if the lost bytes do not lie in a range.

    It follows from the ranges up to the lost bytes, and from those behind the first header after them.
    """
    form = next(form for form in lime.FORMATS if head[:4].tobytes() == form.magic)
    end, _ = _end_of_ranges(head, 0, form, lime.RANGE_LIMIT)
    return end + len(tail) - _first_header(tail, form) if end > len(head) else None


def _first_header(tail: Bytes, form: RangeFormat) -> int:
    """Return the offset of the first header whose ranges lead to the very end.

    The result is the size if there is no such header.
    """
    start, left = next_range(tail, 0, form), lime.RANGE_LIMIT
    while start < len(tail) and left:
        end, left = _end_of_ranges(tail, start, form, left)
        if end == len(tail):
            return start
        # this header belongs to a dump inside of the dump
        start = next_range(tail, start + 1, form)
    return len(tail)


def _end_of_ranges(view: Bytes, position: int, form: RangeFormat, limit: int) -> tuple[int, int]:
    """Return the end of adjacent ranges from an offset on, and the rest of the limit."""
    while limit and (found := range_at(view, position, form)) is not None:
        position, limit = found.content + found.size, limit - 1
    return position, limit


def _raw_size(possible: range) -> int | None:
    """Return the size that is divisible by the largest power of two.

    The result is None if none of the possible sizes is one of RAM.
    """
    unit = 1 << possible.stop.bit_length()
    while unit >= MIN_RAM_UNIT:
        size = -(-possible.start // unit) * unit
        if size in possible:
            return size
        unit //= 2
    return None
