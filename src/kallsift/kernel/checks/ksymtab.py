"""Exports: words of an image that say where a symbol lies and, beside that, what it is called.

A kernel that loads modules has a table of what it exports to them. Its entries (``struct kernel_symbol``,
include/linux/export.h) begin alike in every release: where the symbol is, then where its name is; since 4.19 some
architectures have offsets from their own place for both. That shows which name belongs to which address, as nothing
else does in images of kernels up to 6.10, or without data symbols. The entries need not be found as a table: each
proves itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.placement.pointers import Words
from kallsift.memory.memory import Segment

MAX_EXPORTS = 4096
"""Entries that are looked at, taken from the whole image; real ones have up to 20,000."""

MAX_PAIRS = 1 << 20
"""Words beside what can be a pointer to a name that are taken from one image at most."""

MAX_NAME = 512
"""Characters of a name at most, as the kernel has it."""

CHUNK = 1 << 20
"""Words worked on at once; bounds the temporary arrays."""

_LETTERS = np.zeros(256, np.bool_)
_LETTERS[np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz", np.uint8)] = True
"""What a name in C begins with."""


@dataclass(frozen=True)
class Exports:
    """What an image exports.

    Attributes:
        names: of each export.
        addresses: of each, where the image is mapped.
    """

    names: tuple[str, ...]
    addresses: NDArray[np.uint64]

    def compared(self, symbols: SymbolTable) -> tuple[int, int]:
        """How many of them a table has by this name at this address, and how many by this name only elsewhere."""
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


def find_exports(window: Segment, words: Words, distance: int) -> Exports:
    """What an image exports, by pointers or by offsets from their own place.

    Args:
        window: the image.
        words: how to read it.
        distance: virtual address less place of each of its bytes.
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
    return Exports(tuple(names), words.wrap(addresses[kept]))


def pairs(
    window: Segment, words: Words, distance: int, *, relative: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]:
    """Words whose next one says where a name is.

    Args:
        window: the image.
        words: how to read it.
        distance: virtual address less place of each of its bytes.
        relative: whether words are distances from their own place.

    Returns:
        Offsets in the window's data of the words and of the names, and the addresses that the words name.
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
