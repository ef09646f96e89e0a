"""Test the distance of a kernel image by pointers whose targets can be seen: those to strings.

"Pointers to symbols" says nothing of it: where the tables hold addresses, words of the image equal them wherever the
image is taken to lie. But a pointer to a string leads to its first character at the right distance alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct, is_in_ascending
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kernel.placement.pointer_targets import ODD, Targets
from kallsift.kernel.placement.pointers import PAGE, Words, pointers_between
from kallsift.memory.memory import Segment

MIN_STRINGS = 24
"""Distinct pointers to strings, more than at any other distance, that prove one."""

CLEARLY = 1.2
"""How many times as many strings must be met as at the best of the other distances."""

NEAR = 1024
"""Bytes that alignment can be wrong by at most."""

NEIGHBOURS = np.array(
    [shift for shift in (*range(-3, 4), *range(-NEAR, NEAR + 1, 4), *(PAGE * n for n in range(-16, 17))) if shift],
    np.int64,
)
"""Other distances, less the tested one: by odd headers, by alignment, and by pages. None of them may do as well."""

PAGE_NEIGHBOURS = NEIGHBOURS[NEIGHBOURS % PAGE == 0]
"""Those of them that a page table leaves open. A kernel that ran has tables of places in functions, a few bytes behind
each one's start (``__mcount_loc``, patchable entries): where no data are listed, more words meet those than symbols."""

SAMPLE = 1 << 14
"""Distinct pointers that are looked at, taken from the whole image."""

FEW = 1 << 10
"""Those of them that all neighbours are tried with, to find the one that does best."""

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
        # the best of so many others does somewhat better by chance
        return self.others >= 4 * MIN_STRINGS + 2 * self.hits


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
    offsets = (distinct(values[:: len(values) // (2 * SAMPLE) + 1]) - np.uint64(low)).astype(np.int64)
    few = offsets[:: len(offsets) // FEW + 1]
    trials = [_count(window.data, few + shift) for shift in NEIGHBOURS]
    rival = int(NEIGHBOURS[int(np.argmax(trials))])
    return StringCount(len(offsets), _count(window.data, offsets), _count(window.data, offsets + rival))


def is_best_for_symbols(values: NDArray[np.uint64], own: Targets, neighbours: NDArray[np.int64] = NEIGHBOURS) -> bool:
    """Return whether no neighbour of a distance lets more words equal symbols.

    Symbols are aligned and often follow each other at equal steps: at a wrong distance, too, many words equal one.
    Bit 0 may be set in pointers to code, at the distance or at its neighbour: words with and without it count.

    Args:
        values: distinct words of the image within the symbols' range, ascending.
        own: the image's symbols.
        neighbours: the other distances, less the tested one; `PAGE_NEIGHBOURS` where pages are mapped.
    """
    marked = own.code + ODD
    targets = distinct(np.concatenate((own.addresses, marked[marked & ODD != 0])))

    def hits(values: NDArray[np.uint64], shift: int) -> int:
        return int(np.count_nonzero(is_in_ascending(values + np.uint64(shift % (1 << 64)), targets)))

    few = values[:: len(values) // FEW + 1]
    near = _near_hits(few, targets)
    # a byte away pointers to code lead to symbols as well
    shifts = [shift for shift in neighbours.tolist() if abs(shift) != 1]
    trials = [int(near[NEAR + shift]) if abs(shift) <= NEAR else hits(few, shift) for shift in shifts]
    return hits(values, shifts[int(np.argmax(trials))]) <= hits(values, 0)


def _near_hits(values: NDArray[np.uint64], targets: NDArray[np.uint64]) -> NDArray[np.int64]:
    """How many values equal one of the distinct, ascending targets at each shift from -`NEAR` to `NEAR`."""
    near = np.uint64(NEAR)
    first = np.searchsorted(targets, np.maximum(values, near) - near)
    counts = np.searchsorted(targets, np.minimum(values, ~near) + near, "right") - first
    ends = np.cumsum(counts)
    pairs = np.arange(int(counts.sum())) + np.repeat(first - (ends - counts), counts)
    distances = (targets[pairs] - np.repeat(values, counts)).astype(np.int64)
    return np.bincount(distances + NEAR, minlength=2 * NEAR + 1)


def string_check(count: StringCount) -> Check:
    """Return what the strings say of a distance."""
    detail = f"{count.hits} of {count.pointers} distinct pointers lead to the beginning of a string"
    detail += f", at most {count.others} at other distances"
    if count.proves:
        return Check.that(CheckId.POINTERS_TO_STRINGS, True, detail)
    if count.disproves:
        return Check.that(CheckId.POINTERS_TO_STRINGS, False, detail)
    return Check(CheckId.POINTERS_TO_STRINGS, Outcome.ABSENT, detail)


def _count(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> int:
    """Count the offsets at which a string begins, behind a NUL and with some letters; those outside are none."""
    inside = offsets[(offsets > 0) & (offsets < len(data) - LENGTH)]
    begins = data[inside - 1] == 0
    for index in range(LENGTH):
        begins &= LETTERS[data[inside + index]]
    return int(np.count_nonzero(begins))


def beginnings(data: NDArray[np.uint8], length: int) -> NDArray[np.int64]:
    """Return the offsets at which strings of at least ``length`` letters begin behind a NUL, ascending, shape (n,)."""
    if len(data) <= length:
        return np.empty(0, np.int64)
    ends = len(data) - length
    found = np.flatnonzero((data[:ends] == 0) & (data[1 : ends + 1] - np.uint8(0x20) < np.uint8(0x5F))) + 1
    for index in range(1, length):
        found = found[LETTERS[data[found + index]]]
    return found
