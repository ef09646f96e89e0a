"""Find tables whose names are not compressed: a length, a type letter, the name (OpenWrt's KALLSYMS_UNCOMPRESSED).

All other tables but the token table and its index are as in other kernels, so all their equations hold: each code is a
token that stands for itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.format.markers import GROUP, find_markers
from kallsift.kallsyms.format.token_table import CODES, TokenTable
from kallsift.kallsyms.recovered_tables import Attempt, Tables
from kallsift.kallsyms.solvers.adjacent import TYPE_LETTERS, recover_tables
from kallsift.memory.memory import Memory

WINDOW = 4096
"""Bytes in which a chain of entries is looked for."""

WINDOWS = 8
"""Number of windows that are tried in a long region; a name of more than 127 characters, whose length takes two bytes,
breaks a chain."""

CHAIN = 32
"""Number of entries in a row that must each begin with a length and a letter."""

LEAST_BYTES = 16
"""Lowest number of different bytes in a window; memory that is filled with one letter is a chain as well."""

BEHIND = 16 << 10
"""Bytes behind the names in which their markers end."""

AROUND = 4 << 20
"""Bytes before and behind the names in which the other tables lie."""

MAX_MARKERS = 8
"""Highest number of marker candidates that are tried for each byte order."""

_IS_LETTER = np.isin(np.arange(CODES), TYPE_LETTERS)


def holds_entries(data: NDArray[np.uint8]) -> bool:
    """Tell whether a region of names holds a chain of entries anywhere.

    In a chain each length leads to the next one, and a type letter stands behind each length.
    """
    step = max(WINDOW, len(data) // WINDOWS)
    return any(_holds_chain(data[max(0, end - WINDOW) : end]) for end in range(len(data), 0, -step))


def _holds_chain(window: NDArray[np.uint8]) -> bool:
    outside = len(window)
    ends = np.arange(outside + 1, dtype=np.int32)
    entry = (window >= 2) & (window < 0x80)
    entry[:-1] &= _IS_LETTER[window[1:]]
    ends[:-1] = np.where(entry, np.minimum(ends[:-1] + 1 + window, outside), outside)
    for _ in range(CHAIN.bit_length() - 1):
        ends = ends[ends]
    return bool((ends[:-1] < outside).any()) and len(np.unique(window)) >= LEAST_BYTES


def recover_uncompressed(
    memory: Memory, low: int, high: int, word_sizes: Sequence[int], attempt: Attempt
) -> Iterator[Tables]:
    """Yield all tables whose names end where a region of names does.

    Args:
        memory: the source.
        low: address at which the region begins.
        high: address at which it ends.
        word_sizes: sizes of an address in bytes, in the order in which they are tried.
        attempt: the record of the furthest step that was reached.
    """
    segment = memory.around(low, AROUND, high - low + AROUND)
    end = high - segment.start
    first = max(0, (high - WINDOW) // 8 * 8 - segment.start)
    for byte_order in "<>":
        for markers in find_markers(
            segment.data, first, min(len(segment.data), end + BEHIND), byte_order, most=MAX_MARKERS
        ):
            if (markers.values[1:] - markers.values[:-1] < 3 * GROUP).any():
                # a length, a letter and a name take three bytes
                continue
            identity = _identity(markers.offset + markers.size, byte_order)
            yield from recover_tables(segment, identity, word_sizes, attempt, [markers])


def _identity(offset: int, byte_order: str) -> TokenTable:
    """Return a token table in which each code stands for itself.

    It is not in memory; ``offset`` is where a token table would follow.
    """
    strings = np.zeros(2 * CODES, np.uint8)
    strings[::2] = np.arange(CODES)
    return TokenTable(offset, None, 2 * np.arange(CODES + 1, dtype=np.int64), strings, byte_order, stored=False)
