"""Write symbol tables as lines of text, thousands of lines at once.

A format only defines the parts of its line: ``before HEX between TYPE gap NAME after``, or with the name first
``before NAME between HEX gap TYPE after``. All fields except the name have
a fixed width, so thousands of lines are laid out in one byte array at once: names are copied eight bytes at a time,
then the fields around them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.lanes import LANE, lanes, writable_lanes
from kallsift.threads import in_threads

CHUNK = 1 << 13
"""Symbols per chunk: about 0.5 MB of text and 2 MB of temporaries.

The sizes do not depend on the size of the table.
"""

NAME_ESCAPES = {ord(" "): b"\\x20", ord("\\"): b"\\x5c"}
"""Printable characters that are escaped too (see `kallsift.kallsyms.escapes`)."""

_HEX_PAIRS = np.frombuffer(bytes(range(256)).hex().encode(), np.uint16)


@dataclass(frozen=True)
class RowFormat:
    """The parts of one line.

    Attributes:
        before: bytes before the digits of the address.
        between: bytes between the address and the type letter.
        gap: bytes between the type letter and the name.
        after: bytes behind the name, at least one.
        unprintable: printf pattern for control characters and bytes from 0x7f on that have no escape.
        escapes: replacements of single bytes, such as a quote.
        is_name_first: whether the name stands before the address.
        letters: what is written for each of the 256 type letters; None if the line has no letter.
    """

    before: bytes = b""
    between: bytes = b" "
    gap: bytes = b" "
    after: bytes = b"\n"
    unprintable: bytes = b"\\x%02x"
    escapes: Mapping[int, bytes] = field(default_factory=dict)
    is_name_first: bool = False
    letters: bytes | None = bytes(range(256))

    def lines(self, table: SymbolTable, addresses: NDArray[np.uint64] | None = None) -> Iterator[memoryview]:
        """Yield the table's lines in its own order, `CHUNK` symbols at a time.

        An address has 16 or 8 digits, depending on the word size. A type that is no ASCII letter is written as ``?``,
        which ``nm`` prints for an unknown one; so are each digit of an unknown address, and an unknown name.

        Args:
            table: the table.
            addresses: shape (n,), uint64; printed instead of the table's own.
        """
        if addresses is None:
            addresses = table.addresses
        return in_threads(partial(self._chunk, table, addresses), range(0, len(table), CHUNK))

    def _chunk(self, table: SymbolTable, addresses: NDArray[np.uint64], first: int) -> memoryview:
        """Return the lines of `CHUNK` symbols, starting at index ``first``."""
        bounds = table.bounds[first : first + CHUNK + 1]
        characters, bounds = table.characters[bounds[0] : bounds[-1]], bounds - bounds[0]
        characters, bounds = _with_unknown_names(characters, bounds)
        characters = _with_known_types(characters, bounds[:-1])
        if self._must_escape(characters):
            characters, bounds = self._escaped(characters, bounds)
        digits = _digits(addresses[first : first + CHUNK], table.word_size)
        if table.known_addresses is not None:
            digits[~table.known_addresses[first : first + CHUNK]] = ord("?")
        return self._laid_out(digits, characters, bounds)

    def _laid_out(
        self, digits: NDArray[np.uint8], characters: NDArray[np.uint8], bounds: NDArray[np.int64]
    ) -> memoryview:
        """Return one chunk of lines.

        Args:
            digits: shape (n, 16 or 8), uint8.
            characters: shape (m,), uint8: type letter and name of each symbol, end to end, nothing to escape in them.
            bounds: shape (n + 1,), int64, from 0 to m.
        """
        count = len(digits)
        letters = np.empty((count, 0), np.uint8)
        if self.letters is not None:
            letters = np.frombuffer(self.letters, np.uint8)[characters[bounds[:-1], None]]
        before, between, gap, after = (
            _column(text, count) for text in (self.before, self.between, self.gap, self.after)
        )
        if self.is_name_first:
            head, tail = before, np.concatenate([between, digits, gap, letters, after], axis=1)
        else:
            head, tail = np.concatenate([before, digits, between, letters, gap], axis=1), after
        name_sizes = np.diff(bounds) - 1
        sizes = head.shape[1] + name_sizes + tail.shape[1]
        ends = np.cumsum(sizes)
        starts = ends - sizes
        text = np.empty(int(ends[-1]) + LANE, np.uint8)
        # The last lane of a name writes up to seven bytes too many; heads and tails are written later, over them.
        _copy_lanes(text, starts + head.shape[1], characters, bounds[:-1] + 1, name_sizes)
        for part, places in ((head, starts), (tail, ends - tail.shape[1])):
            if part.shape[1]:
                _everywhere(text, part.shape[1])[places] = np.ascontiguousarray(part).view(f"V{part.shape[1]}")[:, 0]
        return text[:-LANE].data

    def _must_escape(self, characters: NDArray[np.uint8]) -> bool:
        """Tell whether any byte must be escaped."""
        unprintable = characters - np.uint8(0x20) >= 0x7F - 0x20
        return bool(unprintable.any()) or any(bool((characters == byte).any()) for byte in self.escapes)

    def _escaped(
        self, characters: NDArray[np.uint8], bounds: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the characters with all escapes, and the new bounds."""
        written = [self._written(byte) for byte in range(256)]
        widths = np.array([len(text) for text in written], np.int64)
        spelled = np.array([list(text.ljust(widths.max(), b"\0")) for text in written], np.uint8)
        sizes = widths[characters]
        keep = np.arange(spelled.shape[1]) < sizes[:, None]
        ends = np.concatenate(([0], np.cumsum(sizes)))
        return spelled[characters][keep], ends[bounds]

    def _written(self, byte: int) -> bytes:
        """Return the text that is written for one byte."""
        if byte in self.escapes:
            return self.escapes[byte]
        return bytes([byte]) if 0x20 <= byte < 0x7F else self.unprintable % byte


