"""Find the parts of a split kdump, and repair the header of one by those of the others.

All parts have the same main header and the same bitmaps. Each has the pages between two numbers, which are in its sub
header. If that is damaged, the part has the pages that no other part has. Source: makedumpfile (--split).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.errors import SourceError
from kallsift.memory.formats.kdump.bitmap import described, marked
from kallsift.memory.formats.kdump.descriptors import SAMPLE, SIZE, is_table, rows_at
from kallsift.memory.formats.kdump.header import KdumpHeader, read_header
from kallsift.memory.formats.kdump.mark import KDUMP, has_mark
from kallsift.memory.input_files import first_bytes
from kallsift.memory.reassembled_file import Content

MAX_PARTS = 1 << 8
MAX_FILES = 1 << 12
"""Highest number of parts of a split dump (`MAX_PARTS`), and of files of a folder that are searched for them."""
IDENTITY = slice(8, 448)
"""Bytes that are the same in the headers of all parts of a dump: version, names, time, geometry."""
MAX_HEAD, MAX_READ = 1 << 26, 1 << 30
"""Number of bytes of another file in which its headers and bitmaps are searched for, and of all other files."""


def siblings(path: Path, view: NDArray[np.uint8]) -> list[Path]:
    """Return all parts of the split dump that a file belongs to.

    They are in the same folder, and include the file itself. The result is empty if the file is no part, or the only
    one.
    """
    header = _part_header(view)
    if header is not None and not header.split:
        return []
    try:
        found = _parts(path, view, header)
    except (OSError, SourceError):
        return []
    return list(found.values()) if 1 < len(found) <= MAX_PARTS else []


def _parts(path: Path, view: NDArray[np.uint8], header: KdumpHeader | None) -> dict[bytes, Path]:
    """Return the parts of the dump that a file belongs to, by their sub headers; none if there are no others.

    ``header`` is the file's header, None if it is damaged.
    """
    others, budget, own = list(_kdumps(path)), WorkBudget(MAX_READ, 0), view
    for head in () if header else (_beginning(other, MAX_HEAD, budget) for other in others):
        other_header = read_header(head)
        if other_header is not None and other_header.split and _belongs(view, head, other_header):
            header, own = other_header, head
            break
    if header is None:
        return {}
    sub_header = slice(header.block_size, 2 * header.block_size)
    found = {view[sub_header].tobytes(): path}
    for other in others:
        head = _beginning(other, sub_header.stop, budget)
        if not np.array_equal(head[IDENTITY], own[IDENTITY]):
            head = _beginning(other, header.descriptors + SAMPLE * SIZE, budget)
            if read_header(head) is not None or not _belongs(head, own, header):
                continue
        # if a part is there twice, one copy is enough
        found.setdefault(head[sub_header].tobytes(), other)
    return found


def _beginning(path: Path, size: int, budget: WorkBudget) -> NDArray[np.uint8]:
    """Return the first bytes of another file; none if the budget is spent."""
    size = min(size, path.stat().st_size)
    return np.frombuffer(first_bytes(path, size) if budget.take("bytes", size) else b"", np.uint8)


def _part_header(view: NDArray[np.uint8]) -> KdumpHeader | None:
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


def _belongs(content: Content, other: Content, header: KdumpHeader) -> bool:
    """Tell whether a file is a part of the same dump as another with a known header."""
    bitmaps = slice(header.descriptors - header.bitmap_size, header.descriptors)
    return (
        len(other) >= header.descriptors
        and bool(other[bitmaps].any())
        and np.array_equal(content[bitmaps], other[bitmaps])
        and is_table(rows_at(content, header.descriptors, SAMPLE, header.byte_order), header.descriptors)
    )


def with_damaged_parts(contents: Sequence[Content]) -> tuple[list[tuple[Content, KdumpHeader | None]], list[str]]:
    """Return the parts of a dump with their headers, and remarks.

    A damaged header is derived from the others, if the part has as many pages as one gap between them and no other.
    Else the part is left out, because nothing tells its addresses. A header stays None if no other is known.
    """
    headers = [read_header(content) for content in contents]
    known = [header for header in headers if header is not None and header.split]
    if not known:
        return list(zip(contents, headers, strict=True)), []
    gaps = [replace(known[0], first_page=first, end_page=end, notes=(0, 0)) for first, end in _gaps(known)]
    fitting = [
        [gap for gap in gaps if header not in known and marked(content, gap) == described(content, gap)]
        for content, header in zip(contents, headers, strict=True)
    ]
    claims = Counter(fits[0] for fits in fitting if len(fits) == 1)
    parts, remarks = list[tuple[Content, KdumpHeader | None]](), list[str]()
    for content, header, fits in zip(contents, headers, fitting, strict=True):
        if header in known:
            parts.append((content, header))
        elif len(fits) == 1 and claims[fits[0]] == 1:
            parts.append((content, fits[0]))
            low, high = (page * fits[0].block_size for page in (fits[0].first_page, fits[0].end_page))
            remarks.append(
                "the header of a part of the split dump is damaged: the part is read as the pages that "
                f"all others lack (physical addresses from {low:#x} to {high:#x})"
            )
        else:
            remarks.append("a part of the split dump is left out: its header is damaged, so its addresses are unknown")
    return parts, remarks


def _gaps(headers: Sequence[KdumpHeader]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of page numbers that no part has."""
    position = 0
    for first, end in sorted((header.first_page, header.end_page) for header in headers):
        if first > position:
            yield position, first
        position = max(position, end)
    most = max(header.max_page for header in headers)
    if position < most:
        yield position, most


def missing_parts(headers: Sequence[KdumpHeader]) -> str | None:
    """Return a remark that a split dump lacks parts; None if it has all."""
    if not headers[0].split or not any(_gaps(headers)):
        return None
    page = headers[0].block_size
    low, high = min(header.first_page for header in headers), max(header.end_page for header in headers)
    return (
        f"is one part of a split dump (physical addresses from {low * page:#x} to {high * page:#x}); put "
        "the other parts into the same folder, or join them with makedumpfile --reassemble"
    )
