"""Read texts with a symbol in each line.

Examples are a saved ``/proc/kallsyms``, System.map, and the output of ``nm``.

A line is ``address type name``, with ``[owner]`` behind a tab if the symbol is not built in. Other forms that people
have are brought into this one by `lines`.
"""

from __future__ import annotations

import re
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols, SymbolGroup
from kallsift.analysis.listings.lines import FIELDS_BEHIND, address_width, plain, split, tidy
from kallsift.analysis.listings.listing import Listing, SymbolColumns
from kallsift.errors import SourceError
from kallsift.kallsyms.escapes import unescaped
from kallsift.memory.memory import printable

MAX_SIZE = 1 << 28
"""Greatest size of a text in bytes; 300,000 symbols take 15 MB."""

MAX_GROUPS = 1 << 14
"""Highest number of runs of lines with the same owner."""

MAX_OTHER_LINES = 256
"""Highest number of lines of anything else in a text.

In longer texts the limit is `MAX_OTHER_SHARE` of all lines.
"""
MAX_OTHER_SHARE = 0.01

SHOWN = 60
"""Number of bytes of a line that messages show."""

_NIBBLES = np.full(256, 255, np.uint8)
for _digit in range(16):
    _NIBBLES[ord(f"{_digit:x}")] = _NIBBLES[ord(f"{_digit:X}")] = _digit
_LETTERS = np.zeros(256, np.bool_)
_LETTERS[np.frombuffer(b"?-ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", np.uint8)] = True


def read(name: str, data: NDArray[np.uint8]) -> Listing:
    """Return the symbols in a text with a symbol in each line.

    Other contents of the text are named in the listing's notes and missing.

    Args:
        name: name of the text in messages.
        data: all of it, shape (size,).

    Raises:
        SourceError: if too many lines are no symbols, all addresses are hidden, or the text is too large.
    """
    if len(data) > MAX_SIZE:
        raise SourceError(
            f"{name}: is over {MAX_SIZE >> 20} MiB of text, too much for a list of symbols; check what it is"
        )
    text = plain(data.tobytes())
    width = address_width(text)
    lines = None if width is None else _Lines(name, text, width)
    if lines is None or lines.other.any() or any(sign in text for sign in (b" [", b" \n", b"\r\r")):
        text = tidy(text)
        width = address_width(text)
        if width is None:
            raise SourceError(f"{name}: no line of it is a symbol; name a saved /proc/kallsyms or a System.map")
        lines = _Lines(name, text, width)
    return lines.listing()


