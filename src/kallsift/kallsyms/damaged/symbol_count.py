"""Find the number of symbols where neither their count nor the last names survive, as is possible in 6.4 and later.

The addresses behind the token index end where their order does, and seqs_of_names, which follows them, holds no number
that is as high as the count.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kallsift.kallsyms.damaged.address_table import aligned_up, table_alignment
from kallsift.kallsyms.damaged.damage_context import DamageContext
from kallsift.kallsyms.damaged.seqs_of_names import may_be_permuted
from kallsift.kallsyms.format.address_encodings import BEHIND_INDEX, ENCODINGS, Base
from kallsift.kallsyms.format.token_table import INDEX_SIZE

BEHIND = 8
"""Highest number of words behind an array that can continue its order: its base, and padding."""

MOST = 12
"""Highest number of counts that are followed."""


def array_counts(context: DamageContext, names: int, counts: range, word_size: int) -> Iterator[int]:
    """Yield the counts that fit the array behind the token index, the highest first.

    The permutation behind the array must fit the count too.

    Args:
        context: the memory with the tables; without the token index nothing is found.
        names: offset of the name stream.
        counts: the counts to try.
        word_size: bytes of an address.
    """
    segment, tokens, pages = context.segment, context.tokens, context.pages
    if tokens.index_offset is None:
        return
    data, first = segment.data, tokens.index_offset + INDEX_SIZE
    most = min(counts.stop - 1 + BEHIND, (len(data) - first) // BEHIND_INDEX)
    if most < counts.start:
        return
    words = np.frombuffer(data[first : first + most * BEHIND_INDEX].tobytes(), f"{tokens.byte_order}u4")
    words = words.astype(np.uint32)
    places = first + BEHIND_INDEX * np.arange(most, dtype=np.int64)
    there = pages.intact(places, places + BEHIND_INDEX)
    for encoding in ENCODINGS:
        if encoding.entry_size != BEHIND_INDEX:
            continue
        breaks = np.flatnonzero(there[1:] & there[:-1] & ~encoding.order(words))
        high = int(breaks[0]) + 1 if len(breaks) else most
        # the end can lie anywhere in the lost words before the first word out of order
        known = np.flatnonzero(there[: max(0, high - BEHIND)])
        low = int(known[-1]) + 1 if len(known) else 0
        tried = np.arange(max(counts.start, low), min(counts.stop, high + 1))[::-1]
        ends = first + tried * BEHIND_INDEX
        if encoding.base is Base.RELATIVE_BASE:
            alignment = max(table_alignment(segment, tokens, names, word_size), word_size)
            ends = aligned_up(segment.start, ends, alignment) + word_size
        yield from tried[may_be_permuted(data, pages, ends, tried)][:MOST].tolist()
