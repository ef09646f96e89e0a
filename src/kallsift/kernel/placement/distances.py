"""Find candidates for the distance of a kernel image: virtual address less address in the source of each byte.

A candidate is a guess. `kallsift.kernel.placement.distance_checks` tests it by things that would not hold at another
distance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct, is_in
from kallsift.kallsyms.evidence import Check, CheckId
from kallsift.kallsyms.format.address_encodings import Base
from kallsift.kallsyms.recovered_tables import Tables
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.placement.distance_checks import beginnings
from kallsift.kernel.placement.pointers import (
    AFTER,
    BEFORE,
    Votes,
    Words,
    distances,
    list_head_distances,
    self_pointers,
)
from kallsift.kernel.placement.window_facts import WindowFacts
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment

FIRST_SYMBOLS = ("_text", "_stext", "stext", "_start")
"""Names of the first byte of a flat image."""

BANNER = b"Linux version "

MAX_BANNERS = 16
"""Highest number of banners that are tried: an image has one or two (``linux_banner`` and ``linux_proc_banner``)."""

MIN_AGREEING = 2
"""Number of names of tables that must agree on a distance before it is tried."""

MIN_VOTES = 16
"""Number of pointers and symbols that must agree on a distance before it is tried."""

MAX_SELF_POINTERS, MAX_EMPTY_HEADS = 64, 8
"""Highest numbers of distances that are taken from words that point at themselves, and from empty heads of lists."""

RUNNER_UP = 4
"""A distance is tried if no other distance has more than this many times as many list heads."""

SAMPLE = 64
"""Number of pointers whose distances to all symbols are counted."""

MAX_STRINGS = 1 << 17
"""Highest number of strings whose distances to pointers are counted; real images have some 100,000."""

MIN_LETTERS = 6
"""Number of characters with which a string must begin to be counted."""

MAX_SAMPLED = 1 << 20
"""Highest number of words that are sampled to find the region that most lie in."""

REGION_BITS = 26
"""Bits of an address inside of a region as large as an image."""

PAGE = 4096


class Origin(Enum):
    """The source of a candidate distance."""

    IMAGE = "image"
    """Much of the image's own content, which would not fit at another distance."""
    CLAIM = "claim"
    """A header, which may describe something else."""
    LANDMARK = "landmark"
    """One symbol that lies where it says: one equation finds one unknown, but proves nothing."""
    ASSUMPTION = "assumption"
    """No evidence: most images are so."""


@dataclass(frozen=True)
class Candidate:
    """A distance that is worth a test.

    Attributes:
        distance: virtual address less address in the source, modulo 2^64.
        reason: the check that says where it comes from.
        origin: the kind of its source.
    """

    distance: int
    reason: Check
    origin: Origin = Origin.IMAGE


def given_candidates(memory: Memory) -> Iterator[Candidate]:
    """Yield the distance that the source's own headers give.

    Nothing else is tried if this distance is proven.
    """
    if memory.space is AddressSpace.VIRTUAL:
        given = "the image's headers give" if memory.image is not None else "the source has"
        yield Candidate(0, Check.that(CheckId.VIRTUAL_ADDRESSES, True, f"{given} virtual addresses"), Origin.CLAIM)


def self_pointer_distances(facts: WindowFacts) -> list[tuple[int, int]]:
    """Return the distances at which many words point at themselves, and their numbers.

    The distances are whole pages; those with most words come first.
    """
    window, words = facts.window, facts.words

    def find() -> Votes:
        return distances(self_pointers(window, words), words).moved(window.start, words)

    votes = facts.once_aligned("self-pointers", find, PAGE)
    return votes.moved(-window.start, words).most_frequent(MAX_SELF_POINTERS)


def empty_head_distances(facts: WindowFacts) -> list[tuple[int, int]]:
    """Return the distances at which pairs of words are empty heads, and their numbers.

    The distances with most heads of lists come first.
    """
    window, words = facts.window, facts.words

    def find() -> Votes:
        return list_head_distances(window, words).moved(window.start, words)

    votes = facts.once_aligned("empty heads", find)
    return votes.moved(-window.start, words).most_frequent(MAX_EMPTY_HEADS)


def self_pointer_candidates(facts: WindowFacts) -> Iterator[Candidate]:
    """Yield the distances at which many words point at themselves.

    The heads of empty lists do so. The distances are whole pages.
    """
    for distance, votes in self_pointer_distances(facts):
        detail = f"{votes} words point at themselves at a distance of {distance:#x}"
        yield Candidate(distance, Check.that(CheckId.SELF_POINTERS, True, detail))


