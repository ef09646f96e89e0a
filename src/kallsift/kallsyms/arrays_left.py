"""What is left of a damaged address array, at the places beside other tables where every release has it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.encodings import ENCODINGS, AddressArray, Encoding, word_at
from kallsift.kallsyms.pages import Pages
from kallsift.kallsyms.tokens import INDEX_SIZE, TokenTable
from kallsift.memory.model import Segment

ALIGNMENTS = (256, 16, 8, 4)
"""What tables are aligned to, in bytes."""

FAR = 1 << 48
"""Where an array is thought to be when its addresses are put in order: none of them may wrap around zero."""

LEAST_LEFT = 0.25
"""Part of the entries that must survive."""

Place = TypeVar("Place", int, NDArray[np.int64])


@dataclass(frozen=True, eq=False)
class Left:
    """An address array of which some entries are lost.

    Attributes:
        array: the array; lost entries hold the word before them.
        known: shape (n,), bool.
        after: offset behind the array and its base.
        newer: whether it lies behind the token index, as in 6.4 and later.
        strange: pages of it that are not blank, and yet hold words in no order.
    """

    array: AddressArray
    known: NDArray[np.bool_]
    after: int
    newer: bool
    strange: int

    def sequences_at(self, markers_end: int) -> int:
        """Where seqs_of_names begins, if there is one: behind the array, or, up to 6.3, behind the markers."""
        return self.after if self.newer else markers_end


def arrays_left(
    segment: Segment,
    pages: Pages,
    tokens: TokenTable,
    names: int,
    count: int,
    num_syms: int | None,
    word_size: int,
) -> Iterator[Left]:
    """Arrays of which enough entries survive and are in order, those with most first.

    Args:
        segment: the memory that they lie in.
        pages: those of it that are lost.
        tokens: the token table.
        names: offset of the name stream.
        count: entries of the array.
        num_syms: offset of the count; None if it is lost.
        word_size: bytes of an address.
    """
    alignment = table_alignment(segment, tokens, names)
    index = tokens.index_offset
    # where neither the index nor the table's end is known, nothing tells where an array behind them begins
    cut = index is None and tokens.known is not None
    if index is None:
        index = aligned_up(segment.start, tokens.offset + tokens.size, alignment)
    num_syms = names - alignment if num_syms is None else num_syms
    found: list[Left] = []
    for encoding in ENCODINGS:
        size = encoding.entry_size or word_size
        based = encoding.anchor == "relative_base"
        # 6.4 and later: directly behind the index, whose size is a multiple of every alignment
        newer = index + INDEX_SIZE
        base = aligned_up(segment.start, newer + count * size, max(alignment, word_size))
        order = tokens.byte_order
        if not cut:
            found += _left(segment, pages, newer, base if based else None, encoding, count, word_size, order)
        # before: the count follows the array and its base
        base = aligned_down(segment.start, num_syms - word_size, max(alignment, word_size))
        older = aligned_down(segment.start, (base if based else num_syms) - count * size, max(alignment, word_size))
        if older >= 0 and encoding.anchor != "place":
            own = base if based else None
            found += _left(segment, pages, older, own, encoding, count, word_size, order, newer=False)
    yield from sorted(found, key=lambda left: -np.count_nonzero(left.known))


def table_alignment(segment: Segment, tokens: TokenTable, names: int) -> int:
    """What the tables are aligned to, in bytes, as far as those known show it."""
    known = [names, tokens.offset] + ([] if tokens.index_offset is None else [tokens.index_offset])
    return next(a for a in (*ALIGNMENTS, 1) if all((segment.start + offset) % a == 0 for offset in known))


def _left(
    segment: Segment,
    pages: Pages,
    offset: int,
    base: int | None,
    encoding: Encoding,
    count: int,
    word_size: int,
    byte_order: str,
    *,
    newer: bool = True,
) -> Iterator[Left]:
    size = encoding.entry_size or word_size
    raw = segment.data[offset : offset + count * size]
    if len(raw) < count * size:
        return
    words = np.frombuffer(raw.tobytes(), f"{byte_order}u{size}")
    words = words.astype(words.dtype.newbyteorder("="))
    places = offset + np.arange(count, dtype=np.int64) * size
    known = pages.intact(places, places + size)
    if not known.any():
        return
    # a page that does not hold what it did is out of order in itself
    neighbours = known[1:] & known[:-1]
    wrong = np.flatnonzero(neighbours & ~encoding.order(words)) + 1
    numbers = pages.number(places)
    strange = np.unique(numbers[wrong])
    known &= ~np.isin(numbers, strange)
    left = words[known]
    if len(left) < LEAST_LEFT * count or not encoding.typical(left):
        return
    relative_base = None
    if base is not None:
        value = word_at(segment.data, base, word_size, byte_order)
        intact = pages.intact(np.array([base]), np.array([base + word_size]))[0]
        relative_base = value if value and intact else None
    # a lost entry repeats the address before it, so that the order of all holds
    source = np.maximum.accumulate(np.where(known, np.arange(count), -1))
    source[source < 0] = int(np.argmax(known))
    filled = words[source]
    if encoding.anchor == "place":
        filled = (filled.astype(np.int64) + 4 * (source - np.arange(count))).astype(np.uint32)
    array = AddressArray(offset, encoding, filled, base, relative_base)
    addresses = array.addresses(FAR)
    if (addresses[1:] < addresses[:-1]).any():
        return
    yield Left(array, known, (base + word_size) if base is not None else offset + count * size, newer, len(strange))


def aligned_up(start: int, offset: Place, alignment: int) -> Place:
    """The first place from an offset on whose address is a multiple of the alignment."""
    return offset + -(start % alignment + offset) % alignment


def aligned_down(start: int, offset: int, alignment: int) -> int:
    """The last place up to an offset whose address is a multiple of the alignment."""
    return offset - (start + offset) % alignment
