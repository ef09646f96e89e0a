"""Find other kernels' tables near a token table: an array of addresses may belong to them.

Nothing but the number of names tells which names an array belongs to. An array that touches the tables of another
kernel belongs to that kernel, and an array with as many words as another kernel has names may belong to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.format.address_encodings import AddressArray
from kallsift.kallsyms.format.name_stream import Stream
from kallsift.kallsyms.format.token_table import MAX_PADDING, TokenTable, lone_token_tables
from kallsift.kallsyms.recovered_tables import Attempt, Listed
from kallsift.kallsyms.solvers.adjacent import expand_checked, recover_tables
from kallsift.kallsyms.token_scan import DIGITS
from kallsift.memory.segments import BytesSegment

MAX_OTHERS = 8
"""Highest number of other token tables that are followed, the nearest first."""

MAX_DIGITS = 64
"""Highest number of runs of all digits at which other token tables are looked for."""

MAX_READINGS = 8
"""Highest number of ways to read the tables around one of them."""


@dataclass(frozen=True, eq=False)
class OtherTables:
    """Tables of other kernels near a token table.

    Attributes:
        arrays: offset and end of each array of addresses that touches other tables than the own ones.
        listings: for each other kernel, the lowest number of its names, and the longest list of names that it can have.
    """

    arrays: tuple[tuple[int, int], ...]
    listings: tuple[tuple[int, Listed], ...]

    def claim(self, array: AddressArray) -> bool:
        """Tell whether an array overlaps an array of other tables."""
        return any(array.offset < high and low < array.offset + array.size for low, high in self.arrays)

    def rivals(self, count: int, own: Listed) -> tuple[Listed, ...]:
        """Return other kernels' names that an array may belong to as well.

        Args:
            count: number of words of the array, and so of the names.
            own: the own names, which are left out.
        """
        counted = (names.first(count) for least, names in self.listings if least <= count <= len(names))
        return tuple(names for names in counted if not names.same_as(own))


def other_tables(
    segment: BytesSegment,
    bounds: tuple[int, int],
    tokens: TokenTable,
    stream: Stream,
    streams: Sequence[Stream],
    word_sizes: Sequence[int],
) -> OtherTables:
    """Find what other kernels have near a token table.

    Args:
        segment: the memory with the token table.
        bounds: start and end offset of the search.
        tokens: the own token table.
        stream: the own names.
        streams: all streams of names that markers prove there.
        word_sizes: sizes of an address in bytes.
    """
    arrays: list[tuple[int, int]] = []
    listings: list[tuple[int, Listed]] = []
    for other in islice(_other_tokens(segment, bounds, tokens), MAX_OTHERS):
        readings = recover_tables(segment, other, word_sizes, Attempt()) if other.index_offset is not None else ()
        found = (tables.array for tables in islice(readings, MAX_READINGS))
        arrays += ((array.offset, array.offset + array.size) for array in found)
        for names in streams:
            if names.offset == stream.offset:
                continue
            expanded = expand_checked(segment, other, names.counted(len(names.starts)), Attempt(), least=names.least)
            if expanded is not None:
                listings.append((names.least, Listed(*expanded[:2])))
    return OtherTables(tuple(arrays), tuple(listings))


def _other_tokens(segment: BytesSegment, bounds: tuple[int, int], own: TokenTable) -> Iterator[TokenTable]:
    """Yield the other token tables of the same byte order once, the nearest first."""
    low, high = bounds
    places = _places(segment.data[low:high]) + low
    seen = {own.offset}
    for place in places[np.argsort(np.abs(places - own.offset), kind="stable")][:MAX_DIGITS].tolist():
        for tokens in lone_token_tables(segment, place, MAX_PADDING):
            if tokens.byte_order == own.byte_order and tokens.offset not in seen:
                seen.add(tokens.offset)
                yield tokens


def _places(data: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the offsets at which all digits' tokens stand, shape (n,)."""
    text = data.tobytes()
    found: list[int] = []
    place = text.find(DIGITS)
    while place >= 0:
        found.append(place)
        place = text.find(DIGITS, place + len(DIGITS))
    return np.array(found, np.int64)
