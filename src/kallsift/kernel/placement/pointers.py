"""Find pointers in a kernel's image: they tell where the image is mapped, and whether the kernel runs.

An empty list head points at itself, so the most frequent difference between a word and its own address is the distance
from physical to virtual addresses, on every architecture. Words that equal symbols prove the symbols' addresses. Only a
running kernel makes a list that runs through memory outside the image and comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.paging import Mapping, translate
from kallsift.arrays import distinct, frequent
from kallsift.memory.memory import Memory
from kallsift.memory.segments import BytesSegment
from kallsift.threads import in_threads

BEFORE, AFTER = 32 << 20, 64 << 20
"""Highest reach of an image below and above its tables, in bytes."""

PAGE = 4096
CHUNK = 1 << 20
LIST_BATCH = 1 << 14
"""Number of words that are followed at once, taken from the whole image."""

AROUND = 64
"""Number of words before and behind an address that can belong to the same structure."""

VAIN_BATCHES = 8
"""Number of batches without any list after which no further ones are followed."""

ENOUGH_LISTS = 64
"""Number of lists after which no further ones are followed."""

MAX_POINTERS = 1 << 21
"""Highest number of words that are taken from one image; real images have half a million."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Words:
    """Size and byte order of the words of an image.

    Attributes:
        size: bytes of a word.
        byte_order: ``"<"`` or ``">"``.
    """

    size: int
    byte_order: str

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """NumPy's type of a word."""
        return np.dtype(f"{self.byte_order}u{self.size}")

    @property
    def int_dtype(self) -> np.dtype[np.unsignedinteger]:
        """NumPy's type of the kernel's 32-bit numbers."""
        return np.dtype(f"{self.byte_order}u4")

    @property
    def mask(self) -> int:
        """The greatest word."""
        return (1 << 8 * self.size) - 1

    def wrap(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return values modulo the size of the address space."""
        return values if self.size == 8 else values & np.uint64(self.mask)


@dataclass(frozen=True, eq=False)
class Pointers:
    """Words that were chosen of an image.

    Attributes:
        places: address of each word in the source, shape (n,), uint64, ascending.
        values: the words, shape (n,), uint64.
    """

    places: NDArray[np.uint64]
    values: NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class ListHeads(Pointers):
    """Words that can begin heads of lists.

    Attributes:
        lasts: the word behind each, shape (n,), uint64.
    """

    lasts: NDArray[np.uint64]


class Translation(NamedTuple):
    """The translation of virtual addresses.

    Attributes:
        mapping: how addresses are translated.
        root: physical address of the page table; None for windows.
    """

    mapping: Mapping
    root: int | None


Chosen = TypeVar("Chosen", bound=Pointers)


@dataclass(frozen=True, eq=False)
class Votes:
    """Numbers that are frequent.

    Attributes:
        values: the numbers, shape (n,), uint64.
        counts: the frequency of each, shape (n,).
    """

    values: NDArray[np.uint64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[np.uint64], least: int) -> Votes:
        """Count the numbers that occur at least ``least`` times."""
        return cls(*frequent(values, least))

    def moved(self, by: int, words: Words) -> Votes:
        """Return the votes for numbers that are ``by`` higher, modulo the address space."""
        return Votes(words.wrap(self.values + np.uint64(by % (1 << 64))), self.counts)

    def most_frequent(self, most: int) -> list[tuple[int, int]]:
        """Return the most frequent numbers and their counts.

        Of equally frequent numbers the highest comes first.
        """
        best = np.lexsort((self.values, self.counts))[::-1][:most]
        return list(zip(self.values[best].tolist(), self.counts[best].tolist(), strict=True))

    def lowest_most_frequent(self) -> list[tuple[int, int]]:
        """Return the most frequent number and its count, as a list of one.

        Of several such numbers the lowest is returned. The list is empty if there are no numbers.
        """
        best = np.lexsort((self.values, -self.counts))[:1]
        return list(zip(self.values[best].tolist(), self.counts[best].tolist(), strict=True))


def _choose(
    window: BytesSegment, words: Words, chosen: Callable[[int, NDArray[np.unsignedinteger]], NDArray[np.intp]]
) -> Pointers:
    """Return the aligned words at the indices that ``chosen`` gives for each chunk.

    There are `MAX_POINTERS` at most. ``chosen`` is called by several threads, with the address of a chunk and its words
    in native byte order.
    """
    whole = len(window.data) - (skipped := -window.start % words.size)
    whole -= whole % words.size

    def found_in(offset: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        stored = np.ascontiguousarray(window.data[offset : min(offset + CHUNK, skipped + whole)]).view(words.dtype)
        chunk = stored.astype(stored.dtype.newbyteorder("="), copy=False)
        start = window.start + offset
        hits = chosen(start, chunk)
        return hits.astype(np.uint64) * np.uint64(words.size) + np.uint64(start), chunk[hits].astype(np.uint64)

    places, values, count = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)], 0
    for some_places, some_values in in_threads(found_in, window.steps(CHUNK, skipped)):
        count += len(some_places)
        if count > MAX_POINTERS:
            break
        places.append(some_places)
        values.append(some_values)
    return Pointers(np.concatenate(places), np.concatenate(values))


def self_pointers(window: BytesSegment, words: Words) -> Pointers:
    """Return the words whose distance from their own address is whole pages.

    These are self-pointers, and some words by chance.
    """
    page = words.dtype.newbyteorder("=").type(PAGE - 1)
    skipped = -window.start % words.size
    # all chunks begin at the same offset in a page
    own = np.arange(CHUNK // words.size, dtype=page.dtype) * page.dtype.type(words.size)
    own = own + page.dtype.type(window.start + skipped & PAGE - 1) & page

    def chosen(_: int, chunk: NDArray[np.unsignedinteger]) -> NDArray[np.intp]:
        return np.flatnonzero(chunk & page == own[: len(chunk)])

    return _choose(window, words, chosen)


def list_head_distances(window: BytesSegment, words: Words, least: int = 16) -> Votes:
    """Count the distances at which pairs of words are empty list heads.

    The distances need not be whole pages. Both words of an empty head (``struct list_head``, include/linux/types.h)
    hold the address of the first one.

    Returns:
        The distances modulo the address space that at least ``least`` heads have.
    """

    def chosen(_: int, chunk: NDArray[np.unsignedinteger]) -> NDArray[np.intp]:
        return np.flatnonzero((chunk[:-1] == chunk[1:]) & (chunk[:-1] >= PAGE) & (chunk[:-1] < words.mask))

    found = _choose(window, words, chosen)
    return Votes.of(words.wrap(found.values - found.places), least)


def distances(pointers: Pointers, words: Words, least: int = 16) -> Votes:
    """Count the distances of whole pages from address to value.

    Distances are modulo the address space; at least ``least`` words must have one.
    """
    distance = words.wrap(pointers.values - pointers.places)
    return Votes.of(distance[distance & np.uint64(PAGE - 1) == 0], least)


def pointers_between(window: BytesSegment, words: Words, low: int, high: int) -> Pointers:
    """Return the words from ``low`` to ``high``."""
    word = words.dtype.newbyteorder("=").type
    lowest, span = word(low), word(min(high - low, words.mask))

    def chosen(_: int, chunk: NDArray[np.unsignedinteger]) -> NDArray[np.intp]:
        return np.flatnonzero(chunk - lowest <= span)

    return _choose(window, words, chosen)


def outside_of(pointers: Chosen, ranges: Iterable[tuple[int, int]]) -> Chosen:
    """Drop the words that lie in ranges of the source.

    Each range is an address and a size in bytes.
    """
    keep = np.ones(len(pointers.places), np.bool_)
    for start, size in ranges:
        keep &= pointers.places - np.uint64(start) >= np.uint64(max(0, size))
    return replace(pointers, **{each.name: getattr(pointers, each.name)[keep] for each in fields(pointers)})


def list_heads(window: BytesSegment, words: Words, image: range, linear: range) -> ListHeads:
    """Return words that can begin a list's head.

    They and the words behind them are aligned and point outside of the image.

    Args:
        window: the image.
        words: size and byte order of its words.
        image: its virtual addresses.
        linear: virtual addresses of memory that can be allocated.
    """
    word = words.dtype.newbyteorder("=").type
    aligned, low, size = word(words.size - 1), word(image.start), word(min(image.stop - image.start, words.mask))
    if linear.stop <= (lowest := max(PAGE, linear.start)):
        nothing = np.empty(0, np.uint64)
        return ListHeads(nothing, nothing, nothing)
    first, span = word(lowest), word(linear.stop - 1 - lowest)

    def chosen(_: int, chunk: NDArray[np.unsignedinteger]) -> NDArray[np.intp]:
        points = chunk - first <= span
        points &= chunk & aligned == 0
        # the other conditions are tested for few words only, which is cheaper
        pairs = np.flatnonzero(points[:-1] & points[1:])
        return pairs[(chunk[pairs] - low >= size) & (chunk[pairs + 1] - low >= size)]

    found = _choose(window, words, chosen)
    behind = (found.places - np.uint64(window.start)).astype(np.int64) + words.size
    lasts = np.ascontiguousarray(window.gather(behind, words.size)).view(words.dtype).reshape(-1).astype(np.uint64)
    return ListHeads(found.places, found.values, lasts)


def single_elements(memory: Memory, heads: ListHeads, words: Words, image: range, linear: range) -> int:
    """Return the number of distinct elements of the image's lists of one element.

    The elements lie outside of the image; no mapping is needed. Both pointers of such a list are the same. A linker
    makes no such list, and other equal pairs of words seldom look like addresses. An address looks like the image's own
    addresses, or, if these begin with a zero byte, like an address of existing memory.
    """
    pairs = heads.lasts == heads.values
    # only the neighbours of equal pairs are read, which are few
    places, values = heads.places[pairs], heads.values[pairs]
    before, _ = memory.words(places - np.uint64(words.size), words.dtype)
    after, _ = memory.words(places + np.uint64(2 * words.size), words.dtype)
    found = distinct(values[(before != values) & (after != values)])
    top = np.uint64(8 * words.size - 8)
    if words.size == 8 and image[-1] >> 56:
        return int(np.count_nonzero(found >> top == np.uint64(image[-1] >> 56)))
    return int(np.count_nonzero((found >= np.uint64(max(PAGE, linear.start))) & (found < np.uint64(linear.stop))))


def closed_lists(
    memory: Memory,
    heads: Pointers,
    words: Words,
    distance: int,
    by: Translation,
    enough: int = ENOUGH_LISTS,
) -> Pointers:
    """Return heads of lists whose first element points back at the head.

    The elements lie outside of the image. Not all lists are followed if there are many.

    Args:
        memory: physical memory.
        heads: words of the image, from `list_heads`.
        words: size and byte order of the kernel's words.
        distance: virtual address less physical address of the image.
        by: the translation of addresses.
        enough: number of lists after which no further ones are followed.
    """
    chosen = np.flatnonzero(by.mapping.translatable(heads.values))
    batches = -(-len(chosen) // LIST_BATCH)
    closed = np.empty(0, np.intp)
    for number in range(batches):
        batch = chosen[number::batches]
        own = words.wrap(heads.places[batch] + np.uint64(distance))
        physical, mapped = translate(memory, *by, words.wrap(heads.values[batch] + np.uint64(words.size)))
        back, held = memory.words(physical, words.dtype)
        closed = np.concatenate((closed, batch[mapped & held & (back == own)]))
        if len(closed) >= enough or (not len(closed) and number >= VAIN_BATCHES):
            break
    return Pointers(heads.places[closed], heads.values[closed])


def words_around(memory: Memory, places: NDArray[np.uint64], words: Words) -> NDArray[np.uint64]:
    """Return the distinct words around some addresses.

    Mostly they belong to the structures at these addresses.
    """
    steps = np.arange(-AROUND, AROUND + 1).astype(np.int64) * words.size
    cells = distinct(places[:, None] + steps.astype(np.uint64)[None, :])
    values, held = memory.words(cells, words.dtype)
    return distinct(values[held])
