"""Expand the known entries of a name stream to names, as far as their tokens are known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.format.name_stream import Names, expand
from kallsift.kallsyms.format.token_table import TokenTable


def expand_known(
    data: NDArray[np.uint8],
    heads: NDArray[np.int64],
    ends: NDArray[np.int64],
    two_byte_lengths: bool,
    tokens: TokenTable,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the characters and bounds of all entries.

    Entries that are unknown, or have an unknown code, are empty.

    Args:
        data: the segment's bytes.
        heads: offset of each entry's length, shape (n,); -1 where unknown.
        ends: offset behind its last code, shape (n,); -1 where unknown.
        two_byte_lengths: whether a length may take two bytes.
        tokens: the token table.
    """
    there = np.flatnonzero(heads >= 0)
    sizes = np.zeros(len(heads), np.int64)
    nothing = np.empty(0, np.uint8), np.zeros(len(heads) + 1, np.int64)
    if not len(there):
        return nothing
    skipped = 1 + (two_byte_lengths & (data[heads[there]] >= 0x80)).astype(np.int64)
    starts = heads[there] + skipped
    names = Names(int(heads[there[0]]), starts, ends[there] - starts)
    if tokens.known is not None:
        unknown = np.add.reduceat(~tokens.known[data[_codes(names)]], np.cumsum(names.lengths) - names.lengths)
        there = there[unknown == 0]
        if not len(there):
            return nothing
        names = Names(names.offset, names.starts[unknown == 0], names.lengths[unknown == 0])
    characters, bounds = expand(data, names, tokens)
    sizes[there] = np.diff(bounds)
    return characters, np.concatenate(([0], np.cumsum(sizes)))


def texts(characters: NDArray[np.uint8], bounds: NDArray[np.int64]) -> list[bytes]:
    """Return the names without their letters; empty where unknown."""
    text, limits = characters.tobytes(), bounds.tolist()
    return [text[a + 1 : b] for a, b in pairwise(limits)]


def _codes(names: Names) -> NDArray[np.int64]:
    """Return the offset of each code of each name."""
    ends = np.cumsum(names.lengths)
    places: NDArray[np.int64] = np.arange(int(ends[-1])) + np.repeat(
        names.starts - (ends - names.lengths), names.lengths
    )
    return places