def image_candidates(memory: Memory, tables: Tables, facts: WindowFacts) -> Iterator[Candidate]:
    """Yield the candidates for the distance of a kernel image, the likeliest first.

    The image need not lie at a page of its source.
    """
    words = facts.words
    if memory.image is not None and memory.image.base is not None:
        detail = f"a header of the image gives the base {memory.image.base:#x}"
        distance = memory.image.base - memory.segments[0].start & words.mask
        yield Candidate(distance, Check.that(CheckId.BASE, True, detail), Origin.CLAIM)
    yield from landmark_candidates(tables, facts)
    found = empty_head_distances(facts)
    for distance, votes in found:
        if votes * RUNNER_UP < found[0][1]:
            break
        detail = f"{votes} list heads point at themselves at a distance of {distance:#x}"
        yield Candidate(distance, Check.that(CheckId.SELF_POINTERS, True, detail))
    yield from _first_byte_candidates(memory, tables, words)


def unplaced_symbols(tables: Tables, array_virtual: int = 0) -> SymbolTable:
    """Return the symbols of tables that are not placed.

    Self-relative addresses count from ``array_virtual``.
    """
    words = Words(tables.word_size, tables.byte_order)
    addresses = words.wrap(tables.array.addresses(array_virtual))
    return SymbolTable(addresses, tables.characters, tables.bounds, tables.word_size, tables.known_addresses)


def is_self_relative(tables: Tables) -> bool:
    """Return whether all addresses move with the location of the tables, as since 7.0."""
    return tables.array.encoding.base is Base.SELF


def landmark_candidates(tables: Tables, facts: WindowFacts) -> Iterator[Candidate]:
    """Yield distances at which the tables and the banner lie where symbols say."""
    if is_self_relative(tables):
        return  # these symbols move with the distance, so they agree with every distance
    symbols, words = unplaced_symbols(tables), facts.words
    named = [
        (symbols.symbol(index).address - place & words.mask, name)
        for name, place, _ in tables.places
        if (index := symbols.find(f"kallsyms_{name}")) is not None
    ]
    agreeing = Counter(distance for distance, _ in named)
    for distance, name in named:
        if agreeing[distance] >= MIN_AGREEING:
            detail = f"kallsyms_{name} lies where its symbol says at a distance of {distance:#x}"
            yield Candidate(distance, Check.that(CheckId.OWN_NAME, True, detail), Origin.LANDMARK)
    if (index := symbols.find("linux_banner")) is not None:
        banners = facts.once("banners", lambda: list(islice(_offsets(facts.window, BANNER), MAX_BANNERS)))
        for offset in banners:
            distance = symbols.symbol(index).address - facts.window.start - offset & words.mask
            detail = f"a banner lies where linux_banner says at a distance of {distance:#x}"
            yield Candidate(distance, Check.that(CheckId.BANNER_PLACE, True, detail), Origin.LANDMARK)


def _offsets(window: BytesSegment, text: bytes) -> Iterator[int]:
    """Yield the offsets at which a text stands."""
    data = window.data.tobytes()
    offset = data.find(text)
    while offset >= 0:
        yield offset
        offset = data.find(text, offset + 1)


def _first_byte_candidates(memory: Memory, tables: Tables, words: Words) -> Iterator[Candidate]:
    """Yield the guess that the source begins with its first symbol, as flat images do."""
    if memory.image is None or is_self_relative(tables):
        return
    symbols = unplaced_symbols(tables)
    for name in FIRST_SYMBOLS:
        for symbol in symbols.all(name):
            detail = f"it is assumed to be at {symbol.address:#x}, the address of {name}"
            distance = symbol.address - memory.segments[0].start & words.mask
            yield Candidate(distance, Check.that(CheckId.FIRST_BYTE, True, detail), Origin.ASSUMPTION)


