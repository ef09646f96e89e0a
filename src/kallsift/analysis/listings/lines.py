"""Bring saved symbol listings into one form: texts that editors, terminals and pagers went over.

The form is that of /proc/kallsyms (s_show() in kernel/kallsyms.c): an address of a word's digits, the letter and the
name with one blank between, and for a module's symbols its name in brackets behind a tab. What people have beside that:

* a byte order mark, UTF-16 (PowerShell's redirection), carriage returns, blanks at either end of a line;
* ``(null)`` for address 0 and ``(ptrval)``, ``(____ptrval____)`` for hidden ones (%p of kernels up to 4.14, and since);
* blanks where the tab was.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

WIDTHS = (16, 8)
"""Digits of an address."""

FIELDS_BEHIND = len(" T n")
"""Bytes behind the address that a line has at least."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
WIDE = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))

LINE = re.compile(
    rb"[ \t]*(?:[0-9a-fA-F]{16}|[0-9a-fA-F]{8}|\?{16}|\?{8}|\(null\)|\(_*ptrval_*\)|(?<![^\n])(?:[ ]{16}|[ ]{8}))"
    rb"[ \t]+[A-Za-z?-][ \t]+[^\s]"
)
"""How a symbol's line begins; those of undefined symbols have no address, those of unknown ones question marks."""

NULL = re.compile(rb"^[ \t]*\(null\)[ \t]+([A-Za-z?])[ \t]+(?=\S)", re.MULTILINE)
HIDDEN = re.compile(rb"^[ \t]*\(_*ptrval_*\)[ \t]+([A-Za-z?])[ \t]+(?=\S)", re.MULTILINE)
COLUMNS = re.compile(
    rb"^[ \t]*([0-9a-fA-F]{16}|[0-9a-fA-F]{8}|\?{16}|\?{8})[ \t]+([A-Za-z?-])[ \t]+(?=\S)", re.MULTILINE
)
OWNER = re.compile(rb"(?<![ \t])[ \t]+(\[[^\]\s]*\])$", re.MULTILINE)
END = re.compile(rb"(?<![ \t\r])[ \t\r]+$", re.MULTILINE)
"""Both begin where blanks do, so that long runs of these are passed over once."""


def begins_listing(beginning: bytes) -> bool:
    """Whether a file that begins so lists symbols: text, with a symbol in one of its lines."""
    text = plain(beginning)
    if b"\0" in text:
        return False
    return any(LINE.match(line) for line in text.splitlines())


def plain(text: bytes) -> bytes:
    """The text in bytes of ASCII, without a byte order mark."""
    for mark, encoding in WIDE:
        if text.startswith(mark):
            return text[len(mark) : len(text) & ~1].decode(encoding, "replace").encode("latin-1", "replace")
    return text.removeprefix(BYTE_ORDER_MARK)


def tidy(text: bytes) -> bytes:
    """The text in the form of /proc/kallsyms, line by line, as far as lines can be brought into it."""
    text = OWNER.sub(rb"\t\1", COLUMNS.sub(rb"\1 \2 ", END.sub(b"", text)))
    if b"(null)" in text or b"ptrval" in text:
        width = address_width(text) or WIDTHS[0]
        text = HIDDEN.sub(rb"%s \1 " % (b"?" * width), NULL.sub(rb"%s \1 " % (b"0" * width), text))
    return text


def split(data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each line begins and where it ends, without what ends it; shape (n,) each.

    Nothing behind the last line break is no line.
    """
    breaks = np.flatnonzero(data == ord("\n"))
    starts = np.concatenate(([0], breaks + 1)).astype(np.int64)
    ends = np.append(breaks, len(data)).astype(np.int64)
    if starts[-1] == len(data):
        starts, ends = starts[:-1], ends[:-1]
    ends -= (ends > starts) & (data[np.maximum(ends - 1, 0)] == ord("\r"))
    return starts, ends


def address_width(text: bytes) -> int | None:
    """The digits of most lines' addresses, 16 or 8; None if no line has any."""
    data = np.frombuffer(text, np.uint8)
    starts, ends = split(data)
    counts = []
    for width in WIDTHS:
        long = starts[ends - starts >= width + FIELDS_BEHIND]
        fits = (data[long + width] == ord(" ")) & (data[long + width + 2] == ord(" ")) & (data[long] != ord(" "))
        counts.append(int(fits.sum()))
    return WIDTHS[int(np.argmax(counts))] if any(counts) else None
