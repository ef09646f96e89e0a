"""Pointers of made-up images."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kallsift.arch.paging import Window, Windows
from kallsift.kernel.placement.pointers import (
    Pointers,
    Translation,
    Words,
    closed_lists,
    distances,
    list_heads,
    pointers_between,
    self_pointers,
    single_elements,
)
from tests.examples import examples
from tests.kernel.images import EACH, NARROW, WIDE, memory, pointers, segment

bounded = settings(derandomize=True, max_examples=examples(60))
each_kind = pytest.mark.parametrize("words", EACH, ids=str)

DISTANCE = 0xFFFF_FFFF_6A60_0000
ALIAS = 0xFFFF_8880_0000_0000


def most_frequent(found: Pointers, words: Words, least: int = 16, most: int = 64) -> list[tuple[int, int]]:
    return distances(found, words, least).most_frequent(most)


def pairs_of(found: Pointers) -> dict[int, int]:
    return dict(zip(found.places.tolist(), found.values.tolist(), strict=True))


def test_self_pointers_tell_the_distance() -> None:
    chance = random.Random(1)
    empty = [(0x1000 + 64 * i, 0x1000 + 64 * i + DISTANCE) for i in range(100)]
    others = [(0x9000 + 8 * i, chance.randrange(1 << 63, 1 << 64)) for i in range(1000)]
    assert most_frequent(pointers(*empty, *others), WIDE) == [(DISTANCE, 100)]


def test_the_most_frequent_first() -> None:
    one = [(0x1000 + 16 * i, 0x1000 + 16 * i + DISTANCE) for i in range(30)]
    other = [(0x4000 + 16 * i, 0x4000 + 16 * i + ALIAS) for i in range(50)]
    assert most_frequent(pointers(*one, *other), WIDE) == [(ALIAS, 50), (DISTANCE, 30)]
    assert most_frequent(pointers(*one, *other), WIDE, most=1) == [(ALIAS, 50)]
    assert most_frequent(pointers(*one, *other), WIDE, least=31) == [(ALIAS, 50)]


def test_distances_of_no_whole_page_do_not_count() -> None:
    assert most_frequent(pointers(*((0x1000 + 16 * i, 0x1008 + 16 * i + DISTANCE) for i in range(50))), WIDE) == []


def test_too_few_self_pointers() -> None:
    pairs = [(0x1000 + 16 * i, 0x1000 + 16 * i + DISTANCE) for i in range(15)]
    assert most_frequent(pointers(*pairs), WIDE) == []
    assert most_frequent(pointers(), WIDE) == []


def test_an_image_mapped_where_it_lies() -> None:
    """As s390x up to 6.9: the distance is nothing."""
    assert most_frequent(pointers(*((0x1000 + 16 * i, 0x1000 + 16 * i) for i in range(32))), WIDE) == [(0, 32)]


@pytest.mark.parametrize(
    ("words", "place", "address"),
    [(WIDE, 0xFFFF_FFFF_FFFF_0000, 0xFFFF_FFFF_8100_0000), (NARROW, 0xE000_0000, 0xC000_0000)],
)
def test_an_image_mapped_below_its_place(words: Words, place: int, address: int) -> None:
    """The distance is modulo the address space."""
    pairs = [(place + 16 * i, address + 16 * i) for i in range(32)]
    assert most_frequent(pointers(*pairs), words) == [((address - place) & words.mask, 32)]


@bounded
@given(
    st.lists(st.tuples(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1)), max_size=40), st.integers(1, 5)
)
def test_distances_as_a_plain_count(pairs: list[tuple[int, int]], least: int) -> None:
    pairs += [(8 * i, 8 * i + 0x5000) for i in range(6)]
    counted: dict[int, int] = {}
    for place, value in pairs:
        distance = (value - place) % (1 << 64)
        if distance % 4096 == 0:
            counted[distance] = counted.get(distance, 0) + 1
    found = most_frequent(pointers(*pairs), WIDE, least=least, most=1000)
    assert dict(found) == {distance: count for distance, count in counted.items() if count >= least}
    assert [count for _, count in found] == sorted((count for _, count in found), reverse=True)


@each_kind
@pytest.mark.parametrize("start", [0x10_0000, 0x10_0004, 0x10_0001])
def test_words_that_can_point_at_themselves(words: Words, start: int) -> None:
    apart = 0xC000_0000
    values = {
        0x10_0008: 0x10_0008 + apart,
        0x10_0010: 0x10_0018 + apart,
        0x10_0020: 5,
        0x2F_FFF8: 0x2F_FFF8 + apart,
        0x30_0008: 0x30_0008 + 4 * apart & words.mask,
    }
    found = pairs_of(self_pointers(segment(values, start, 0x20_1000 - (start & 7), words), words))
    del values[0x10_0010], values[0x10_0020]
    # zeros at the start of a page count too: their distances differ
    assert {place: value for place, value in found.items() if value} == values
    assert all(place % 4096 == 0 for place, value in found.items() if not value)


@each_kind
def test_words_of_a_range(words: Words) -> None:
    values = {0x1008: 0x8000_0000, 0x1010: 0x7FFF_FFFF, 0x1018: 0x9000_0000, 0x1020: 0x9000_0001, 0x1028: 1}
    found = pointers_between(segment(values, 0x1000, 0x100, words), words, 0x8000_0000, 0x9000_0000)
    assert pairs_of(found) == {0x1008: 0x8000_0000, 0x1018: 0x9000_0000}


@each_kind
def test_words_of_all_addresses(words: Words) -> None:
    """As where symbols lie at both ends of the address space."""
    values = {0x1008: 0x8000_0000, 0x1008 + words.size: words.mask}
    found = pointers_between(segment(values, 0x1008, 2 * words.size, words), words, 4, words.mask + 5)
    assert pairs_of(found) == values


def test_a_segment_without_a_word() -> None:
    assert len(self_pointers(segment({}, 0x1001, 6), WIDE).places) == 0


IMAGE, LINEAR, BASE = range(0x8010_0000, 0x8020_0000), range(0x8000_0000, 0x9000_0000), 0x8000_0000
IDENTITY = Windows("test", "window", (Window(BASE, 0, 1 << 28),))


def lists(words: Words, closed: int, open_: int, single: int) -> dict[int, int]:
    """An image's lists by physical address: those that close, those that do not, and those of one element."""
    values: dict[int, int] = {}
    for number in range(closed + open_ + single):
        head, element = 0x10_0000 + 64 * number, 0x40_0000 + 64 * number
        last = element if number >= closed + open_ else element + 32
        values |= {head: BASE + element, head + words.size: BASE + last}
        if not closed <= number < closed + open_:
            values |= {element: BASE + last, element + words.size: BASE + head}
    return values


@each_kind
def test_lists_that_close_outside_of_the_image(words: Words) -> None:
    whole = memory(segment(lists(words, 20, 30, 7), 0, 0x50_0000, words))
    heads = list_heads(whole.window(0x10_0000, 0, 0x10_0000), words, IMAGE, LINEAR)
    assert len(heads.places) == 57
    assert len(closed_lists(whole, heads, words, BASE, Translation(IDENTITY, None)).places) == 27
    assert len(closed_lists(whole, heads, words, BASE + 0x1000, Translation(IDENTITY, None)).places) == 0
    assert single_elements(whole, heads, words, IMAGE, LINEAR) == 7


@each_kind
def test_lists_inside_of_the_image_tell_nothing(words: Words) -> None:
    whole = memory(segment(lists(words, 20, 0, 7), 0, 0x50_0000, words))
    everything = range(BASE, BASE + 0x50_0000)
    assert len(list_heads(whole.around(0, 0, 0x50_0000), words, everything, LINEAR).places) == 0
    assert len(list_heads(whole.around(0, 0, 0x50_0000), words, IMAGE, range(BASE, BASE + 0x20_0000)).places) == 0