class _Lines:
    """The lines of a text as columns.

    Attributes:
        other: true for lines that are neither symbols nor empty, shape (n,), bool.
    """

    def __init__(self, name: str, text: bytes, width: int) -> None:
        self._name, self._text, self._width = name, text, width
        data = np.frombuffer(text, np.uint8)
        self._starts, self._ends = split(data)
        sizes = self._ends - self._starts
        # the columns of a short line reach into the next line; zeros are appended for the last one
        self._data = np.append(data, np.zeros(width + FIELDS_BEHIND, np.uint8))
        columns = self._data[self._starts[:, None] + np.arange(width + FIELDS_BEHIND)]
        self._nibbles = _NIBBLES[columns[:, :width]]
        self._letters = columns[:, width + 1]
        self._known = (self._nibbles < 16).all(axis=1)
        lost, undefined = ((columns[:, :width] == ord(sign)).all(axis=1) for sign in "? ")
        parts = (columns[:, width] == ord(" ")) & (columns[:, width + 2] == ord(" ")) & _LETTERS[self._letters]
        named = (sizes >= width + FIELDS_BEHIND) & ~np.isin(columns[:, width + 3], np.frombuffer(b" \t\r\n", np.uint8))
        symbols = parts & named & (self._known | lost | undefined)
        self._find_owners()
        cut = (self._owner_starts >= 0) & (self._owner_ends < 0)
        self._kept = symbols & ~undefined & ~cut
        self._blank = sizes == 0
        self.other = ~symbols & ~self._blank | cut

    def listing(self) -> Listing:
        """Return the symbols, and remarks on the other lines.

        Raises:
            SourceError: if there are too many other lines, or all addresses are hidden.
        """
        notes, missing = self._complaints()
        kept = np.flatnonzero(self._kept)
        known = self._known[kept]
        addresses = np.zeros(len(kept), np.uint64)
        for column in range(self._width):
            addresses = addresses << np.uint64(4) | np.where(known, self._nibbles[kept, column], 0).astype(np.uint64)
        if not addresses.any():
            raise SourceError(
                f"{self._name}: all addresses are 0, hidden by kptr_restrict; read /proc/kallsyms as root, "
                "with sysctl kernel.kptr_restrict=1"
            )
        if not known.all():
            # an unknown address gets that of the symbol before it, as the order is that of addresses
            latest = np.maximum.accumulate(np.where(known, np.arange(len(kept)), -1))
            addresses = np.where(latest >= 0, addresses[np.maximum(latest, 0)], np.uint64(0))
        columns = self._columns(kept, addresses, known)
        owned = self._owner_starts[kept] >= 0
        symbols = columns.chosen(np.flatnonzero(~owned)).by_address().table(self._width // 2)
        modules = self._groups(columns, kept, np.flatnonzero(owned & known & (columns.letters != 0)))
        return Listing(symbols, DynamicSymbols(modules), notes, missing)

    def _groups(
        self, columns: SymbolColumns, kept: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> tuple[SymbolGroup, ...]:
        """Group the symbols of some rows of the columns by their owners.

        ``kept`` has the line of each row of the columns.
        """
        groups: list[SymbolGroup] = []
        starts, ends = (bounds[kept[rows]].tolist() for bounds in (self._owner_starts, self._owner_ends))
        for owner, run in groupby(
            zip(rows.tolist(), starts, ends, strict=True), lambda row: self._text[row[1] : row[2]]
        ):
            if len(groups) == MAX_GROUPS:
                raise SourceError(
                    f"{self._name}: lists over {MAX_GROUPS:,} modules, more than any kernel loads; check what it is"
                )
            table = columns.chosen(np.array([row[0] for row in run], np.int64)).table(self._width // 2)
            groups.append(SymbolGroup(unescaped(owner).decode("latin-1"), table))
        return tuple(groups)

    def _find_owners(self) -> None:
        """Find the text in brackets behind the first tab of each line.

        Its bounds are -1 if there is none.
        """
        tabs = np.append(np.flatnonzero(self._data == ord("\t")), len(self._data))
        first = tabs[np.searchsorted(tabs, self._starts + self._width + FIELDS_BEHIND - 1)]
        tabbed = first < self._ends
        opened = tabbed & (self._data[np.minimum(first + 1, len(self._data) - 1)] == ord("["))
        closed = opened & (self._data[self._ends - 1] == ord("]"))
        self._owner_starts = np.where(opened, first + 2, -1)
        self._owner_ends = np.where(closed, self._ends - 1, -1)
        self._name_ends = np.where(tabbed, first, self._ends)

    def _columns(
        self, kept: NDArray[np.int64], addresses: NDArray[np.uint64], known: NDArray[np.bool_]
    ) -> SymbolColumns:
        """Return the symbols in some lines.

        Escaped names are decoded and appended to the text itself.
        """
        starts, ends = self._starts[kept] + self._width + len(" T "), self._name_ends[kept]
        letters = self._letters[kept]
        unnamed = (ends - starts == 1) & (self._data[starts] == ord("?")) & (letters == ord("?"))
        letters = np.where(unnamed, 0, letters).astype(np.uint8)
        escapes = np.flatnonzero(self._data == ord("\\"))
        pieces, size = [self._data], len(self._data)
        following = np.append(escapes, size)[np.searchsorted(escapes, starts)]
        for row in np.flatnonzero(following < ends).tolist():
            name = np.frombuffer(unescaped(self._text[starts[row] : ends[row]]), np.uint8)
            pieces.append(name)
            starts[row], ends[row] = size, size + len(name)
            size += len(name)
        return SymbolColumns(np.concatenate(pieces), starts, ends, letters, addresses, known)

    def _complaints(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return notes on the lines around the listing, and on lines missing from it.

        Lines that are no symbols are described. They are notes if they stand before or behind the listing and do not
        begin as a symbol does; otherwise a symbol is missing.

        Raises:
            SourceError: if there are too many of these lines, or no symbols.
        """
        rows, kept = np.flatnonzero(self.other), np.flatnonzero(self._kept)
        if len(rows) > max(MAX_OTHER_LINES, MAX_OTHER_SHARE * len(self.other)) or not len(kept):
            raise SourceError(f"{self._name}: has {self._described(rows)}; name a saved /proc/kallsyms or a System.map")
        begun = np.array([self._begins_symbol(row) for row in rows.tolist()], np.bool_)
        around = ((rows < kept[0]) | (rows > kept[-1])) & ~begun
        notes: tuple[str, ...] = (f"{self._name}: skipped {self._described(rows[around])}",) if around.any() else ()
        inside = rows[~around]
        missing = (
            (f"{self._name}: has {self._described(inside)} among its symbols; save the text again",)
            if len(inside)
            else ()
        )
        if not self._text.endswith(b"\n"):
            notes += (f"{self._name}: its last line has no line end, so its name may be cut off",)
        return notes, missing

    def _begins_symbol(self, row: int) -> bool:
        """Tell whether a line that is no symbol is the beginning of one, or a damaged one."""
        line = self._text[self._starts[row] : self._ends[row]].strip()
        digits = re.match(rb"[0-9a-fA-F]*", line)
        return digits is not None and digits.end() >= min(4, len(line))

    def _described(self, rows: NDArray[np.int64]) -> str:
        """Describe some lines that are no symbols, in words."""
        first = int(rows[0]) if len(rows) else 0
        shown = self._text[self._starts[first] : min(self._ends[first], self._starts[first] + SHOWN)].decode("latin-1")
        which = f"line {first + 1}: {printable(shown)}"
        if len(rows) > 1:
            return f"{len(rows):,} lines that are not symbols (the first is {which})"
        return f"a line that is not a symbol ({which})"
