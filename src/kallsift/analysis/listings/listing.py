"""Listing: a kernel's symbols from wherever they are written down, be it memory, a text file or an ELF file's table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kallsift.analysis.dynamic.dynamic_symbols import Dynamic
from kallsift.kallsyms.symbol_table import SymbolTable


@dataclass(frozen=True, eq=False)
class Listing:
    """The symbols of one kernel.

    Attributes:
        symbols: the built-in ones, in the order of their addresses.
        dynamic: all others; empty where nothing but built-in ones is written down.
        notes: what else stands where they are written down, each one line.
        missing: what is written down but cannot be used, so that symbols lack; each one line.
    """

    symbols: SymbolTable
    dynamic: Dynamic = field(default_factory=Dynamic)
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class SymbolColumns:
    """Symbols whose names stand somewhere in a file, shape (n,) each but for the file.

    Attributes:
        data: the file, shape (size,), uint8.
        starts: where each name begins, int64.
        ends: where it ends, int64.
        letters: the symbols' types, uint8; 0 where name and type are unknown.
        addresses: uint64; where one is unknown, that of the symbol before it.
        known: whether each address is known, bool.
    """

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    letters: NDArray[np.uint8]
    addresses: NDArray[np.uint64]
    known: NDArray[np.bool_]

    def chosen(self, rows: NDArray[np.integer[Any]]) -> SymbolColumns:
        """The symbols of some rows."""
        columns = (self.starts, self.ends, self.letters, self.addresses, self.known)
        return SymbolColumns(self.data, *(column[rows] for column in columns))

    def by_address(self) -> SymbolColumns:
        """The same in the order of their addresses."""
        if (self.addresses[1:] >= self.addresses[:-1]).all():
            return self
        return self.chosen(np.argsort(self.addresses, kind="stable"))

    def table(self, word_size: int) -> SymbolTable:
        """A table of these symbols, in their order, of addresses of so many bytes."""
        named = self.letters != 0
        sizes = np.where(named, self.ends - self.starts + 1, 0)
        bounds = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
        # where each character comes from: a letter, then the name's own
        source = np.arange(bounds[-1]) - np.repeat(bounds[:-1] + 1 - self.starts, sizes)
        letter_places = bounds[:-1][named]
        source[letter_places] = 0
        characters = self.data[source] if len(source) else np.empty(0, np.uint8)
        characters[letter_places] = self.letters[named]
        return SymbolTable(self.addresses, characters, bounds, word_size, None if self.known.all() else self.known)
