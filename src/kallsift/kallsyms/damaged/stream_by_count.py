"""Name streams all of whose markers are lost: the count stands before the names, and a walk begins behind it.

This alone proves nothing. The address array, whose place follows from the count, must bear it out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.damaged.page_map import Pages
from kallsift.kallsyms.format.markers import GROUP
from kallsift.kallsyms.format.name_stream import MAX_SYMBOLS, entry_sizes

LEAST_ENTRIES = 6
"""Entries of a walk from behind the count, before the first lost page."""

TRIED_ENTRIES = 256
"""As many entries are walked to tell the likeliest counts from others."""

MOST_WALKS = 1 << 16
"""Walks that go on beyond their first entries; a kernel leaves some thousands."""

MOST = 32
"""Counts that are followed, those first whose walks have the likeliest entries."""

ENTRY_SIZES = range(6, 32)
"""Bytes of an entry on average, with its marker and whatever else lies between the names and the token table."""

TELLING = 32
"""Entries from which on their size on average is worth a word."""

APART = 1.5
"""Powers of two by which that may be off: seqs_of_names can lie before the token table as well."""


def unmarked_streams(
    data: NDArray[np.uint8],
    pages: Pages,
    low: int,
    tokens: int,
    byte_order: str,
    firsts: NDArray[np.uint8],
    letters: NDArray[np.bool_],
) -> list[tuple[int, int, int]]:
    """Offset of the count, offset of the first entry, and count, the likeliest first.

    Args:
        data: the segment's bytes.
        pages: the lost ones.
        low: where to begin, at a multiple of four.
        tokens: offset of the token table.
        byte_order: of the token index.
        firsts: shape (256,), the first character of each token.
        letters: shape (256,), whether an entry can begin with a character.
    """
    words = np.frombuffer(data[low : low + (tokens - low) // 4 * 4].tobytes(), f"{byte_order}u4")
    places = low + 4 * np.arange(len(words), dtype=np.int64)
    counts = words.astype(np.int64)
    chosen = (counts >= GROUP) & (counts < MAX_SYMBOLS)
    places, counts = places[chosen], counts[chosen]
    # padding behind the count: names begin with a length, which is not zero
    found: list[tuple[float, int, int, int]] = []
    for gap in (4, 8):
        starts = places + gap
        room = tokens - starts
        fits = (room >= counts * ENTRY_SIZES.start) & (room <= counts * ENTRY_SIZES.stop)
        if gap == 8:
            fits &= words[np.minimum((places - low) // 4 + 1, len(words) - 1)] == 0
        fits &= pages.intact(places, places + gap + 1)
        own, first, count = places[fits], starts[fits], counts[fits]
        steps, sizes = _walked(data, pages, first, tokens, firsts, letters)
        # if all entries were as long as the first ones, how far the stream would be from ending at the token table
        apart = np.abs(np.log2(np.maximum(sizes, 1) / np.maximum(steps, 1) * count / (tokens - first)))
        enough = (steps >= LEAST_ENTRIES) & ((apart <= APART) | (steps < TELLING))
        found += zip(
            apart[enough].tolist(), own[enough].tolist(), first[enough].tolist(), count[enough].tolist(), strict=True
        )
    found.sort()
    return [entry[1:] for entry in found[:MOST]]


def _walked(
    data: NDArray[np.uint8],
    pages: Pages,
    starts: NDArray[np.int64],
    end: int,
    firsts: NDArray[np.uint8],
    letters: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many entries can follow each start, up to a lost page, and their bytes; 0 where another end comes."""
    steps, sizes = np.zeros(len(starts), np.int64), np.zeros(len(starts), np.int64)
    going, place = np.arange(len(starts)), starts.copy()
    for number in range(TRIED_ENTRIES):
        if not len(going):
            break
        head, length = _sizes(data, place)
        stop = place + head + length
        inside = (length > 0) & (stop < end)
        # where an entry leads out of the stream, its own bytes are what must be lost
        whole = pages.intact(place, np.where(inside, stop, place + 2))
        entry = inside & whole & letters[firsts[data[np.minimum(place + head, end)]]]
        # a walk that comes to a lost page has done what it could
        steps[going[~entry & whole]] = 0
        steps[going[entry]] += 1
        sizes[going[entry]] = stop[entry] - starts[going[entry]]
        going, place = going[entry], stop[entry]
        if number >= LEAST_ENTRIES:
            going, place = going[:MOST_WALKS], place[:MOST_WALKS]
    return steps, sizes


def _sizes(data: NDArray[np.uint8], places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bytes of the length, and codes behind it, of the entry at each place."""
    pairs = data[(places[:, None] + np.arange(2)).ravel()]
    # no length of the shorter rule has its top bit set
    head, length = entry_sizes(pairs, two_byte_lengths=True)
    return np.broadcast_to(head, len(pairs))[::2].astype(np.int64), length[::2].astype(np.int64)
