"""Represent a kernel's symbols from any source.

The source can be memory, a text file or the symbol table of an ELF file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols
from kallsift.kallsyms.symbol_table import SymbolTable


@dataclass(frozen=True, eq=False, repr=False)
class Listing:
    """The symbols of one kernel.

    Attributes:
        symbols: the built-in ones, in the order of their addresses.
        dynamic: all others; empty if the source has only built-in ones.
        notes: other contents of the source, one line each.
        missing: contents that cannot be used, so that symbols are missing; one line each.
    """

    symbols: SymbolTable
    dynamic: DynamicSymbols = field(default_factory=DynamicSymbols)
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Listing: {len(self.symbols):,} built-in symbols, {self.dynamic.symbol_count:,} others>"


@dataclass(frozen=True, eq=False)
class SymbolColumns:
    """Symbols whose names stand in a file, shape (n,) each except for the file.

    Attributes:
        data: the file, shape (size,), uint8.
        starts: offset of the first byte of each name, int64.
        ends: offset behind each name, int64.
        letters: type letters, uint8; 0 if name and type are unknown.
        addresses: uint64; for an unknown one, the address of the symbol before it.
        known: true for known addresses, bool.
    """

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    letters: NDArray[np.uint8]
    addresses: NDArray[np.uint64]
    known: NDArray[np.bool_]

    def chosen(self, rows: NDArray[np.integer[Any]]) -> SymbolColumns:
        """Return the symbols of some rows."""
        columns = (self.starts, self.ends, self.letters, self.addresses, self.known)
        return SymbolColumns(self.data, *(column[rows] for column in columns))

    def by_address(self) -> SymbolColumns:
        """Return the same symbols in the order of their addresses."""
        if (self.addresses[1:] >= self.addresses[:-1]).all():
            return self
        return self.chosen(np.argsort(self.addresses, kind="stable"))

    def table(self, word_size: int) -> SymbolTable:
        """Return a symbol table with these symbols, in their order.

        ``word_size`` is the size of an address in bytes.
        """
        named = self.letters != 0
        sizes = np.where(named, self.ends - self.starts + 1, 0)
        bounds = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
        # index of each character in the file; each name's first place gets its letter below
        source = np.arange(bounds[-1]) - np.repeat(bounds[:-1] + 1 - self.starts, sizes)
        letter_places = bounds[:-1][named]
        source[letter_places] = 0
        characters = self.data[source] if len(source) else np.empty(0, np.uint8)
        characters[letter_places] = self.letters[named]
        return SymbolTable(self.addresses, characters, bounds, word_size, None if self.known.all() else self.known)
