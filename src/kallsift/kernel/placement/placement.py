"""Describe a placement: the addresses at which a kernel's image is mapped, and the evidence for them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.paging import Mapping
from kallsift.kallsyms.evidence import Check
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.placement.pointers import (
    AFTER,
    BEFORE,
    Words,
)

CHANCE = 1.5
"""Lowest ratio of words that equal symbols to those that would by chance, before they prove anything."""

LEAST_LISTS = 8
"""Lowest number of lists through memory outside the image that only a running kernel has."""

CODE = (("_stext", "_etext"), ("_sinittext", "_einittext"))
"""Symbols at the beginning and the end of machine code."""


@dataclass(frozen=True, eq=False)
class Placement:
    """A kernel's symbols with their addresses, and its mapping.

    Attributes:
        symbols: the table with its addresses.
        distance: virtual address less address in the source of each byte of the image, modulo 2^64.
        words: size and byte order of the kernel's words.
        mapping: the mapping of the image; None if none is known.
        root: physical address of its page table; None if there is none.
        lists: number of lists that run through memory outside the image and close.
        ran: whether the image's data show that it ran; determined only if it does not run.
        checks: the evidence.
        hits: number of distinct words of the image that equal symbols.
        code_bit: whether bit 0 is set in the image's pointers to code.
        has_strings: whether pointers lead to the strings of the image.
    """

    symbols: SymbolTable
    distance: int
    words: Words
    checks: tuple[Check, ...]
    mapping: Mapping | None = None
    root: int | None = None
    lists: int = 0
    ran: bool = False
    hits: int = 0
    code_bit: bool = False
    has_strings: bool = False

    def with_checks(self, *checks: Check) -> Placement:
        """Return the same placement with more evidence."""
        return replace(self, checks=(*self.checks, *checks))

    @property
    def running(self) -> bool:
        """True if the image is mapped and enough of its lists are intact."""
        return self.mapping is not None and self.lists >= LEAST_LISTS

    @property
    def code_ranges(self) -> list[tuple[int, int]]:
        """The ranges of machine code, see `code_ranges`."""
        return code_ranges(self.symbols, self.distance, self.words)

    def physical(self, virtual: int) -> int:
        """Return the address in the source of a byte of the image."""
        return virtual - self.distance & self.words.mask

    def virtual(self, physical: int) -> int:
        """Return the virtual address of a byte of the image."""
        return physical + self.distance & self.words.mask


def code_ranges(symbols: SymbolTable, distance: int, words: Words) -> list[tuple[int, int]]:
    """Return source address and size of an image's ranges of machine code.

    They are known as far as symbols tell.
    """
    known = [(symbols[low].address, symbols[high].address) for low, high in CODE if low in symbols and high in symbols]
    return [(low - distance & words.mask, high - low) for low, high in known if high > low]


def is_near(addresses: NDArray[np.uint64], words: Words, inside: int) -> NDArray[np.bool_]:
    """Tell which addresses can belong to the image that an address is in.

    Others are absolute values or offsets into the per-CPU area. Or they are objects that a kernel allocates: these
    point at themselves too, through the direct map, far from the image's addresses.
    """
    low = np.uint64(inside - BEFORE & words.mask)
    return np.asarray(words.wrap(addresses - low) < np.uint64(BEFORE + AFTER))
