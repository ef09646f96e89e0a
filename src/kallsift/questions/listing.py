"""Listing: a kernel's symbols from wherever they are written down, be it memory, a text file or an ELF file's table."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.table import SymbolTable
from kallsift.questions.dynamic import Dynamic


@dataclass(frozen=True, eq=False)
class Listing:
    """The symbols of one kernel.

    Attributes:
        symbols: the built-in ones, in the order of their addresses.
        dynamic: all others; empty where nothing but built-in ones is written down.
    """

    symbols: SymbolTable
    dynamic: Dynamic = field(default_factory=Dynamic)


def table_of(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    letters: NDArray[np.uint8],
    addresses: NDArray[np.uint64],
    word_size: int,
    *,
    in_order: bool = True,
) -> SymbolTable:
    """A table of names that stand somewhere in a file.

    Args:
        data: the file, shape (size,).
        starts: where each name begins, shape (n,).
        ends: where it ends, shape (n,).
        letters: the symbols' types, shape (n,).
        addresses: shape (n,).
        word_size: bytes of an address.
        in_order: whether the table is to be in the order of the addresses, else in that of the arguments.
    """
    if in_order and (addresses[1:] < addresses[:-1]).any():
        order = np.argsort(addresses, kind="stable")
        starts, ends, letters, addresses = starts[order], ends[order], letters[order], addresses[order]
    sizes = ends - starts
    bounds = np.concatenate(([0], np.cumsum(sizes + 1))).astype(np.int64)
    # where each character comes from: a letter, then the name's own
    source = np.arange(bounds[-1]) - np.repeat(bounds[:-1] + 1 - starts, sizes + 1)
    source[bounds[:-1]] = 0
    characters = data[source] if len(source) else np.empty(0, np.uint8)
    characters[bounds[:-1]] = letters
    return SymbolTable(addresses, characters, bounds, word_size)
