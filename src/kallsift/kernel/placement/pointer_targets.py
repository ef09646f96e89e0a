"""Count the words of an image that equal symbols: they prove the symbols' addresses.

On processors with two instruction sets, bit 0 of a pointer to code chooses the shorter one: on arm a kernel that is
built with CONFIG_THUMB2_KERNEL (Arm Architecture Reference Manual, "BX"), on MIPS one of microMIPS (MIPS Architecture
for Programmers, volume II-B, "ISA mode"). nm clears the bit, so such pointers are one more than the symbol. Whether an
image's pointers have the bit set is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct, is_in_ascending
from kallsift.kallsyms.symbol_table import SymbolTable

CODE_LETTERS = np.frombuffer(b"TtWwi?", np.uint8)
"""Letters that nm prints for functions; up to 2.6.9 no table has letters."""

MIN_MARKED = 16
"""Number of distinct pointers with bit 0 that must be one more than a function before the bit is taken for a mark."""

CHANCE = 1.5
"""Lowest ratio of these to those by chance."""

SHIFTS = (0x40, 0x1000, 0x2340, 0x10000)
"""Shifts of pointers, to count how many equal a symbol by chance; even, so that bit 0 stays."""

ODD = np.uint64(1)

Addresses = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Targets:
    """Possible targets of an image's pointers.

    Attributes:
        addresses: addresses of its symbols, ascending, shape (n,), uint64.
        code: those of functions, ascending, shape (m,), uint64.
    """

    addresses: Addresses
    code: Addresses

    def __len__(self) -> int:
        return len(self.addresses)


@dataclass(frozen=True)
class Hits:
    """Numbers of distinct words of an image that equal a symbol.

    Attributes:
        count: number of words that do.
        by_chance: number of words that would by chance, the mean over shifted tables.
        distinct: number of all words that were compared.
        code_bit: whether bit 0 is set in pointers to code.
    """

    count: int
    by_chance: float
    distinct: int
    code_bit: bool = False


def targets(symbols: SymbolTable, chosen: NDArray[np.bool_]) -> Targets:
    """Make targets of some symbols.

    Args:
        symbols: the table.
        chosen: mask of the symbols, shape (n,).
    """
    code = chosen & np.isin(symbols.types(), CODE_LETTERS)
    # a stable sort is fast here, because the addresses are mostly in order already
    every, functions = (np.sort(symbols.addresses[mask], kind="stable") for mask in (chosen, code))
    return Targets(every, functions)


def hits_on_symbols(values: Addresses, own: Targets, code_bit: bool | None = None) -> Hits:
    """Count the distinct words that equal a symbol's address.

    Where the code bit is used, words that are one more than a function's address count as well.

    Args:
        values: words of the image within the symbols' range.
        own: the possible targets.
        code_bit: whether bit 0 is set in pointers to code; None to measure it.
    """
    if not len(own):
        return Hits(0, 0.0, 0)
    values = distinct(values)
    marked = has_code_bit(values, own) if code_bit is None else code_bit

    def equal(shift: int) -> int:
        return int(np.count_nonzero(leads_to_symbol(values + np.uint64(shift), own, marked)))

    return Hits(equal(0), sum(equal(shift) for shift in SHIFTS) / len(SHIFTS), len(values), marked)


def leads_to_symbol(values: Addresses, own: Targets, code_bit: bool) -> NDArray[np.bool_]:
    """Tell which words equal a symbol's address.

    Args:
        values: words of the image, shape (n,).
        own: the possible targets.
        code_bit: whether bit 0 is set in pointers to code.
    """
    hits = is_in_ascending(values, own.addresses)
    return hits | _marked(values, own.code) if code_bit else hits


def has_code_bit(values: Addresses, own: Targets) -> bool:
    """Tell whether bit 0 is set in pointers to code.

    It is if more words are one more than a function than equal one.

    Args:
        values: distinct words of the image within the symbols' range, ascending.
        own: the possible targets.
    """
    before = values[values & ODD != 0] - ODD
    marked = np.count_nonzero(is_in_ascending(before, own.code))
    if marked < MIN_MARKED or marked <= np.count_nonzero(is_in_ascending(values, own.code)):
        return False
    by_chance = [np.count_nonzero(is_in_ascending(before + np.uint64(shift), own.code)) for shift in SHIFTS]
    return bool(marked >= MIN_MARKED + CHANCE * sum(by_chance) / len(SHIFTS))


def without_code_bit(values: Addresses, symbols: SymbolTable) -> Addresses:
    """Clear bit 0 of those words that are one more than a function.

    Args:
        values: words of an image whose pointers to code have the bit, shape (n,).
        symbols: its table.
    """
    own = targets(symbols, np.ones(len(symbols), np.bool_))
    return np.where(_marked(values, own.code), values - ODD, values)


def _marked(values: Addresses, code: Addresses) -> NDArray[np.bool_]:
    return np.asarray(values & ODD != 0) & is_in_ascending(values - ODD, code)
