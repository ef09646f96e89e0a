"""Bring saved symbol listings into the form of /proc/kallsyms.

Editors, terminals and pagers change such texts. A line of the form (s_show() in kernel/kallsyms.c) has an address of a
fixed number of digits, the letter and the name with one blank between them, and for a module's symbols its name in
brackets behind a tab. Other forms that occur:

* a byte order mark, UTF-16 (PowerShell's redirection), carriage returns, blanks at either end of a line;
* ``(null)`` for address 0 and ``(ptrval)``, ``(____ptrval____)`` for hidden ones (%p of kernels up to 4.14, and since);
* blanks instead of the tab.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

WIDTHS = (16, 8)
"""Possible numbers of digits of an address."""

FIELDS_BEHIND = len(" T n")
"""Lowest number of bytes that a line has behind the address."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
WIDE = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))

LINE = re.compile(
    rb"[ \t]*(?:[0-9a-fA-F]{16}|[0-9a-fA-F]{8}|\?{16}|\?{8}|\(null\)|\(_*ptrval_*\)|(?<![^\n])(?:[ ]{16}|[ ]{8}))"
    rb"[ \t]+[A-Za-z?-][ \t]+[^\s]"
)
"""The beginning of a symbol's line.

Undefined symbols have no address; unknown addresses are question marks.
"""

NULL = re.compile(rb"^[ \t]*\(null\)[ \t]+([A-Za-z?])[ \t]+(?=\S)", re.MULTILINE)
HIDDEN = re.compile(rb"^[ \t]*\(_*ptrval_*\)[ \t]+([A-Za-z?])[ \t]+(?=\S)", re.MULTILINE)
COLUMNS = re.compile(
    rb"^[ \t]*([0-9a-fA-F]{16}|[0-9a-fA-F]{8}|\?{16}|\?{8})[ \t]+([A-Za-z?-])[ \t]+(?=\S)", re.MULTILINE
)
OWNER = re.compile(rb"(?<![ \t])[ \t]+(\[[^\]\s]*\])$", re.MULTILINE)
END = re.compile(rb"(?<![ \t\r])[ \t\r]+$", re.MULTILINE)
"""Trailing blanks of a line.

This pattern and `OWNER` begin only at the start of a run of blanks, so that a long run is scanned only once.
"""


def begins_listing(beginning: bytes) -> bool:
    """Tell whether a file that begins with these bytes lists symbols.

    It must be text with a symbol in at least one of its lines.
    """
    text = plain(beginning)
    if b"\0" in text:
        return False
    return any(LINE.match(line) for line in text.splitlines())


def plain(text: bytes) -> bytes:
    """Return the text as single bytes, without a byte order mark."""
    for mark, encoding in WIDE:
        if text.startswith(mark):
            return text[len(mark) : len(text) & ~1].decode(encoding, "replace").encode("latin-1", "replace")
    return text.removeprefix(BYTE_ORDER_MARK)


def tidy(text: bytes) -> bytes:
    """Bring the lines of a text into the form of /proc/kallsyms, as far as possible."""
    text = OWNER.sub(rb"\t\1", COLUMNS.sub(rb"\1 \2 ", END.sub(b"", text)))
    if b"(null)" in text or b"ptrval" in text:
        width = address_width(text) or WIDTHS[0]
        text = HIDDEN.sub(rb"%s \1 " % (b"?" * width), NULL.sub(rb"%s \1 " % (b"0" * width), text))
    return text


def split(data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the offsets at which each line begins and ends, shape (n,) each.

    Ends are without the line break. No line is counted behind the last line break.
    """
    breaks = np.flatnonzero(data == ord("\n"))
    starts = np.concatenate(([0], breaks + 1)).astype(np.int64)
    ends = np.append(breaks, len(data)).astype(np.int64)
    if starts[-1] == len(data):
        starts, ends = starts[:-1], ends[:-1]
    ends -= (ends > starts) & (data[np.maximum(ends - 1, 0)] == ord("\r"))
    return starts, ends


def address_width(text: bytes) -> int | None:
    """Return the number of digits of most lines' addresses, 16 or 8.

    None if no line has an address.
    """
    data = np.frombuffer(text, np.uint8)
    starts, ends = split(data)
    counts = []
    for width in WIDTHS:
        long = starts[ends - starts >= width + FIELDS_BEHIND]
        fits = (data[long + width] == ord(" ")) & (data[long + width + 2] == ord(" ")) & (data[long] != ord(" "))
        counts.append(int(fits.sum()))
    return WIDTHS[int(np.argmax(counts))] if any(counts) else None
