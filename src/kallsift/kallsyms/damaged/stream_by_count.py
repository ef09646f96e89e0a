"""Find name streams of which all markers are lost: the count stands before the names, and a walk begins behind it.

This alone proves nothing. The address array, whose location follows from the count, must confirm it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.damaged.damage_context import DamageContext
from kallsift.kallsyms.format.markers import GROUP
from kallsift.kallsyms.format.name_stream import MAX_SYMBOLS, entry_sizes

LEAST_ENTRIES = 6
"""Lowest number of entries of a walk from behind the count, before the first lost page."""

TRIED_ENTRIES = 256
"""Highest number of entries that are walked to tell the likeliest counts from others."""

MOST_WALKS = 1 << 16
"""Highest number of walks that go on beyond their first entries; a kernel leaves some thousands."""

MOST = 32
"""Highest number of counts that are followed; those whose walks have the likeliest entries come first."""

ENTRY_SIZES = range(6, 32)
"""Possible average sizes of an entry in bytes, with its marker and other data between the names and the token table."""

TELLING = 32
"""Lowest number of entries whose average size is compared."""

APART = 1.5
"""Highest deviation of that size, as a power of two: seqs_of_names can lie before the token table as well."""


def unmarked_streams(context: DamageContext, low: int) -> list[tuple[int, int, int]]:
    """Return candidates of streams by a count that a walk follows, likeliest first.

    Each is the offset of the count, the offset of the first entry, and the count.

    Args:
        context: the memory with the streams.
        low: start of the search, at a multiple of four in memory.
    """
    data, pages, tokens = context.data, context.pages, context.tokens.offset
    words = np.frombuffer(data[low : low + (tokens - low) // 4 * 4].tobytes(), f"{context.tokens.byte_order}u4")
    places = low + 4 * np.arange(len(words), dtype=np.int64)
    counts = words.astype(np.int64)
    chosen = (counts >= GROUP) & (counts < MAX_SYMBOLS)
    places, counts = places[chosen], counts[chosen]
    # there may be four bytes of padding behind the count; names begin with a length, which is not zero
    found: list[tuple[float, int, int, int]] = []
    for gap in (4, 8):
        starts = places + gap
        room = tokens - starts
        fits = (room >= counts * ENTRY_SIZES.start) & (room <= counts * ENTRY_SIZES.stop)
        if gap == 8:
            fits &= words[np.minimum((places - low) // 4 + 1, len(words) - 1)] == 0
        fits &= pages.intact(places, places + gap + 1)
        own, first, count = places[fits], starts[fits], counts[fits]
        steps, sizes = _walked(context, first)
        # how far, as a power of two, the stream's end would be from the token table if all entries were like the first
        apart = np.abs(np.log2(np.maximum(sizes, 1) / np.maximum(steps, 1) * count / (tokens - first)))
        enough = (steps >= LEAST_ENTRIES) & ((apart <= APART) | (steps < TELLING))
        found += zip(
            apart[enough].tolist(), own[enough].tolist(), first[enough].tolist(), count[enough].tolist(), strict=True
        )
    found.sort()
    return [entry[1:] for entry in found[:MOST]]


def _walked(context: DamageContext, starts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the number of entries from each start up to a lost page, and their bytes.

    The number is 0 where the walk ends for another reason. No entry reaches into the token table.
    """
    data, pages, end = context.data, context.pages, context.tokens.offset
    steps, sizes = np.zeros(len(starts), np.int64), np.zeros(len(starts), np.int64)
    going, place = np.arange(len(starts)), starts.copy()
    for number in range(TRIED_ENTRIES):
        if not len(going):
            break
        head, length = _sizes(data, place)
        stop = place + head + length
        inside = (length > 0) & (stop < end)
        # where an entry would lead out of the stream, its own first bytes must be lost
        whole = pages.intact(place, np.where(inside, stop, place + 2))
        entry = inside & whole & context.can_begin[data[np.minimum(place + head, end)]]
        # a walk that ends at a lost page keeps its entries; any other end makes it worthless
        steps[going[~entry & whole]] = 0
        steps[going[entry]] += 1
        sizes[going[entry]] = stop[entry] - starts[going[entry]]
        going, place = going[entry], stop[entry]
        if number >= LEAST_ENTRIES:
            going, place = going[:MOST_WALKS], place[:MOST_WALKS]
    return steps, sizes


def _sizes(data: NDArray[np.uint8], places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the sizes of the entry at each place.

    They are the bytes of the length, and the number of codes behind it.
    """
    pairs = data[(places[:, None] + np.arange(2)).ravel()]
    # this holds for both rules: under the rule of one byte no length has its top bit set
    head, length = entry_sizes(pairs, two_byte_lengths=True)
    return np.broadcast_to(head, len(pairs))[::2].astype(np.int64), length[::2].astype(np.int64)
