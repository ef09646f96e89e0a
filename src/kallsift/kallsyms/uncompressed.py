"""Tables whose names are not compressed: a length, a type letter, the name itself (OpenWrt's KALLSYMS_UNCOMPRESSED).

Everything but the token table and its index is as in other kernels, so all equations but theirs hold: each code is a
token that stands for itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.name_regions import IDENTIFIER
from kallsift.kallsyms.names import find_markers
from kallsift.kallsyms.recover import recover_tables
from kallsift.kallsyms.tables import Attempt, Tables
from kallsift.kallsyms.tokens import CODES, TokenTable
from kallsift.memory.model import Segment

CHAINED = 0.5
"""Part of the bytes that are no characters of names, and in a stream are lengths, that must lead to the next one."""

BEYOND = 1 << 17
"""Bytes behind the names in which their markers end."""

MAX_MARKERS = 8
"""Markers that are tried for each byte order."""


def holds_lengths(data: NDArray[np.uint8]) -> bool:
    """Whether most of what is no character of a name leads, taken for a length, to more of its kind."""
    places = np.flatnonzero(~IDENTIFIER[data])
    after = places + 1 + data[places]
    inside = after < len(data)
    chained = int(np.count_nonzero(~IDENTIFIER[data[after[inside]]]))
    return bool(inside.any()) and chained >= CHAINED * int(np.count_nonzero(inside))


def recover_uncompressed(
    segment: Segment, low: int, high: int, word_sizes: Sequence[int], attempt: Attempt
) -> Iterator[Tables]:
    """All tables whose names begin in ``segment.data[low:high]``, a region of names.

    Args:
        segment: the memory around the region.
        low: where the region begins.
        high: where it ends.
        word_sizes: bytes of an address, those to try in this order.
        attempt: is told how far it came.
    """
    if not holds_lengths(segment.data[low:high]):
        return
    first = max(0, (high - 4096 + segment.start) // 8 * 8 - segment.start)
    for byte_order in "<>":
        for markers in find_markers(
            segment.data, first, min(len(segment.data), high + BEYOND), byte_order, most=MAX_MARKERS
        ):
            identity = _identity(markers.offset + markers.size, byte_order)
            found = False
            for tables in recover_tables(segment, identity, word_sizes, attempt):
                found = True
                yield tables
            if found:
                # further candidates for the markers are parts of these, and lead to the same tables
                return


def _identity(offset: int, byte_order: str) -> TokenTable:
    """A token table that stands nowhere, at the place where one would follow: each code stands for itself."""
    strings = np.zeros(2 * CODES, np.uint8)
    strings[::2] = np.arange(CODES)
    return TokenTable(offset, None, 2 * np.arange(CODES + 1, dtype=np.int64), strings, byte_order, stored=False)
