"""Recover the surviving part of a damaged address array, beside the tables that every release puts it next to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.damaged.damage_context import DamageContext
from kallsift.kallsyms.damaged.overwritten_pages import pages_in_rows, pages_out_of_order
from kallsift.kallsyms.damaged.page_map import Pages
from kallsift.kallsyms.damaged.seqs_location import permutation_places
from kallsift.kallsyms.damaged.stream_layout import NameStreamLayout
from kallsift.kallsyms.format.address_encodings import BEHIND_INDEX, ENCODINGS, AddressArray, Base, Encoding, Words
from kallsift.kallsyms.format.address_table import word_at
from kallsift.kallsyms.format.token_table import INDEX_SIZE, TokenTable
from kallsift.memory.segments import BytesSegment

ALIGNMENTS = {4: (16, 4), 8: (256, 8, 4)}
"""Possible alignments of tables in bytes, by the word size: to a word; to two to the power of that, where the assembler
reads it so (up to 4.20); to four since 7.0 (scripts/kallsyms.c)."""

FAR = 1 << 48
"""Assumed address of an array while the order of its addresses is checked: so none of them can wrap around zero."""

LEAST_LEFT = 0.25
"""Lowest share of the entries that must survive."""

Place = TypeVar("Place", int, NDArray[np.int64])


@dataclass(frozen=True, eq=False)
class PartialAddressTable:
    """An address array of which some entries are lost.

    Attributes:
        array: the array; a lost entry repeats the word before it.
        known: shape (n,), bool, mask of the entries that survive.
        word_size: bytes of an address.
        after: offset behind the array and its base.
        newer: whether it lies behind the token index, as in 6.4 and later.
        overwritten: numbers of pages that are not blank, but hold words out of order, or other bytes than padding
            behind the array.
    """

    array: AddressArray
    known: NDArray[np.bool_]
    word_size: int
    after: int
    newer: bool
    overwritten: NDArray[np.int64]

    def pages(self, among: Pages) -> NDArray[np.int64]:
        """Return the page of each entry, shape (n,)."""
        entries = np.arange(len(self.known), dtype=np.int64)
        return among.number(self.array.offset + entries * self.array.words.itemsize)

    def less(self, unknown: NDArray[np.bool_]) -> PartialAddressTable:
        """Return the array without the entries in the mask ``unknown``, shape (n,)."""
        known = self.known & ~unknown
        words = _filled(self.array.encoding, self.array.words, known)
        return replace(self, array=replace(self.array, words=words), known=known)

    def rows(self, among: Pages) -> NDArray[np.int64]:
        """Return the row of neighbouring pages that each entry is in.

        Shape (n,); -1 where the entry is unknown.
        """
        pages = self.pages(among)
        numbers, rows = pages_in_rows(self.array.encoding.key(self.array.words), self.known, pages)
        row = np.full(len(among.lost), -1)
        row[numbers] = rows
        return np.where(self.known, row[pages], -1)


def arrays_left(context: DamageContext, stream: NameStreamLayout, word_size: int) -> Iterator[PartialAddressTable]:
    """Yield arrays of which enough entries survive in order, the most complete first.

    Args:
        context: the memory with the tables.
        stream: the name stream, which has as many entries; the offset of its count may be lost.
        word_size: bytes of an address.
    """
    segment, tokens = context.segment, context.tokens
    reader = _ArrayReader(context, stream.count, word_size)
    alignment = table_alignment(segment, tokens, stream.offset, word_size)
    # only padding lies between the array with its base and this offset, as far as is known
    behind = stream.offset if stream.count_offset is None else stream.count_offset
    num_syms = stream.offset - alignment if stream.count_offset is None else stream.count_offset
    found: list[PartialAddressTable] = []
    if tokens.index_offset is None and tokens.known is not None:
        found += reader.before_permutation()
    else:
        found += reader.behind_index(alignment)
    for encoding in ENCODINGS:
        # before 6.4: the count follows the array and its base
        base = aligned_down(segment.start, num_syms - word_size, max(alignment, word_size))
        own = base if encoding.base is Base.RELATIVE_BASE else None
        end = num_syms if own is None else own
        offset = aligned_down(segment.start, end - reader.size_of(encoding), max(alignment, word_size))
        if offset >= 0 and encoding.base is not Base.SELF:
            found += reader.read(encoding, offset, own, behind)
    yield from sorted(found, key=lambda left: -np.count_nonzero(left.known))


def table_alignment(segment: BytesSegment, tokens: TokenTable, names: int, word_size: int) -> int:
    """Return the alignment of the tables in bytes, as far as the known ones show it."""
    known = [names, tokens.offset] + ([] if tokens.index_offset is None else [tokens.index_offset])
    return next(a for a in (*ALIGNMENTS[word_size], 1) if all((segment.start + offset) % a == 0 for offset in known))


@dataclass(frozen=True, eq=False)
class _ArrayReader:
    """Reads arrays of one number of entries and one size of an address.

    Attributes:
        context: the memory with the tables.
        count: number of entries.
        word_size: bytes of an address.
    """

    context: DamageContext
    count: int
    word_size: int

    def size_of(self, encoding: Encoding) -> int:
        """Return the size in bytes of an array in an encoding."""
        return self.count * (encoding.entry_size or self.word_size)

    def behind_index(self, alignment: int) -> Iterator[PartialAddressTable]:
        """Yield arrays directly behind the token index, as in 6.4 and later.

        The index needs no padding behind it: its size is a multiple of every alignment.
        """
        start, tokens = self.context.segment.start, self.context.tokens
        index = tokens.index_offset
        if index is None:
            index = aligned_up(start, tokens.offset + tokens.size, alignment)
        offset = index + INDEX_SIZE
        for encoding in ENCODINGS:
            base = aligned_up(start, offset + self.size_of(encoding), max(alignment, self.word_size))
            own = base if encoding.base is Base.RELATIVE_BASE else None
            yield from self.read(encoding, offset, own)

    def before_permutation(self) -> list[PartialAddressTable]:
        """Return arrays before seqs_of_names, where only the end of the array is known.

        Nothing is returned if arrays with different beginnings fit.
        """
        start = self.context.segment.start
        found: list[PartialAddressTable] = []
        for place in permutation_places(self.context, self.count):
            for encoding in ENCODINGS:
                if encoding.entry_size != BEHIND_INDEX:
                    continue
                own = place - self.word_size if encoding.base is Base.RELATIVE_BASE else None
                end, alignment = (place, BEHIND_INDEX) if own is None else (own, self.word_size)
                if (start + end) % alignment:
                    continue
                offset = aligned_down(start, end - self.size_of(encoding), alignment)
                found += (one for one in self.read(encoding, offset, own) if not len(one.overwritten))
        return found if len({left.array.offset for left in found}) == 1 else []

    def read(
        self, encoding: Encoding, offset: int, base: int | None, behind: int | None = None
    ) -> Iterator[PartialAddressTable]:
        """Yield the array at an offset if enough of it survives.

        Args:
            encoding: the encoding of its words.
            offset: offset of the first entry.
            base: offset of the base; None if the encoding has none.
            behind: offset of the table that follows the array; None if no table is known to follow.
        """
        segment, pages, byte_order = self.context.segment, self.context.pages, self.context.tokens.byte_order
        size, after = encoding.entry_size or self.word_size, offset + self.size_of(encoding)
        raw = segment.data[offset:after]
        if len(raw) < self.size_of(encoding):
            return
        words = np.frombuffer(raw.tobytes(), f"{byte_order}u{size}")
        words = words.astype(words.dtype.newbyteorder("="))
        places = offset + np.arange(self.count, dtype=np.int64) * size
        known = pages.intact(places, places + size)
        if not known.any():
            return
        numbers = pages.number(places)
        overwritten = np.union1d(
            pages_out_of_order(encoding.key(words), known, numbers),
            _out_of_place(segment, pages, after, behind if base is None else base),
        )
        if base is not None:
            after = base + self.word_size
            overwritten = np.union1d(overwritten, _out_of_place(segment, pages, after, behind))
        known &= ~np.isin(numbers, overwritten)
        left = words[known]
        if len(left) < LEAST_LEFT * self.count or not encoding.fits(left):
            return
        relative_base = None if base is None else self._base_at(base, pages.without(overwritten))
        array = AddressArray(offset, encoding, _filled(encoding, words, known), base, relative_base)
        addresses = array.addresses(FAR)
        if (addresses[1:] < addresses[:-1]).any():
            return
        yield PartialAddressTable(array, known, self.word_size, after, behind is None, overwritten)

    def _base_at(self, offset: int, pages: Pages) -> int | None:
        """Return the base at an offset; None if it is zero or lost."""
        value = word_at(self.context.data, offset, self.word_size, self.context.tokens.byte_order)
        intact = pages.intact(np.array([offset]), np.array([offset + self.word_size]))[0]
        return value if value and intact else None


def _filled(encoding: Encoding, words: Words, known: NDArray[np.bool_]) -> Words:
    """Return the words with each unknown one replaced, so that the order of all holds.

    An unknown word gets the address of the last known word before it.
    """
    count = len(words)
    source = np.maximum.accumulate(np.where(known, np.arange(count), -1))
    source[source < 0] = int(np.argmax(known))
    filled = words[source]
    if encoding.base is Base.SELF:
        filled = (filled.astype(np.int64) + 4 * (source - np.arange(count))).astype(np.uint32)
    return filled


def _out_of_place(segment: BytesSegment, pages: Pages, end: int, following: int | None) -> NDArray[np.int64]:
    """Return the pages with other bytes than padding behind an array or its base.

    The bytes from ``end`` to the table that follows are checked.
    """
    between = np.arange(end, end if following is None else min(following, len(segment.data)))
    return pages.number(between[pages.intact(between, between + 1) & (segment.data[between] != 0)])


def aligned_up(start: int, offset: Place, alignment: int) -> Place:
    """Return the first offset from ``offset`` on whose address is aligned."""
    return offset + -(start % alignment + offset) % alignment


def aligned_down(start: int, offset: int, alignment: int) -> int:
    """Return the last offset up to ``offset`` whose address is aligned."""
    return offset - (start + offset) % alignment