def pointer_candidates(tables: Tables, facts: WindowFacts) -> Iterator[Candidate]:
    """Yield the distance at which most pointers would equal self-relative symbols.

    Every difference of a pointer and a symbol is a vote; only the right difference is shared by many pointers.
    """
    if not is_self_relative(tables):
        return
    words = facts.words
    # these addresses count from the array, whose address is unknown
    symbols = distinct(unplaced_symbols(tables).addresses)
    pointers = facts.once_aligned("likely pointers", lambda: _likely_pointers(facts.window, facts.words))
    if not len(symbols) or not len(pointers):
        return
    sample = pointers[:: max(1, len(pointers) // SAMPLE)][: 2 * SAMPLE]

    def find() -> Votes:
        # tables are aligned to four bytes where they are mapped
        differences = (words.wrap(pointer - symbols) for pointer in sample)
        return Votes.of(np.concatenate([some[some & np.uint64(3) == 0] for some in differences]), MIN_VOTES)

    place = tables.array_address
    votes = facts.once_of("pointers' distance", (symbols,), find)
    for distance, count in votes.moved(-place, words).lowest_most_frequent():
        detail = f"{count} of {len(sample)} pointers equal symbols at a distance of {distance:#x}"
        yield Candidate(distance, Check.that(CheckId.POINTER_DISTANCE, True, detail))


def string_candidates(tables: Tables, facts: WindowFacts) -> Iterator[Candidate]:
    """Yield the distance at which most pointers would lead to beginnings of strings.

    Every difference of a pointer and a string is a vote, as in `pointer_candidates`. This is the last way, for images
    whose data with list heads are mapped apart from the tables (execute in place), or are not there.
    """
    window, words = facts.window, facts.words
    pointers = facts.once_aligned("likely pointers", lambda: _likely_pointers(facts.window, facts.words))
    if not is_self_relative(tables):
        addresses = unplaced_symbols(tables).addresses
        if not _can_share_image(addresses, pointers, window, words):
            return
        pointers = pointers[~is_in(pointers, addresses)]
    strings = facts.once("strings", lambda: _sampled_strings(window))
    if not len(strings) or len(pointers) < MIN_VOTES:
        return
    sample = pointers[:: max(1, len(pointers) // SAMPLE)][: 2 * SAMPLE]

    def find() -> Votes:
        return Votes.of(words.wrap((sample[:, None] - strings[None, :]).ravel()), MIN_VOTES)

    votes = facts.once_of("strings' distance", (sample,), find)
    for distance, count in votes.moved(-window.start, words).lowest_most_frequent():
        detail = f"{count} of {len(sample)} pointers lead to strings at a distance of {distance:#x}"
        yield Candidate(distance, Check.that(CheckId.STRING_DISTANCE, True, detail))


def _sampled_strings(window: BytesSegment) -> NDArray[np.uint64]:
    """Return the offsets at which strings begin; at most `MAX_STRINGS`."""
    strings = beginnings(window.data, MIN_LETTERS).astype(np.uint64)
    return strings[:: len(strings) // MAX_STRINGS + 1].copy()


def _can_share_image(
    addresses: NDArray[np.uint64], pointers: NDArray[np.uint64], window: BytesSegment, words: Words
) -> bool:
    """Return whether half of the symbols lie as near to the pointers as in one image.

    At any distance, symbols and pointers of one image lie so near. Most readings of tables are wrong and have addresses
    elsewhere; counting votes for them would take long. The pointers are ascending.
    """
    if not len(pointers):
        return False
    # targets of pointers lie in the window, as the tables do, and symbols lie in the image around the tables
    low = words.wrap(pointers[:1] - np.uint64(BEFORE + len(window.data)))
    span = pointers[-1] - pointers[0] + np.uint64(BEFORE + AFTER + 2 * len(window.data))
    return 2 * int(np.count_nonzero(words.wrap(addresses - low) < span)) >= len(addresses)


def _likely_pointers(window: BytesSegment, words: Words) -> NDArray[np.uint64]:
    """Return the distinct words of an image that are probably pointers.

    They lie in the 64 MiB of the address space that most words lie in. Only words beside another such word, or beside a
    small number, are returned: structures have these, machine code seldom.
    """
    skipped = -window.start % words.size
    raw = np.ascontiguousarray(window.data[skipped:][: (len(window.data) - skipped) // words.size * words.size])
    values = raw.view(words.dtype)
    # count each value once, because padding of code repeats itself
    region = distinct(values[:: len(values) // MAX_SAMPLED + 1].astype(np.uint64)) >> np.uint64(REGION_BITS)
    region = region[(region != 0) & (region != np.uint64(words.mask >> REGION_BITS))]
    if not len(region):
        return np.empty(0, np.uint64)
    regions, counts = np.unique(region, return_counts=True)
    low = values.dtype.newbyteorder("=").type(int(regions[np.argmax(counts)]) << REGION_BITS)
    inside = np.flatnonzero(values - low < 1 << REGION_BITS)
    inside = inside[(inside > 0) & (inside < len(values) - 1)]
    beside = np.stack((values[inside - 1], values[inside + 1]))
    companions = (beside - low < 1 << REGION_BITS) | (beside < PAGE)
    return distinct(values[inside[companions.any(axis=0)]].astype(np.uint64))
