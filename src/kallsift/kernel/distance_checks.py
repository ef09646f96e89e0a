"""Test the distance of a kernel image by pointers whose targets can be seen: those to strings.

"Pointers to symbols" says nothing of it: where the tables hold addresses, words of the image equal them wherever the
image is taken to lie. But a pointer to a string leads to its first character at the right distance alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.evidence import Check, Outcome
from kallsift.kernel.pointers import Words, pointers_between
from kallsift.memory.model import Segment

CHECK = "pointers to strings"

MIN_STRINGS = 24
"""Distinct pointers to strings, more than at any other distance, that prove one."""

CLEARLY = 1.5
"""How many times as many strings must be met as at the best of the other distances."""

SHIFTS = (4, 8, -8, 0x40, -0x40, 0x1000, -0x1000, 0x2340, 0x10000)
"""Other distances, less the tested one; none of them by which strings are aligned and of equal lengths."""

SAMPLE = 1 << 14
"""Distinct pointers that are looked at, taken from the whole image."""

LETTERS = np.zeros(256, np.bool_)
LETTERS[0x20:0x7F] = True
"""Characters that messages and names are made of."""

LENGTH = 3
"""Characters that a string must begin with."""


@dataclass(frozen=True)
class StringCount:
    """How many distinct pointers lead to strings.

    Attributes:
        pointers: those into the image, or a sample of them.
        hits: those of them that lead to the first character of a string.
        others: the most that would at one of the other distances.
    """

    pointers: int
    hits: int
    others: int

    @property
    def proves(self) -> bool:
        """Whether the distance alone explains them."""
        return self.hits >= MIN_STRINGS + CLEARLY * self.others

    @property
    def disproves(self) -> bool:
        """Whether another distance explains them."""
        return self.others >= MIN_STRINGS + CLEARLY * self.hits


def count_strings(window: Segment, words: Words, distance: int) -> StringCount:
    """Count the pointers of an image that lead to the beginning of a string at some distance.

    Args:
        window: the image.
        words: how to read it.
        distance: virtual address less place of each byte.
    """
    low = window.start + distance & words.mask
    high = min(low + len(window.data), words.mask)
    values = pointers_between(window, words, low, high).values
    offsets = (np.unique(values[:: len(values) // (2 * SAMPLE) + 1]) - np.uint64(low)).astype(np.int64)
    hits, *others = (_count(window.data, offsets + shift) for shift in (0, *SHIFTS))
    return StringCount(len(offsets), hits, max(others))


def string_check(count: StringCount) -> Check:
    """Return what the strings say of a distance."""
    detail = f"{count.hits} of {count.pointers} distinct pointers lead to the beginning of a string"
    detail += f", at most {count.others} at other distances"
    if count.proves:
        return Check.that(CHECK, True, detail)
    if count.disproves:
        return Check.that(CHECK, False, detail)
    return Check(CHECK, Outcome.ABSENT, detail)


def _count(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> int:
    """Count the offsets at which a string begins, behind a NUL and with some letters; those outside are none."""
    inside = offsets[(offsets > 0) & (offsets < len(data) - LENGTH)]
    begins = data[inside - 1] == 0
    for index in range(LENGTH):
        begins &= LETTERS[data[inside + index]]
    return int(np.count_nonzero(begins))


def beginnings(data: NDArray[np.uint8], length: int) -> NDArray[np.bool_]:
    """Return where strings of at least ``length`` letters begin behind a NUL, shape (size,)."""
    begins = np.zeros(len(data), np.bool_)
    if len(data) > length:
        letters = LETTERS[data]
        inner = data[: len(data) - length] == 0
        for index in range(length):
            inner &= letters[1 + index : len(data) - length + 1 + index]
        begins[1 : len(data) - length + 1] = inner
    return begins
