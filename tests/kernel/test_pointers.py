"""Pointers of made-up images."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kallsift.errors import UnmappedError
from kallsift.kernel.pointers import KERNEL_HALF, Pointers, distances, find_pointers, hits_on_symbols
from kallsift.memory.model import AddressSpace, Memory, Segment

bounded = settings(deadline=None, derandomize=True, max_examples=60)

DISTANCE = 0xFFFF_FFFF_6A60_0000
ALIAS = 0xFFFF_8880_0000_0000


def pointers(*pairs: tuple[int, int]) -> Pointers:
    """From places and values."""
    ordered = sorted(pairs)
    return Pointers(
        np.array([place for place, _ in ordered], np.uint64),
        np.array([value % (1 << 64) for _, value in ordered], np.uint64),
    )


def image(words: dict[int, int], start: int, size: int, order: str = "<") -> Memory:
    """One segment of zeros but for the words, given by their addresses."""
    data = np.zeros(size, np.uint8)
    for place, value in words.items():
        raw = (value % (1 << 64)).to_bytes(8, "little" if order == "<" else "big")
        data[place - start : place - start + 8] = np.frombuffer(raw, np.uint8)
    return Memory("test", "test", AddressSpace.PHYSICAL, (Segment(start, data),))


def test_self_pointers_tell_the_distance() -> None:
    chance = random.Random(1)
    empty = [(0x1000 + 64 * i, 0x1000 + 64 * i + DISTANCE) for i in range(100)]
    others = [(0x9000 + 8 * i, chance.randrange(KERNEL_HALF, 1 << 64)) for i in range(1000)]
    assert distances(pointers(*empty, *others)) == [(DISTANCE, 100)]


def test_the_most_frequent_first() -> None:
    one = [(0x1000 + 16 * i, 0x1000 + 16 * i + DISTANCE) for i in range(30)]
    other = [(0x4000 + 16 * i, 0x4000 + 16 * i + ALIAS) for i in range(50)]
    assert distances(pointers(*one, *other)) == [(ALIAS, 50), (DISTANCE, 30)]
    assert distances(pointers(*one, *other), most=1) == [(ALIAS, 50)]
    assert distances(pointers(*one, *other), least=31) == [(ALIAS, 50)]


def test_distances_of_no_whole_page_do_not_count() -> None:
    assert distances(pointers(*((0x1000 + 16 * i, 0x1008 + 16 * i + DISTANCE) for i in range(50)))) == []


def test_too_few_self_pointers() -> None:
    pairs = [(0x1000 + 16 * i, 0x1000 + 16 * i + DISTANCE) for i in range(15)]
    assert distances(pointers(*pairs)) == []
    assert distances(pointers()) == []


def test_an_image_mapped_below_its_place() -> None:
    """The distance is modulo 2^64."""
    high = 0xFFFF_FFFF_FFFF_0000
    pairs = [(high + 16 * i, 0xFFFF_FFFF_8100_0000 + 16 * i) for i in range(32)]
    assert distances(pointers(*pairs)) == [((0xFFFF_FFFF_8100_0000 - high) % (1 << 64), 32)]


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
    found = distances(pointers(*pairs), least=least, most=1000)
    assert dict(found) == {distance: count for distance, count in counted.items() if count >= least}
    assert [count for _, count in found] == sorted((count for _, count in found), reverse=True)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("start", [0x10_0000, 0x10_0004])
def test_words_that_are_pointers(order: str, start: int) -> None:
    words = {
        0x10_0008: DISTANCE,
        0x10_0010: KERNEL_HALF,
        0x10_0018: KERNEL_HALF - 1,
        0x10_0020: 5,
        0x30_0000: DISTANCE + 8,
        0x30_0FF8: (1 << 64) - 1,
    }
    found = find_pointers(image(words, start, 0x20_1000 - (start & 7), order), 0x20_0000, order)
    assert dict(zip(found.places.tolist(), found.values.tolist(), strict=True)) == {
        place: value for place, value in words.items() if value >= KERNEL_HALF
    }
    assert found.places.tolist() == sorted(found.places.tolist())


def test_a_segment_without_a_word() -> None:
    assert len(find_pointers(image({}, 0x1001, 7), 0x1004, "<").places) == 0
    with pytest.raises(UnmappedError):
        find_pointers(image({}, 0x1000, 8), 0x2000, "<")


def test_hits_on_symbols_against_chance() -> None:
    chance = random.Random(2)
    symbols = sorted(DISTANCE + 16 * value for value in chance.sample(range(1 << 20), 2000))
    true = [(8 * i, symbol) for i, symbol in enumerate(symbols[::4])]
    # each counts once, however often it stands there
    repeated = [(1 << 20 | 8 * i, symbols[0]) for i in range(300)]
    addresses = np.array([0, 8, *symbols], np.uint64)
    hits, by_chance, inside = hits_on_symbols(pointers(*true, *repeated), addresses)
    assert (hits, inside) == (500, 500)
    assert by_chance < 20
    random_pairs = [(8 * i, DISTANCE + 8 * chance.randrange(1 << 21)) for i in range(4000)]
    hits, by_chance, _ = hits_on_symbols(pointers(*random_pairs), addresses)
    assert hits < 32 + 1.5 * by_chance


def test_hits_without_kernel_addresses() -> None:
    assert hits_on_symbols(pointers((8, DISTANCE)), np.array([0, 16], np.uint64)) == (0, 0.0, 0)
    assert hits_on_symbols(pointers(), np.array([DISTANCE], np.uint64)) == (0, 0.0, 0)
