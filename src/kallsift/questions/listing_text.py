"""Texts with a symbol in each line: a saved ``/proc/kallsyms``, System.map, what ``nm`` prints.

A line is ``address type name``, with ``[owner]`` behind a tab where the symbol is none of the built-in ones.
"""

from __future__ import annotations

import re
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.questions.dynamic import Dynamic, Group
from kallsift.questions.listing import Listing, table_of

LINE = re.compile(rb"(?:[ ?]{8}|[ ?]{16}|[0-9a-fA-F]{8}|[0-9a-fA-F]{16}) [A-Za-z?-] [^\s]")
"""How a line begins; those of undefined and of unknown symbols have no address."""

BEGINNING = 64
"""Bytes at the beginning of a text that tell what it is."""

LARGEST = 1 << 28
"""Bytes of a text at most; 300,000 symbols take 15 MB."""

MAX_GROUPS = 1 << 14
"""Runs of lines with the same owner at most."""

ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
"""A control character in a name, as kallsift prints it."""

SEPARATORS = b"\t\n\r "

_NIBBLES = np.full(256, 255, np.uint8)
for _digit in range(16):
    _NIBBLES[ord(f"{_digit:x}")] = _NIBBLES[ord(f"{_digit:X}")] = _digit


def probe(data: NDArray[np.uint8]) -> bool:
    """Whether a file begins as such a text does."""
    return LINE.match(data[:BEGINNING].tobytes()) is not None


def read(name: str, data: NDArray[np.uint8]) -> Listing:
    """The symbols in such a text; lines of undefined and of unknown ones are passed over.

    Args:
        name: what messages call the text.
        data: all of it, shape (size,).

    Raises:
        SourceError: if a line is no symbol, all addresses are hidden, or the text is too large.
    """
    if len(data) > LARGEST:
        raise SourceError(f"{name}: over {LARGEST >> 20} MiB of text, which is no kernel's; check what it is")
    if (data == ord("\\")).any():
        data = np.frombuffer(ESCAPED.sub(_unescaped, data.tobytes()), np.uint8)
    starts, ends = _lines(data)
    begins = LINE.match(data[:BEGINNING].tobytes())
    if begins is None:
        raise SourceError(f"{name}: does not begin with a symbol; name a saved /proc/kallsyms or a System.map")
    longest = len(begins[0]) - 1
    width = longest - len(" T ")
    _check(name, ends - starts > longest)
    columns = data[starts[:, None] + np.arange(longest)]
    blank = (columns[:, :width] == ord(" ")) | (columns[:, :width] == ord("?"))
    nibbles = _NIBBLES[columns[:, :width]]
    digits, absent = (nibbles < 16).all(axis=1), blank.all(axis=1)
    good = (digits | absent) & (columns[:, width] == ord(" ")) & (columns[:, width + 2] == ord(" "))
    _check(name, good)
    addresses = np.zeros(len(starts), np.uint64)
    for column in range(width):
        addresses = addresses << np.uint64(4) | nibbles[:, column].astype(np.uint64)
    kept = np.flatnonzero(digits)
    if not addresses[kept].any():
        raise SourceError(
            f"{name}: all addresses are 0, hidden by kptr_restrict; read /proc/kallsyms as root, "
            "with sysctl kernel.kptr_restrict=1"
        )
    letters, starts, ends, addresses = columns[kept, width + 1], starts[kept] + longest, ends[kept], addresses[kept]
    tabs = np.append(np.flatnonzero(data == ord("\t")), len(data))
    tab = tabs[np.searchsorted(tabs, starts)]
    owned = tab < ends
    core = np.flatnonzero(~owned)
    word_size = width // 2
    symbols = table_of(data, starts[core], ends[core], letters[core], addresses[core], word_size)
    groups: list[Group] = []
    others = np.flatnonzero(owned)
    text = data.tobytes()
    bounds = zip(others.tolist(), tab[others].tolist(), ends[others].tolist(), strict=True)
    for owner, run in groupby(bounds, key=lambda line: text[line[1] : line[2]]):
        if len(groups) == MAX_GROUPS:
            raise SourceError(f"{name}: over {MAX_GROUPS:,} modules: a contrived text")
        lines = np.array([line[0] for line in run], np.int64)
        table = table_of(data, starts[lines], tab[lines], letters[lines], addresses[lines], word_size, in_order=False)
        groups.append(Group(owner.strip(b"\t []").decode("latin-1"), table))
    return Listing(symbols, Dynamic(tuple(groups)))


def _check(name: str, good: NDArray[np.bool_]) -> None:
    """Says which line is the first that is no symbol."""
    if not good.all():
        raise SourceError(f"{name}: line {int(np.argmin(good)) + 1} (of those not empty) is no symbol; copy it again")


def _lines(data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each line that is not empty begins, and where it ends, without what ends it."""
    breaks = np.flatnonzero(data == ord("\n"))
    starts = np.concatenate(([0], breaks + 1)).astype(np.int64)
    ends = np.append(breaks, len(data)).astype(np.int64)
    ends -= (ends > starts) & (data[np.maximum(ends - 1, 0)] == ord("\r"))
    some = ends > starts
    return starts[some], ends[some]


def _unescaped(found: re.Match[bytes]) -> bytes:
    """The character, unless it would part lines or fields."""
    character = bytes([int(found[1], 16)])
    return found[0] if character in SEPARATORS else character
