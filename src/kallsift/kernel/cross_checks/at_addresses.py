"""Compare names that another source has at some addresses with the names that the table has there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.cross_checks.name_keys import Names, is_among

ALIASES = 16
"""Number of symbols at one address that are compared with a name one by one: hardly any address has more."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """The result of a comparison of names at addresses with a table.

    Attributes:
        index: index of the symbol that has the name at the address, -1 where none does; shape (n,), int64.
        there: index of the first symbol that has the address, -1 where none has; shape (n,), int64.
        known: whether some symbol has the name, there or elsewhere; shape (n,), bool.
    """

    index: NDArray[np.int64]
    there: NDArray[np.int64]
    known: NDArray[np.bool_]

    @property
    def agree(self) -> NDArray[np.bool_]:
        """Mask of the names that the table has at their addresses; shape (n,)."""
        return np.asarray(self.index >= 0)

    @property
    def displaced(self) -> NDArray[np.bool_]:
        """Mask of the names that the table has elsewhere only; shape (n,).

        One of the addresses is wrong.
        """
        return np.asarray((self.index < 0) & self.known)

    @property
    def renamed(self) -> NDArray[np.bool_]:
        """Mask of the addresses that the table has with another name only; shape (n,).

        The name that was compared is nowhere in the table.
        """
        return np.asarray((self.index < 0) & ~self.known & (self.there >= 0))


def compare(names: Names, symbols: SymbolTable, addresses: NDArray[np.uint64], keys: NDArray[np.uint64]) -> Comparison:
    """Compare names at addresses with those of a table.

    Args:
        names: names of the table.
        symbols: the table, with all names and addresses.
        addresses: addresses to compare, shape (n,), uint64.
        keys: keys of the names that another source has there, shape (n,), uint64.
    """
    there = first_at(symbols, addresses)
    index = named_at(names, symbols, there, keys)
    known = index >= 0
    rest = np.flatnonzero(~known)
    known[rest] = is_among(keys[rest], names.ascending)
    return Comparison(index, there, known)


def first_at(symbols: SymbolTable, addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the index of the first symbol at each address; shape (n,).

    -1 where there is none.
    """
    first = np.searchsorted(symbols.addresses, addresses)
    last = len(symbols) - 1
    here = (first <= last) & (symbols.addresses[np.minimum(first, last)] == addresses)
    return np.where(here, first, -1)


def named_at(
    names: Names, symbols: SymbolTable, there: NDArray[np.int64], keys: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Return the index of the symbol of a given name at each address; shape (n,).

    -1 where there is none.

    Args:
        names: names of the table.
        symbols: the table.
        there: index of the first symbol at each address, from `first_at`.
        keys: keys of the names, shape (n,), uint64.
    """
    last = len(symbols) - 1
    index = np.full(len(there), -1, np.int64)
    left = np.flatnonzero(there >= 0)
    for step in range(ALIASES):
        if not len(left):
            break
        others = np.minimum(there[left] + step, last)
        left, others = (part[symbols.addresses[others] == symbols.addresses[there[left]]] for part in (left, others))
        same = names.keys[others] == keys[left]
        index[left[same]] = others[same]
        left = left[~same]
    for first in distinct(there[left]).tolist():
        # up to 5.x all exports without a namespace share one empty text, which has a symbol for each of them
        behind = np.searchsorted(symbols.addresses, symbols.addresses[first], "right")
        order = first + np.argsort(names.keys[first:behind])
        asked = left[there[left] == first]
        places = np.minimum(np.searchsorted(names.keys[order], keys[asked]), len(order) - 1)
        same = names.keys[order[places]] == keys[asked]
        index[asked[same]] = order[places[same]]
    return index
