"""Layouts are what they say, so that a decoder's failure on one is its own."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.kallsyms.layouts import BANNER, BANNER_SYMBOL, TABLES, Layout, layout
from tests.oracle.tokens import expand

pytestmark = pytest.mark.sampled(6)


def numbers(one: Layout, name: str, size: int, *, signed: bool = False) -> list[int]:
    """The elements of a table of numbers."""
    kind = f"{'<' if one.byte_order == 'little' else '>'}{'i' if signed else 'u'}{size}"
    return [int(value) for value in np.frombuffer(one.data[one.table(name)], kind)]


def addresses(one: Layout) -> list[int]:
    """Decoded plainly, one by one."""
    base, place = one.relative_base or 0, one.address + one.blob.tables.get("offsets", one.blob.tables["names"]).offset
    modulus = 1 << 8 * one.word_size
    match one.blob.era.encoding:
        case "absolute" if "addresses" in one.blob.tables:
            return numbers(one, "addresses", one.word_size)
        case "absolute":
            return numbers(one, "offsets", 4)
        case "offset":
            return [base + value for value in numbers(one, "offsets", 4)]
        case "percpu":
            raw = numbers(one, "offsets", 4, signed=True)
            return [value if value >= 0 else base - 1 - value for value in raw]
        case "self-relative":
            raw = numbers(one, "offsets", 4, signed=True)
            return [(place + 4 * index + value) % modulus for index, value in enumerate(raw)]


@pytest.mark.parametrize("seed", range(40))
def test_a_layout_says_what_its_symbols_are(seed: int) -> None:
    one = layout(seed)
    names = one.blob.tables["names"]
    data, texts, heads = one.data, [], one.blob.heads
    for head, end in zip(heads, (*heads[1:], names.end), strict=True):
        two = one.blob.era.long_names and data[head] >= 0x80
        texts.append(expand(one.blob.tokens, data[head + 1 + two : end]).decode("latin-1"))
    assert texts == [symbol.letter + symbol.name for symbol in one.symbols]
    assert addresses(one) == [symbol.address for symbol in one.symbols]
    assert [symbol.address for symbol in one.symbols] == sorted(symbol.address for symbol in one.symbols)
    assert numbers(one, "markers", one.blob.era.marker_size) == [head - names.offset for head in heads[::256]]
    assert numbers(one, "num_syms", one.blob.era.count_size) == [len(one.symbols)]


@pytest.mark.parametrize("seed", range(40))
def test_tables_and_banner_lie_apart_and_aligned(seed: int) -> None:
    one = layout(seed)
    places = sorted(one.blob.tables.values(), key=lambda place: place.offset)
    assert all(a.end <= b.offset for a, b in itertools.pairwise(places))
    assert not any(place.offset < one.banner + len(BANNER) and one.banner < place.end for place in places)
    widths = {"markers": one.blob.era.marker_size, "addresses": one.word_size, "relative_base": one.word_size}
    for name, place in one.blob.tables.items():
        assert (one.address + place.offset) % widths.get(name, 4) == 0
    if one.relative_base is not None:
        offsets, base = one.blob.tables["offsets"], one.blob.tables["relative_base"]
        assert 0 <= (base.offset - offsets.end if one.base_adjacent == "behind" else offsets.offset - base.end) < 8


@pytest.mark.parametrize("seed", range(10))
def test_symbols_close(seed: int) -> None:
    one = layout(seed, closed=True)
    known = {symbol.name: symbol.address - one.address for symbol in one.symbols}
    if one.closed:
        assert one.data[known[BANNER_SYMBOL] :].startswith(BANNER)
        assert {f"kallsyms_{name}": place.offset for name, place in one.blob.tables.items()}.items() <= known.items()
    else:
        assert not known.keys() & {BANNER_SYMBOL, *(f"kallsyms_{name}" for name in TABLES)}


@pytest.mark.parametrize("word_size", [4, 8])
@pytest.mark.parametrize("seed", range(5))
def test_the_image_points_at_itself_and_at_symbols(seed: int, word_size: int) -> None:
    one = layout(seed, word_size=word_size)
    kind = f"{'<' if one.byte_order == 'little' else '>'}u{word_size}"
    words = np.frombuffer(one.data[: len(one.data) // word_size * word_size], kind).astype(np.uint64)
    places = np.arange(len(words), dtype=np.uint64) * np.uint64(word_size) + np.uint64(one.address)
    assert np.count_nonzero(words == places) >= 64
    assert len(np.intersect1d(words, np.array([symbol.address for symbol in one.symbols], np.uint64))) >= 200


def test_a_seed_gives_one_layout() -> None:
    assert layout(7) == layout(7)
    assert layout(7) != layout(8)
    assert layout(7, base_adjacent="apart").base_adjacent == "apart"
