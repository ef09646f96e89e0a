"""Hold the symbol table of one kernel as arrays, in the kernel's own order and with duplicates.

Python objects for symbols are made on demand only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import pairwise
from operator import index as as_index
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

from kallsift.addresses import VirtualAddress
from kallsift.kallsyms.escapes import escaped, letter_text


@dataclass(frozen=True, repr=False)
class Symbol:
    """One entry of the table.

    Attributes:
        address: address in the running kernel (per-CPU symbols of x86-64 up to 6.14: the per-CPU offset).
        type: the letter that ``nm`` and ``/proc/kallsyms`` print.
        name: the name without the letter.
        index: position in the kernel's own order.
    """

    address: VirtualAddress
    type: str
    name: str
    index: int

    def __repr__(self) -> str:
        return f"<Symbol {self.address:#x} {letter_text(self.type)} {escaped(self.name)}>"


@dataclass(frozen=True, repr=False)
class Location:
    """An address, given as a symbol and the distance from it.

    Attributes:
        symbol: the nearest symbol at or below the address.
        offset: distance from the symbol, in bytes.
        size: distance from the symbol to the next greater address in the table; None for the last.
    """

    symbol: Symbol
    offset: int
    size: int | None

    def __str__(self) -> str:
        """Return the location as the kernel writes it, safe to print.

        The size is left out if there is none.
        """
        size = "" if self.size is None else f"/{self.size:#x}"
        return f"{escaped(self.symbol.name)}+{self.offset:#x}{size}"

    def __repr__(self) -> str:
        return f"<Location {self}>"


@dataclass(frozen=True, eq=False, repr=False)
class SymbolTable:
    """All symbols of one kernel.

    Attributes:
        addresses: shape (n,), uint64, in table order (non-decreasing); an unknown address repeats the last known one.
        characters: type letter and name of each symbol, end to end without separators, uint8.
        bounds: shape (n + 1,), int64; symbol i is ``characters[bounds[i]:bounds[i + 1]]``, empty where its name is
            unknown.
        word_size: bytes of an address, 4 or 8.
        known_addresses: shape (n,), bool; None where all are known.
    """

    addresses: NDArray[np.uint64]
    characters: NDArray[np.uint8]
    bounds: NDArray[np.int64]
    word_size: int
    known_addresses: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.addresses)

    def __repr__(self) -> str:
        return f"<SymbolTable: {len(self):,} symbols of {8 * self.word_size} bits>"

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields for a pickle, without the cached values that follow from them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __iter__(self) -> Iterator[Symbol]:
        """Yield the symbols in the kernel's own order; skip those that are not whole."""
        return (self.symbol(index) for index in np.flatnonzero(self.whole).tolist())

    def same_as(self, other: SymbolTable) -> bool:
        """Tell whether both tables have the same names at the same addresses."""
        return np.array_equal(self.addresses, other.addresses) and self.same_text_as(other)

    def same_text_as(self, other: SymbolTable) -> bool:
        """Tell whether both tables have the same letters and names in the same order."""
        return np.array_equal(self.bounds, other.bounds) and np.array_equal(self.characters, other.characters)

    def begins(self, other: SymbolTable) -> bool:
        """Tell whether the other table begins with all symbols of this one.

        The addresses must be the same too; the other table may have more symbols behind them.
        """
        count, bounds = len(self), other.bounds[: len(self) + 1]
        characters = other.characters[: bounds[-1]]
        return self.same_as(replace(other, addresses=other.addresses[:count], characters=characters, bounds=bounds))

    @cached_property
    def named(self) -> NDArray[np.bool_]:
        """Mask of the symbols whose name is known, shape (n,)."""
        result: NDArray[np.bool_] = self.bounds[1:] > self.bounds[:-1]
        return result

    @cached_property
    def whole(self) -> NDArray[np.bool_]:
        """Mask of the symbols whose name and address are known, shape (n,)."""
        return self.named if self.known_addresses is None else self.named & self.known_addresses

    def symbol(self, index: int) -> Symbol:
        """Return the symbol at ``index`` of the kernel's own order.

        A negative index counts from the end.

        Raises:
            IndexError: if the index is out of range.
            KeyError: if the symbol's name or address is unknown.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no symbol {index} in a table of {len(self)}")
        index %= len(self)
        if not self.whole[index]:
            raise KeyError(index)
        text = self._text[self.bounds[index] : self.bounds[index + 1]].decode("latin-1")
        return Symbol(VirtualAddress(int(self.addresses[index])), text[0], text[1:], index)

    @overload
    def __getitem__(self, key: str | SupportsIndex) -> Symbol: ...

    @overload
    def __getitem__(self, key: slice) -> tuple[Symbol, ...]: ...

    def __getitem__(self, key: str | SupportsIndex | slice) -> Symbol | tuple[Symbol, ...]:
        """Return the first symbol of a name, the one at an index, or those of a slice.

        Symbols are in the kernel's order. A slice leaves out the symbols whose name or address is unknown, as iteration
        does.

        Raises:
            KeyError: if no symbol has that name, or the symbol's name or address is unknown.
            IndexError: if the index is out of range.
            TypeError: if the key is neither text nor number nor slice.
        """
        if isinstance(key, slice):
            return tuple(self.symbol(index) for index in range(*key.indices(len(self))) if self.whole[index])
        if not isinstance(key, str):
            return self.symbol(as_index(key))
        found = self.find(key)
        if found is None:
            raise KeyError(key)
        return self.symbol(found)

    def __reversed__(self) -> Iterator[Symbol]:
        """Yield the symbols of iteration, the last one first."""
        return (self.symbol(index) for index in np.flatnonzero(self.whole)[::-1].tolist())

    def __contains__(self, key: object) -> bool:
        """Tell whether there is a symbol of that name, or this very symbol."""
        if isinstance(key, Symbol):
            return 0 <= key.index < len(self) and bool(self.whole[key.index]) and self.symbol(key.index) == key
        return isinstance(key, str) and self.find(key) is not None

    def all(self, name: str) -> tuple[Symbol, ...]:
        """Return all symbols of a name, in the kernel's order; empty if there is none."""
        return tuple(self.symbol(int(index)) for index in self._matches(name))

    def find(self, name: str) -> int | None:
        """Return the index of the first symbol of a name with a known address, or None."""
        matches = self._matches(name)
        return int(matches[0]) if len(matches) else None

    def beginning(self, text: bytes) -> NDArray[np.int64]:
        """Return the indices of the symbols whose names begin with a text and go on.

        The indices are ascending; shape (n,), int64.
        """
        wanted = np.frombuffer(text, np.uint8)
        long = np.flatnonzero((np.diff(self.bounds) > len(wanted) + 1) & self.whole)
        cells = self.characters[self.bounds[long][:, None] + np.arange(1, len(wanted) + 1)]
        result: NDArray[np.int64] = long[(cells == wanted).all(axis=1)]
        return result

    def at(self, address: int) -> Location | None:
        """Return the symbol that an address belongs to, and the distance from it.

        This is the symbol that the kernel's own look-up names: of several symbols at one address, the first in table
        order. None below the first symbol, and where name or address of that symbol is unknown.
        """
        if not 0 <= address < 1 << 64:
            return None
        after = int(np.searchsorted(self.addresses, np.uint64(address), side="right"))
        if not after:
            return None
        start = self.addresses[after - 1]
        first = int(np.searchsorted(self.addresses, start, side="left"))
        size = int(self.addresses[after] - start) if after < len(self) else None
        # a symbol whose address is unknown lies anywhere between its neighbours
        if not self.whole[first] or (self.known_addresses is not None and not self.known_addresses[first:after].all()):
            return None
        return Location(self.symbol(first), address - int(start), size)

    def names(self) -> list[str]:
        """Return all names in table order, without their letters; empty where unknown."""
        text, bounds = self._text.decode("latin-1"), self.bounds.tolist()
        return [text[a + 1 : b] for a, b in pairwise(bounds)]

    def types(self) -> NDArray[np.uint8]:
        """Return the type letters, shape (n,), uint8; ``?`` where unknown."""
        result = np.full(len(self), ord("?"), np.uint8)
        result[self.named] = self.characters[self.bounds[:-1][self.named]]
        return result

    def to_numpy(self) -> dict[str, NDArray[Any]]:
        """Return the columns as arrays of one length, a row for each symbol.

        The rows are those symbols that iteration yields.

        Returns:
            ``address``, uint64; ``type``, U1, the letters; ``name``, StringDType; ``index``, int64, the position in the
            kernel's own order: it skips the symbols of which something is unknown.
        """
        from kallsift.kallsyms.data_frames import numpy_columns

        return numpy_columns(self)

    def to_pandas(self) -> Any:
        """Return the columns of `to_numpy` as a ``pandas.DataFrame``.

        Raises:
            KallsiftError: if pandas is not installed.
        """
        from kallsift.kallsyms.data_frames import pandas_frame

        return pandas_frame(self)

    def to_polars(self) -> Any:
        """Return the columns of `to_numpy` as a ``polars.DataFrame``.

        Raises:
            KallsiftError: if polars is not installed.
        """
        from kallsift.kallsyms.data_frames import polars_frame

        return polars_frame(self)

    def to_arrow(self) -> Any:
        """Return the columns of `to_numpy` as a ``pyarrow.Table``.

        Raises:
            KallsiftError: if pyarrow is not installed.
        """
        from kallsift.kallsyms.data_frames import arrow_table

        return arrow_table(self)

    @cached_property
    def _text(self) -> bytes:
        return self.characters.tobytes()

    @cached_property
    def _sizes(self) -> NDArray[np.uint32]:
        """Number of characters of each symbol, its letter included, shape (n,), uint32.

        It is kept because names are looked up often.
        """
        return np.diff(self.bounds).astype(np.uint32)

    def _matches(self, name: str) -> NDArray[np.int64]:
        """Return the indices of the symbols called ``name`` whose address is known.

        Symbols are chosen by their length first, then by their characters.
        """
        # names are bytes, so a text with a character above 0xff matches nothing, as the empty name does
        wanted = np.frombuffer(name.encode("latin-1") if name.isascii() or max(name) <= "\xff" else b"", np.uint8)
        alike = np.flatnonzero(self._sizes == len(wanted) + 1)
        # comparing the last character and one in the middle leaves few of thousands
        for place in (len(wanted), len(wanted) // 2) if len(wanted) > 1 else ():
            alike = alike[self.characters[self.bounds[alike] + place] == wanted[place - 1]]
        cells = self.characters[self.bounds[alike][:, None] + np.arange(1, len(wanted) + 1)]
        result: NDArray[np.int64] = alike[(cells == wanted).all(axis=1)]
        return result[self.whole[result]]
