"""Find exports: pairs of words in an image that give the address and the name of a symbol.

A kernel that loads modules has a table of what it exports to them. Its entries (``struct kernel_symbol``,
include/linux/export.h) begin alike in every release: the symbol's address, then the address of its name; since 4.19
some architectures store both as offsets from their own address. In images of kernels up to 6.10, or without data
symbols, nothing else shows which name belongs to which address. The entries need not be found as a table: each proves
itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.placement.pointers import Words
from kallsift.memory.segments import BytesSegment

MAX_EXPORTS = 4096
"""Highest number of entries that are compared, taken from the whole image; real images have up to 20,000."""

MAX_PAIRS = 1 << 20
"""Highest number of word pairs with a possible pointer to a name that are taken from one image."""

MAX_NAME = 512
"""Highest number of characters of a name, as in the kernel."""

CHUNK = 1 << 20
"""Number of words that are compared at once; it bounds the temporary arrays."""

_LETTERS = np.zeros(256, np.bool_)
_LETTERS[np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz", np.uint8)] = True
"""Mask of the characters with which a name in C begins."""


@dataclass(frozen=True)
class ImageExports:
    """The exports of an image.

    Attributes:
        names: name of each export.
        addresses: virtual address of each export.
    """

    names: tuple[str, ...]
    addresses: NDArray[np.uint64]

    def compared(self, symbols: SymbolTable) -> tuple[int, int]:
        """Return how many exports a symbol table confirms, and how many it contradicts.

        It confirms an export if it has a symbol of this name at this address, and contradicts it if it has the name
        only elsewhere.
        """
        order = np.argsort(symbols.addresses, kind="stable")
        ascending = symbols.addresses[order]
        first = np.searchsorted(ascending, self.addresses, "left").tolist()
        last = np.searchsorted(ascending, self.addresses, "right").tolist()
        texts = symbols.names()
        known = set(texts)
        here = elsewhere = 0
        for name, low, high in zip(self.names, first, last, strict=True):
            if name in known:
                agrees = any(texts[index] == name for index in order[low:high].tolist())
                here, elsewhere = here + agrees, elsewhere + (not agrees)
        return here, elsewhere


def find_exports(window: BytesSegment, words: Words, distance: int) -> ImageExports:
    """Find the exports of an image, by pointers or by offsets from their own address.

    Args:
        window: the image.
        words: size and byte order of its words.
        distance: virtual address less address in the window of each of its bytes.
    """
    pointers = pairs(window, words, distance, relative=False)[1:]
    offsets = pairs(window, Words(4, words.byte_order), distance, relative=True)[1:]
    places, addresses = (np.concatenate(pair) for pair in zip(pointers, offsets, strict=True))
    names, kept = [], []
    for entry in range(0, len(places), max(1, -(-len(places) // MAX_EXPORTS))):
        text = window.data[int(places[entry]) : int(places[entry]) + MAX_NAME + 1].tobytes()
        name, end, _ = text.partition(b"\0")
        if end and len(name) > 1:
            names.append(name.decode("latin-1"))
            kept.append(entry)
    return ImageExports(tuple(names), words.wrap(addresses[kept]))


def pairs(
    window: BytesSegment, words: Words, distance: int, *, relative: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]:
    """Return the words that are followed by the address of a name.

    Args:
        window: the image.
        words: size and byte order of its words.
        distance: virtual address less address in the window of each of its bytes.
        relative: whether words are offsets from their own address.

    Returns:
        Offsets in the window's data of the words and of the names, and the addresses that the words give.
    """
    size, data = words.size, window.data
    skipped = -window.start % size
    count = max(0, len(data) - skipped) // size
    entries, places, addresses = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    found = 0
    mapped = np.uint64(window.start + distance & (1 << 64) - 1)
    for first in range(0, count - 1, CHUNK):
        chunk = np.ascontiguousarray(data[skipped + first * size : skipped + min(first + CHUNK + 1, count) * size])
        values = chunk.view(words.dtype).astype(np.uint64)
        if relative:
            own = mapped + np.uint64(skipped) + np.arange(first, first + len(values), dtype=np.uint64) * np.uint64(size)
            values = own + chunk.view(words.dtype).astype(np.uint32).view(np.int32).astype(np.int64).view(np.uint64)
            names = values[1:] - mapped
        else:
            names = words.wrap(values[1:] - mapped)
        inside = np.flatnonzero((names > 0) & (names < np.uint64(len(data))))
        offsets = names[inside].astype(np.int64)
        begins = _LETTERS[data[offsets]] & (data[offsets - 1] == 0)
        found += int(np.count_nonzero(begins))
        if found > MAX_PAIRS:
            break
        entries.append(skipped + (first + inside[begins]) * size)
        places.append(offsets[begins])
        addresses.append(values[:-1][inside[begins]])
    return np.concatenate(entries), np.concatenate(places), np.concatenate(addresses)
