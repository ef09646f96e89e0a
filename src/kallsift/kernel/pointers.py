"""Pointers in a kernel's image: they tell where the image is mapped, and whether it lives.

An empty list head points at itself, so the most frequent difference between a word and its own place is the distance
from physical to virtual addresses, whatever the architecture. Words that equal symbols prove the symbols' addresses.
A list that runs through memory outside the image and comes back is one that a running kernel made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.machine.model import PagingMode, translate
from kallsift.memory.model import Memory

BEFORE, AFTER = 32 << 20, 64 << 20
"""How far an image reaches below and above its tables at most, in bytes."""

KERNEL_HALF = 0xFF00_0000_0000_0000
"""The lowest address that can be a kernel's under any 64-bit paging mode."""

CHUNK = 1 << 20
MAX_LISTS = 1 << 14
MAX_POINTERS = 1 << 21
"""Words taken from one image at most; real ones have half a million."""


@dataclass(frozen=True, eq=False)
class Pointers:
    """Words of an image that look like kernel addresses.

    Attributes:
        places: physical address of each, shape (n,), uint64, ascending.
        values: the words, shape (n,), uint64.
    """

    places: NDArray[np.uint64]
    values: NDArray[np.uint64]


def find_pointers(memory: Memory, around: int, byte_order: str) -> Pointers:
    """The words near an address that have the upper bits of a kernel address."""
    window = memory.window(around, BEFORE, AFTER)
    skipped = -window.start % 8
    places, values, found = [], [], 0
    for offset in range(skipped, len(window.data) - 7, CHUNK):
        chunk = window.data[offset : offset + CHUNK]
        words = np.frombuffer(chunk[: len(chunk) // 8 * 8].tobytes(), f"{byte_order}u8")
        hits = np.flatnonzero(words >= np.uint64(KERNEL_HALF))
        found += len(hits)
        if found > MAX_POINTERS:
            break
        places.append(hits.astype(np.uint64) * np.uint64(8) + np.uint64(window.start + offset))
        values.append(words[hits].astype(np.uint64))
    if not places:
        return Pointers(np.empty(0, np.uint64), np.empty(0, np.uint64))
    return Pointers(np.concatenate(places), np.concatenate(values))


def distances(pointers: Pointers, least: int = 16, most: int = 64) -> list[tuple[int, int]]:
    """Distances from physical to virtual that most self-pointing words agree on.

    Returns:
        (distance modulo 2^64, words that have it), the most frequent first.
    """
    distance = pointers.values - pointers.places
    distance = distance[distance & np.uint64(0xFFF) == 0]
    found, counts = np.unique(distance, return_counts=True)
    best = np.argsort(counts)[::-1][:most]
    return [(int(found[i]), int(counts[i])) for i in best if counts[i] >= least]


def hits_on_symbols(pointers: Pointers, addresses: NDArray[np.uint64]) -> tuple[int, float, int]:
    """How many distinct words equal a symbol's address.

    Args:
        pointers: words of the image.
        addresses: the symbols' addresses, ascending.

    Returns:
        Words that equal one; how many would by chance (the mean over shifted tables); words in the symbols' range.
    """
    symbols = addresses[addresses >= np.uint64(KERNEL_HALF)]
    if not len(symbols):
        return 0, 0.0, 0
    # sorted by hand: NumPy's own unique hashes, which such regular numbers defeat
    values = np.sort(pointers.values[(pointers.values >= symbols[0]) & (pointers.values <= symbols[-1])])
    values = values[np.diff(values, prepend=np.uint64(0)) != 0]

    def equal(shift: int) -> int:
        wanted = values + np.uint64(shift)
        at = np.minimum(np.searchsorted(symbols, wanted), len(symbols) - 1)
        return int(np.count_nonzero(symbols[at] == wanted))

    shifts = (0x40, 0x1000, 0x2340, 0x10000)
    return equal(0), sum(equal(shift) for shift in shifts) / len(shifts), len(values)


def closed_lists(
    memory: Memory, pointers: Pointers, distance: int, mode: PagingMode, root: int, image: tuple[int, int]
) -> int:
    """Lists whose head lies in the image, whose first element lies outside of it and points back at the head.

    Args:
        memory: physical memory.
        pointers: words of the image.
        distance: from physical to virtual addresses of the image.
        mode: how to read the page table.
        root: physical address of the page table.
        image: lowest and highest physical address of the image.
    """
    heads = pointers.places + np.uint64(distance)
    outside = (pointers.values - np.uint64(distance) - np.uint64(image[0])) > np.uint64(image[1] - image[0])
    chosen = np.flatnonzero(outside & (pointers.values & np.uint64(7) == 0))
    chosen = chosen[:: max(1, len(chosen) // MAX_LISTS)]
    physical, mapped = translate(memory, mode, root, pointers.values[chosen] + np.uint64(8))
    back, held = memory.words(physical, mode.entry)
    return int(np.count_nonzero(mapped & held & (back == heads[chosen])))
