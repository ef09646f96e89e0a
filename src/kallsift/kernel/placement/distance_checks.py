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
from kallsift.memory.segments import BytesSegment

MIN_STRINGS = 24
"""Number of distinct pointers to strings, more than at any other distance, that prove a distance."""

CLEARLY = 1.2
"""Lowest ratio of the strings that are met to those at the best of the other distances."""

NEAR = 1024
"""Highest error in bytes that a wrong alignment can cause."""

NEIGHBOURS = np.array(
    [shift for shift in (*range(-3, 4), *range(-NEAR, NEAR + 1, 4), *(PAGE * n for n in range(-16, 17))) if shift],
    np.int64,
)
"""Other distances, less the tested one: as odd headers, wrong alignment, and wrong pages would cause. None of them may
do as well."""

PAGE_NEIGHBOURS = NEIGHBOURS[NEIGHBOURS % PAGE == 0]
"""The neighbours that a page table leaves open. A kernel that ran has tables of addresses in functions, a few bytes
behind each function's start (``__mcount_loc``, patchable entries): if no data are listed, more words meet those than
symbols."""

SAMPLE = 1 << 14
"""Highest number of distinct pointers that are compared, taken from the whole image."""

FEW = 1 << 10
"""Number of them with which all neighbours are tried, to find the neighbour that does best."""

LETTERS = np.zeros(256, np.bool_)
LETTERS[0x20:0x7F] = True
"""Mask of the characters that messages and names are made of."""

LENGTH = 3
"""Number of such characters with which a string must begin."""


@dataclass(frozen=True)
class StringCount:
    """Numbers of distinct pointers that lead to strings.

    Attributes:
        pointers: number of pointers into the image, or of a sample of them.
        hits: number of those that lead to the first character of a string.
        others: the highest number that would at one of the other distances.
    """

    pointers: int
    hits: int
    others: int

    @property
    def proves(self) -> bool:
        """True if only this distance explains the pointers."""
        return self.hits >= MIN_STRINGS + CLEARLY * self.others

    @property
    def disproves(self) -> bool:
        """True if another distance explains the pointers."""
        # the best of so many other distances does somewhat better by chance
        return self.others >= 4 * MIN_STRINGS + 2 * self.hits


def count_strings(window: BytesSegment, words: Words, distance: int) -> StringCount:
    """Count the pointers that lead to the beginning of a string at some distance.

    Args:
        window: the image.
        words: size and byte order of its words.
        distance: virtual address less address in the source of each byte.
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

    Symbols are aligned and often follow each other at equal steps, so many words equal a symbol at a wrong distance,
    too. Bit 0 may be set in pointers to code, at the distance or at its neighbour: words with and without it count.

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
    # one byte away, pointers to code lead to symbols as well
    shifts = [shift for shift in neighbours.tolist() if abs(shift) != 1]
    trials = [int(near[NEAR + shift]) if abs(shift) <= NEAR else hits(few, shift) for shift in shifts]
    return hits(values, shifts[int(np.argmax(trials))]) <= hits(values, 0)


def _near_hits(values: NDArray[np.uint64], targets: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the number of hits at each shift of the values from -`NEAR` to `NEAR`.

    A hit is a value that equals one of the distinct, ascending targets.
    """
    near = np.uint64(NEAR)
    first = np.searchsorted(targets, np.maximum(values, near) - near)
    counts = np.searchsorted(targets, np.minimum(values, ~near) + near, "right") - first
    ends = np.cumsum(counts)
    pairs = np.arange(int(counts.sum())) + np.repeat(first - (ends - counts), counts)
    distances = (targets[pairs] - np.repeat(values, counts)).astype(np.int64)
    return np.bincount(distances + NEAR, minlength=2 * NEAR + 1)


def string_check(count: StringCount) -> Check:
    """Return the check of a distance by the strings."""
    detail = f"{count.hits} of {count.pointers} distinct pointers lead to the beginning of a string"
    detail += f", at most {count.others} at other distances"
    if count.proves:
        return Check.that(CheckId.POINTERS_TO_STRINGS, True, detail)
    if count.disproves:
        return Check.that(CheckId.POINTERS_TO_STRINGS, False, detail)
    return Check(CheckId.POINTERS_TO_STRINGS, Outcome.ABSENT, detail)


def _count(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> int:
    """Count the offsets at which a string begins, behind a NUL and with some letters.

    Offsets outside of the data do not count.
    """
    inside = offsets[(offsets > 0) & (offsets < len(data) - LENGTH)]
    begins = data[inside - 1] == 0
    for index in range(LENGTH):
        begins &= LETTERS[data[inside + index]]
    return int(np.count_nonzero(begins))


def beginnings(data: NDArray[np.uint8], length: int) -> NDArray[np.int64]:
    """Return the offsets at which strings of at least ``length`` letters begin.

    They stand behind a NUL; ascending, shape (n,).
    """
    if len(data) <= length:
        return np.empty(0, np.int64)
    ends = len(data) - length
    found = np.flatnonzero((data[:ends] == 0) & (data[1 : ends + 1] - np.uint8(0x20) < np.uint8(0x5F))) + 1
    for index in range(1, length):
        found = found[LETTERS[data[found + index]]]
    return found
