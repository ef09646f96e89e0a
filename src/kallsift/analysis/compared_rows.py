"""Hold the symbols of two listings as columns, with equal numbers for equal names, and tell where they should lie.

The slide is the most frequent difference between the addresses of names that each listing has once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kallsift.addresses import VirtualAddress
from kallsift.analysis.lost_symbols import LostSymbols
from kallsift.kallsyms.symbol_table import Symbol, SymbolTable

PAGE = 4096

ABSOLUTE = np.frombuffer(b"aA", np.uint8)
"""Type letters of values that are no addresses."""

MAX_REGIONS = 8
"""Highest number of regions of a module.

These are text, data, rodata, ro_after_init, and the initial ones of these (include/linux/module.h).
"""


@dataclass(frozen=True, eq=False)
class Rows:
    """Symbols of one owner as columns, shape (n,).

    Attributes:
        names: numbers of the names; equal names have equal numbers, in both listings.
        addresses: the addresses that are compared.
        letters: type letters.
        shown: addresses as the listing has them.
        places: index of each symbol, counted through the owner's tables.
        texts: all names in these tables.
        lost: symbols that are left out because their name or address is unknown, with the addresses that they can have
            in the other listing.
    """

    names: NDArray[np.int64]
    addresses: NDArray[np.uint64]
    letters: NDArray[np.uint8]
    shown: NDArray[np.uint64]
    places: NDArray[np.int64]
    texts: Sequence[str]
    lost: LostSymbols

    def symbols(self, rows: NDArray[np.int64]) -> list[Symbol]:
        """Return the symbols of some rows."""
        columns = (column[rows].tolist() for column in (self.shown, self.letters, self.places))
        return [
            Symbol(VirtualAddress(address), chr(letter), self.texts[place], place)
            for address, letter, place in zip(*columns, strict=True)
        ]


def rows_of(first: Sequence[SymbolTable], second: Sequence[SymbolTable]) -> tuple[Rows, Rows]:
    """Return the symbols of both listings as columns."""
    before = _names(first)
    after = before if _texts_equal(first, second) else _names(second)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(chain(before, after)))}
    result = []
    for tables, texts in ((first, before), (second, after)):
        names = np.fromiter(map(numbers.__getitem__, texts), np.int64, len(texts))
        whole = np.flatnonzero(np.concatenate([table.whole for table in tables]))
        addresses = np.concatenate([table.addresses for table in tables])[whole]
        letters = np.concatenate([table.types() for table in tables])[whole]
        # bytes that are no letters are printed as question marks
        letters = np.where((letters | 0x20) - np.uint8(ord("a")) < 26, letters, ord("?")).astype(np.uint8)
        lost = LostSymbols.of(tables[0], names) if len(tables) == 1 else LostSymbols.none()
        result.append(Rows(names[whole], addresses, letters, addresses, whole, texts, lost))
    return result[0], result[1]


def _names(tables: Sequence[SymbolTable]) -> list[str]:
    return [name for table in tables for name in table.names()]


def _texts_equal(first: Sequence[SymbolTable], second: Sequence[SymbolTable]) -> bool:
    """Tell whether both list the same names with the same letters in the same order.

    Two listings of the same kernel do.
    """
    return len(first) == len(second) and all(map(SymbolTable.same_text_as, first, second))


def without_addresses(rows: Rows) -> Rows:
    """Return the rows with 0 for every compared address."""
    return replace(rows, addresses=np.zeros_like(rows.addresses))


def _singles(first: Rows, second: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of names that each listing has exactly once.

    Returns:
        Rows in the first listing, and the rows with the same names in the second.
    """
    names = []
    for rows in (first, second):
        found, places, counts = np.unique(rows.names, return_index=True, return_counts=True)
        names.append((found[counts == 1], places[counts == 1]))
    _, left, right = np.intersect1d(names[0][0], names[1][0], assume_unique=True, return_indices=True)
    return names[0][1][left], names[1][1][right]


def slide_between(first: Rows, second: Rows) -> int | None:
    """Return the most frequent difference of addresses, modulo 2^64.

    None if no name is exactly once in each listing.
    """
    left, right = _singles(first, second)
    distances, counts = np.unique(second.addresses[right] - first.addresses[left], return_counts=True)
    return int(distances[np.argmax(counts)]) if len(counts) else None


def expected_addresses(first: Rows, second: Rows, slide: int) -> NDArray[np.uint64]:
    """Return the addresses where the first listing's symbols are expected, shape (n,).

    They are addresses of built-in symbols in the second listing: moved by the slide, except for symbols outside of the
    image.
    """
    moved = first.addresses + np.uint64(slide % (1 << 64))
    left, right = _singles(first, second)
    along = first.addresses[left[second.addresses[right] == moved[left]]]
    if not slide or not len(along):
        return moved
    outside = (first.addresses < along.min()) | (first.addresses > along.max())
    still = outside & ~_held(first.names, moved, second) & _held(first.names, first.addresses, second)
    return np.where(still, first.addresses, moved)


def module_rows(first: Rows, second: Rows) -> tuple[Rows, Rows, NDArray[np.uint64]]:
    """Return a module's rows, and the expected addresses of the first listing's ones.

    The expected addresses are those in the second listing, shape (n,).
    """
    left, right = _singles(first, second)
    distances, counts = np.unique(second.addresses[right] - first.addresses[left], return_counts=True)
    if not len(counts) or not distances[np.argmax(counts)]:
        return first, second, first.addresses
    frequent = distances[np.argsort(counts, kind="stable")[::-1]]
    regions = frequent[frequent % np.uint64(PAGE) == 0][:MAX_REGIONS]
    known = left[np.isin(second.addresses[right] - first.addresses[left], regions)]
    first, second = _without_absolute(first), _without_absolute(second)
    if not len(known):
        return first, second, first.addresses
    moved = second.addresses[right[np.isin(left, known)]] - first.addresses[known]
    order = np.argsort(first.addresses[known], kind="stable")
    known, moved = known[order], moved[order]
    after = np.searchsorted(first.addresses[known], first.addresses, side="right")
    below = first.addresses + moved[np.maximum(after - 1, 0)]
    above = first.addresses + moved[np.minimum(after, len(known) - 1)]
    expected = np.where(_held(first.names, below, second), below, above)
    return first, second, np.where(np.isin(first.letters, ABSOLUTE), first.addresses, expected)


def _without_absolute(rows: Rows) -> Rows:
    """Return the rows with 0 for values that are no addresses.

    A module's per-CPU variables have other offsets in each boot.
    """
    return replace(rows, addresses=np.where(np.isin(rows.letters, ABSOLUTE), np.uint64(0), rows.addresses))


def _held(names: NDArray[np.int64], addresses: NDArray[np.uint64], rows: Rows) -> NDArray[np.bool_]:
    """Tell which pairs of a name and an address are among the rows, shape (n,)."""
    numbers = numbered(np.concatenate((names, rows.names)), np.concatenate((addresses, rows.addresses)))
    held: NDArray[np.bool_] = np.isin(numbers[: len(names)], numbers[len(names) :])
    return held


def numbered(*columns: NDArray[Any]) -> NDArray[np.int64]:
    """Return equal numbers for equal rows of some columns, shape (n,)."""
    result = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        found, inverse = np.unique(column, return_inverse=True)
        _, result = np.unique(result * max(1, len(found)) + inverse, return_inverse=True)
    return result
