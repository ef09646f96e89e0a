"""Find the parts of a split kdump, and repair the header of one by those of the others.

All parts have the same main header and the same bitmaps. Each has the pages between two numbers, which are in its sub
header. If that is damaged, the part has the pages that no other part has. Source: makedumpfile (--split).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.memory.formats.kdump.bitmap import described, marked
from kallsift.memory.formats.kdump.descriptors import SAMPLE, SIZE, is_table, rows_at
from kallsift.memory.formats.kdump.header import Header, read_header
from kallsift.memory.formats.kdump.mark import KDUMP, has_mark
from kallsift.memory.input_files import first_bytes
from kallsift.memory.reassembled_file import Content

MAX_PARTS = 1 << 8
MAX_FILES = 1 << 12
"""Highest number of parts of a split dump (`MAX_PARTS`), and of files of a folder that are searched for them."""
IDENTITY = slice(8, 448)
"""Bytes that are the same in the headers of all parts of a dump: version, names, time, geometry."""
MAX_HEAD = 1 << 26
"""Number of bytes of other files in which the headers and bitmaps are searched for."""


def siblings(path: Path, view: NDArray[np.uint8]) -> list[Path]:
    """Return all parts of the split dump that a file belongs to.

    They are in the same folder, and include the file itself. The result is empty if the file is no part, or the only
    one.
    """
    try:
        others = list(_kdumps(path))
        header = _part_header(view) if others else None
        if not others or (header is not None and not header.split):
            return []
        own: NDArray[np.uint8] = view
        for head in () if header else (np.frombuffer(first_bytes(other, MAX_HEAD), np.uint8) for other in others):
            other_header = read_header(head)
            if other_header is not None and other_header.split and _belongs(view, head, other_header):
                header, own = other_header, head
                break
        if header is None:
            return []
        found = {view[header.block_size : 2 * header.block_size].tobytes(): path}
        for other in others:
            first = first_bytes(other, 2 * header.block_size)
            if first[IDENTITY] != own[IDENTITY].tobytes():
                first = first_bytes(other, header.descriptors + SAMPLE * SIZE)
                head = np.frombuffer(first, np.uint8)
                if read_header(head) is not None or not _belongs(head, own, header):
                    continue
            # if a part is there twice, one copy is enough
            found.setdefault(first[header.block_size : 2 * header.block_size], other)
    except (OSError, SourceError):
        return []
    return list(found.values()) if 1 < len(found) <= MAX_PARTS else []


def _part_header(view: NDArray[np.uint8]) -> Header | None:
    """Return the header of a file; None if it is damaged.

    It is damaged too if it is that of a whole dump, but the file has only some of its pages.
    """
    header = read_header(view)
    is_whole = header is None or header.split or described(view, header) in (None, marked(view, header))
    return header if is_whole else None


def _kdumps(path: Path) -> Iterator[Path]:
    """Yield the other kdumps in a file's folder; none if it has too many files."""
    files = sorted(path.parent.iterdir())
    for other in files if len(files) <= MAX_FILES else ():
        if other != path and other.is_file() and has_mark(first_bytes(other, len(KDUMP))):
            yield other


def _belongs(content: Content, other: Content, header: Header) -> bool:
    """Tell whether a file is a part of the same dump as another with a known header."""
    bitmaps = slice(header.descriptors - header.bitmap_size, header.descriptors)
    return (
        len(other) >= header.descriptors
        and bool(other[bitmaps].any())
        and np.array_equal(content[bitmaps], other[bitmaps])
        and is_table(rows_at(content, header.descriptors, SAMPLE, header.byte_order), header.descriptors)
    )


def with_damaged_parts(contents: Sequence[Content], headers: Sequence[Header | None]) -> list[Header | None]:
    """Return the headers of all parts; damaged ones are derived from the others."""
    model = next((header for header in headers if header is not None and header.split), None)
    known = [header for header in headers if header is not None and header.split]
    mended = list(headers)
    for number, (content, header) in enumerate(zip(contents, headers, strict=True)):
        if model is None or (header is not None and header.split):
            continue
        missing = [replace(model, first_page=first, end_page=end, notes=(0, 0)) for first, end in _gaps(known)]
        count = described(content, model)
        mended[number] = next((part for part in missing if marked(content, part) == count), None)
    return mended


def _gaps(headers: Sequence[Header]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of page numbers that no part has."""
    position = 0
    for first, end in sorted((header.first_page, header.end_page) for header in headers):
        if first > position:
            yield position, first
        position = max(position, end)
    most = max(header.max_page for header in headers)
    if position < most:
        yield position, most


def missing_parts(headers: Sequence[Header]) -> str | None:
    """Return a remark that a split dump lacks parts; None if it has all."""
    if not headers[0].split or not any(_gaps(headers)):
        return None
    page = headers[0].block_size
    low, high = min(header.first_page for header in headers), max(header.end_page for header in headers)
    return (
        f"is a part of a split dump (physical addresses between {low * page:#x}, {high * page:#x}); "
        "put the other parts into the same folder, or join them with makedumpfile --reassemble"
    )
