"""Represent lines of ``/proc/kallsyms`` that name an owner in brackets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.symbol_table import SymbolTable

Line = tuple[int, str, bytes]
"""Address, letter and name of a symbol."""


@dataclass(frozen=True, eq=False)
class OwnedLines:
    """Symbols of one owner.

    Attributes:
        owner: the text that ``/proc/kallsyms`` writes in brackets.
        lines: in the order in which it prints them.
        sizes: size of each symbol in bytes, shape (n,), uint64; None if the kernel stores no sizes.
    """

    owner: str
    lines: tuple[Line, ...]
    sizes: NDArray[np.uint64] | None = None

    def table(self, word_size: int) -> SymbolTable:
        """Return the lines as a symbol table.

        ``word_size`` is the size of an address in bytes.
        """
        texts = [letter.encode() + name for _, letter, name in self.lines]
        bounds = np.concatenate(([0], np.cumsum([len(text) for text in texts]))).astype(np.int64)
        addresses = np.array([address for address, _, _ in self.lines], np.uint64)
        return SymbolTable(addresses, np.frombuffer(b"".join(texts), np.uint8), bounds, word_size)
