"""How many symbols there are where neither their count nor the last names survive, as in 6.4 and later: the addresses
behind the token index end where their order does, and seqs_of_names, which follows them, holds no higher number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.arrays_left import aligned_up, table_alignment
from kallsift.kallsyms.encodings import ENCODINGS
from kallsift.kallsyms.pages import Pages
from kallsift.kallsyms.tokens import INDEX_SIZE, TokenTable
from kallsift.memory.model import Segment

ENTRY = 4
"""Bytes of an entry of the array: releases that put it behind the token index and have seqs_of_names have no other."""

SEQUENCE = 3
"""Bytes of an entry of seqs_of_names there."""

BEHIND = 8
"""Words behind an array that can go on in its order: its base, and padding."""

SAMPLE = 64
"""Entries of seqs_of_names that are looked at for each count."""

MOST = 12
"""Counts that are followed."""


def array_counts(
    segment: Segment, pages: Pages, tokens: TokenTable, names: int, counts: range, word_size: int
) -> Iterator[int]:
    """Counts that the array behind the token index, and the permutation behind that, can have, the highest first.

    Args:
        segment: the memory that they lie in.
        pages: those of it that are lost.
        tokens: the token table; without its index nothing is found.
        names: offset of the name stream.
        counts: those to try.
        word_size: bytes of an address.
    """
    if tokens.index_offset is None:
        return
    data, first = segment.data, tokens.index_offset + INDEX_SIZE
    most = min(counts.stop - 1 + BEHIND, (len(data) - first) // ENTRY)
    if most < counts.start:
        return
    words = np.frombuffer(data[first : first + most * ENTRY].tobytes(), f"{tokens.byte_order}u4")
    words = words.astype(np.uint32)
    places = first + ENTRY * np.arange(most, dtype=np.int64)
    there = pages.intact(places, places + ENTRY)
    for encoding in ENCODINGS:
        if encoding.entry_size != ENTRY:
            continue
        breaks = np.flatnonzero(there[1:] & there[:-1] & ~encoding.order(words))
        high = int(breaks[0]) + 1 if len(breaks) else most
        # the end can lie anywhere in what is lost before the first word out of order
        known = np.flatnonzero(there[: max(0, high - BEHIND)])
        low = int(known[-1]) + 1 if len(known) else 0
        tried = np.arange(max(counts.start, low), min(counts.stop, high + 1))[::-1]
        ends = first + tried * ENTRY
        if encoding.anchor == "relative_base":
            alignment = max(table_alignment(segment, tokens, names), word_size)
            ends = aligned_up(segment.start, ends, alignment) + word_size
        yield from tried[_permuted(data, pages, ends, tried)][:MOST].tolist()


def _permuted(
    data: NDArray[np.uint8], pages: Pages, starts: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether some entries from each start on are numbers below each count."""
    fits = starts + counts * SEQUENCE <= len(data)
    seen = np.zeros(len(starts), np.int64)
    for number in range(SAMPLE):
        place = np.where(fits, starts + counts * number // SAMPLE * SEQUENCE, 0)
        intact = pages.intact(place, place + SEQUENCE)
        value = data[place].astype(np.int64) << 16 | data[place + 1].astype(np.int64) << 8 | data[place + 2]
        fits &= ~intact | (value < counts)
        seen += intact
    result: NDArray[np.bool_] = fits & (seen >= SAMPLE // 4)
    return result
