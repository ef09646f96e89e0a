"""Other kernels' tables near a token table: an array of addresses may be theirs.

Nothing in an array says which names belong to it but how many they are. One that touches the tables of another kernel
is that kernel's, and one with as many words as another kernel has names may be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.format.address_table import AddressArray
from kallsift.kallsyms.format.name_stream import Stream
from kallsift.kallsyms.format.token_table import MAX_PADDING, TokenTable, lone_token_tables
from kallsift.kallsyms.recovered_tables import Attempt, Listed
from kallsift.kallsyms.solvers.adjacent import expand_checked, recover_tables
from kallsift.kallsyms.token_scan import DIGITS
from kallsift.memory.memory import Segment

MAX_OTHERS = 8
"""Other token tables that are followed, those nearest to the own one first."""

MAX_DIGITS = 64
"""Places with all digits that are looked at for them."""

MAX_READINGS = 8
"""Ways to read the tables around one of them."""


@dataclass(frozen=True, eq=False)
class OtherTables:
    """What other kernels have near a token table.

    Attributes:
        arrays: offset and end of each array of addresses that touches other tables than the own ones.
        listings: the least number of names of each other kernel, and as many of them as there can be.
    """

    arrays: tuple[tuple[int, int], ...]
    listings: tuple[tuple[int, Listed], ...]

    def claim(self, array: AddressArray) -> bool:
        """Tell whether an array is, in part at least, that of other tables."""
        return any(array.offset < high and low < array.offset + array.size for low, high in self.arrays)

    def rivals(self, count: int, own: Listed) -> tuple[Listed, ...]:
        """Return the other names, as many as an array has words, that it may belong to as well as to the own ones."""
        counted = (names.first(count) for least, names in self.listings if least <= count <= len(names))
        return tuple(names for names in counted if not names.same_as(own))


def other_tables(
    segment: Segment,
    bounds: tuple[int, int],
    tokens: TokenTable,
    stream: Stream,
    streams: Sequence[Stream],
    word_sizes: Sequence[int],
) -> OtherTables:
    """Find what other kernels have near a token table.

    Args:
        segment: the memory that holds it.
        bounds: offsets from and to which others are looked for.
        tokens: the own token table.
        stream: the own names.
        streams: all streams of names that markers prove there.
        word_sizes: bytes of an address.
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


def _other_tokens(segment: Segment, bounds: tuple[int, int], own: TokenTable) -> Iterator[TokenTable]:
    """Yield the other token tables of the same byte order, the nearest first, each once."""
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
