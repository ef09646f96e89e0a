"""Measure the width of a kernel's words: readings of one table with words of 4 and of 8 bytes can both be in order.

A pointer of 64 bits lies at a multiple of 8, and its upper half is the same in all pointers to an image. Pointers of 32
bits lie at any multiple of 4, beside any other data. So the lower halves of the symbols' addresses, searched in the
image, tell the width, whatever the reading assumes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.registry import NAME_MARKS, word_sizes_of
from kallsift.arrays import distinct
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kallsyms.recovered_tables import Tables
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.placement.placement import Placement, is_near
from kallsift.kernel.placement.pointer_targets import SHIFTS, Targets, has_code_bit, leads_to_symbol, targets
from kallsift.kernel.placement.pointers import AFTER, BEFORE, Pointers, Words, outside_of, pointers_between
from kallsift.kernel.placement.window_facts import SharedWindows, WindowFacts
from kallsift.memory.memory import Memory
from kallsift.memory.segments import BytesSegment

WORD_SIZES = (8, 4)
"""Bytes of a word, the likelier first."""

MIN_POINTERS = 64
"""Lowest number of distinct pointers to symbols that tell the width of words; fewer can be chance."""

CLEAR = 1.5
"""Lowest ratio of the pointers for one width to those for the other."""

SYSTEM_CALL = b"_sys_"
"""Common part of an architecture's names of system calls, behind the architecture's own mark."""

MIN_SYSTEM_CALLS = 64
"""Lowest number of such names in kernels of the architecture; real kernels have over 300."""

LOW_ADDRESSES = 1 << 32
"""Addresses of 64-bit kernels are not below this, except on big-endian architectures (s390x, sparc64)."""


@dataclass(frozen=True)
class WordVotes:
    """Numbers of distinct pointers of an image to its symbols, by width.

    Attributes:
        wide: pointers that are the lower half of a word of 8 bytes whose upper half is the most frequent one.
        narrow: all others.
    """

    wide: float
    narrow: float

    @property
    def word_size(self) -> int | None:
        """Bytes of a word; None where the pointers do not tell."""
        if max(self.wide, self.narrow) < MIN_POINTERS:
            return None
        if self.wide >= CLEAR * self.narrow:
            return 8
        return 4 if self.narrow >= CLEAR * self.wide else None


def word_votes(memory: Memory, tables: Tables, placement: Placement, shared: SharedWindows) -> WordVotes:
    """Count the pointers for each width.

    Args:
        memory: the memory with the tables.
        tables: one reading of them.
        placement: its placement.
        shared: facts of the windows around tables.
    """
    symbols, window = placement.symbols, memory.around(tables.array_address, BEFORE, AFTER)
    facts = shared.facts(window, Words(4, placement.words.byte_order))
    own = targets(symbols, is_near(symbols.addresses, placement.words, tables.array_address + placement.distance))
    if not len(own):
        return WordVotes(0, 0)
    array, start = (tables.array_address - window.start, tables.array.size), placement.virtual(window.start)
    code = tuple((low - window.start, size) for low, size in placement.code_ranges)
    name = "word votes", array, start, code
    return facts.once_of(name, (own.addresses, own.code), lambda: _all_votes(facts, tables, placement, own))


def _all_votes(facts: WindowFacts, tables: Tables, placement: Placement, own: Targets) -> WordVotes:
    """Return the votes of the data, or, where they are too few, of the code as well."""
    window, words = facts.window, facts.words
    # count addresses from the first symbol, so that it does not matter where their lower halves wrap to 0
    first = int(own.addresses[0]) & ~1
    own = Targets(own.addresses - np.uint64(first), own.code - np.uint64(first))
    low = first & words.mask
    pointers = pointers_between(window, words, low, low + int(own.addresses[-1]) + 1)
    pointers = Pointers(pointers.places, words.wrap(pointers.values - np.uint64(low)))
    pointers = outside_of(pointers, [(tables.array_address, tables.array.size)])
    # instructions hold 32-bit addresses in both kinds of kernels, but not every table tells where the code is
    data = outside_of(pointers, placement.code_ranges)
    votes = _votes(window, words, placement, data, own)
    return votes if votes.word_size is not None else _votes(window, words, placement, pointers, own)


def _votes(window: BytesSegment, words: Words, placement: Placement, pointers: Pointers, own: Targets) -> WordVotes:
    """Return the votes of some words of four bytes.

    Args:
        window: the image.
        words: size and byte order of these words.
        placement: the placement of the image.
        pointers: the words, less the first symbol's address.
        own: their possible targets, less the same address.
    """
    values = pointers.values
    beside = _upper_halves(window, words, placement, pointers.places)
    code_bit = has_code_bit(distinct(values), own)
    upper = _most_frequent(beside[leads_to_symbol(values, own, code_bit) & (beside >= 0)])

    def counts(shift: int) -> tuple[int, int]:
        shifted = values + np.uint64(shift)
        hits = leads_to_symbol(shifted, own, code_bit)
        wide = hits & (beside == upper)
        return len(distinct(shifted[wide])), len(distinct(shifted[hits & ~wide]))

    wide, narrow = counts(0)
    if max(wide, narrow) < MIN_POINTERS:
        return WordVotes(wide, narrow)
    by_chance = np.mean([counts(shift) for shift in SHIFTS], axis=0)
    return WordVotes(max(0.0, wide - float(by_chance[0])), max(0.0, narrow - float(by_chance[1])))


def named_word_size(symbols: SymbolTable) -> int | None:
    """Return the word size of the architecture whose system calls the symbols name.

    None where none are named.
    """
    text = symbols.characters.tobytes()
    # the first match counts: kernels of x86-64 name the system calls of x86 as well
    for architecture, mark in NAME_MARKS.items():
        if mark.endswith(SYSTEM_CALL) and text.count(mark) >= MIN_SYSTEM_CALLS:
            return next(iter(word_sizes_of(architecture)))
    return None


def word_size_check(memory: Memory, tables: Tables, placement: Placement, shared: SharedWindows) -> Check:
    """Check that a reading's words are as wide as the image's pointers.

    Its addresses must also be possible in a kernel of that width.

    Args:
        memory: the memory with the tables.
        tables: one reading of them.
        placement: its placement.
        shared: facts of the windows around tables.
    """
    votes, size = word_votes(memory, tables, placement, shared), placement.words.size
    if votes.word_size is not None:
        counts = f"{votes.wide:.0f} pointers to symbols have 64 bits, {votes.narrow:.0f} have 32 bits"
        if votes.word_size == size:
            return Check.that(CheckId.WORD_SIZE, True, counts)
        return Check.that(CheckId.WORD_SIZE, False, f"is not {8 * size} bits: {counts}")
    if (named := named_word_size(placement.symbols)) is not None:
        return Check.that(
            CheckId.WORD_SIZE, size == named, f"the names of system calls are those of {8 * named}-bit kernels"
        )
    is_low = placement.words.byte_order == "<" and int(placement.symbols.addresses[-1]) < LOW_ADDRESSES
    if size == 8 and is_low and memory.hints.word_size is None:
        return Check.that(CheckId.WORD_SIZE, False, "is not 64 bits: all symbols lie below 4 GiB")
    return Check(CheckId.WORD_SIZE, Outcome.ABSENT, "too few pointers to symbols show the word size")


def _upper_halves(
    window: BytesSegment, words: Words, placement: Placement, places: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Return the upper half of the 8-byte word at each place that is a lower half.

    -1 where the place is no lower half.
    """
    lower, step = (0, 4) if words.byte_order == "<" else (4, -4)
    virtual = places + np.uint64(placement.distance & (1 << 64) - 1)
    offsets = (places - np.uint64(window.start)).astype(np.int64) + step
    chosen = (virtual % np.uint64(8) == lower) & (offsets >= 0) & (offsets + 4 <= len(window.data))
    result = np.full(len(places), -1, np.int64)
    cells = window.data[offsets[chosen][:, None] + np.arange(4)]
    result[chosen] = np.ascontiguousarray(cells).view(words.dtype).reshape(-1)
    return result


def _most_frequent(values: NDArray[np.int64]) -> int:
    """Return the most frequent value; -2, which no word is, if there are no values."""
    if not len(values):
        return -2
    found, counts = np.unique(values, return_counts=True)
    return int(found[np.argmax(counts)])