def _with_unknown_names(
    characters: NDArray[np.uint8], bounds: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the characters with ``?`` for missing types and names, and new bounds.

    A symbol without any characters gets both.
    """
    empty = bounds[1:] == bounds[:-1]
    if not empty.any():
        return characters, bounds
    places = np.repeat(bounds[:-1][empty], 2)
    longer = bounds.copy()
    longer[1:] += 2 * np.cumsum(empty)
    return np.insert(characters, places, ord("?")), longer


def _with_known_types(characters: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the characters with ``?`` at places without an ASCII letter."""
    is_no_letter = (characters[places] | np.uint8(0x20)) - np.uint8(ord("a")) >= 26
    if is_no_letter.any():
        characters = characters.copy()
        characters[places[is_no_letter]] = ord("?")
    return characters


def _digits(addresses: NDArray[np.uint64], word_size: int) -> NDArray[np.uint8]:
    """Return hexadecimal digits, shape (n, 2 * word_size), uint8.

    Addresses are cut to the word's size.
    """
    octets = addresses.astype(f">u{word_size}").view(np.uint8)
    return _HEX_PAIRS[octets].view(np.uint8).reshape(len(addresses), 2 * word_size)


def _column(text: bytes, count: int) -> NDArray[np.uint8]:
    """Return the same bytes for each line, shape (count, len(text)), without a copy."""
    return np.broadcast_to(np.frombuffer(text, np.uint8), (count, len(text)))


def _everywhere(text: NDArray[np.uint8], width: int) -> NDArray[np.void]:
    """Return a view whose item i is the ``width`` bytes from byte i on.

    So one index writes a whole piece of text.
    """
    return np.ndarray((len(text) - width + 1,), f"V{width}", buffer=text.data, strides=(1,))


def _copy_lanes(
    target: NDArray[np.uint8],
    target_at: NDArray[np.int64],
    source: NDArray[np.uint8],
    source_at: NDArray[np.int64],
    sizes: NDArray[np.int64],
) -> None:
    """Copy pieces of any size, eight bytes at a time.

    Up to seven bytes behind each piece are overwritten too.
    """
    into, out_of = writable_lanes(target), lanes(source)
    while len(sizes):
        into[target_at] = out_of[source_at]
        longer = sizes > LANE
        target_at, source_at, sizes = target_at[longer] + LANE, source_at[longer] + LANE, sizes[longer] - LANE
