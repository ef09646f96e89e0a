"""Exports are found in every form that releases have, and say which name belongs to which address."""

from __future__ import annotations

import random
from itertools import accumulate

import numpy as np
import pytest

from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.checks.ksymtab import find_exports
from kallsift.kernel.placement.pointers import Words
from kallsift.memory.segments import BytesSegment
from tests.kernel.images import EACH

PLACE = 0x10_0000
SIZE = 1 << 16
NAMES = [f"exported_{number}" for number in range(50)]
each_kind = pytest.mark.parametrize("words", EACH, ids=str)
each_form = pytest.mark.parametrize("fields", [2, 3])


def start(words: Words) -> int:
    return 0xFFFF_FFFF_8100_0000 if words.size == 8 else 0xC010_0000


def image(words: Words, fields: int, addresses: list[int], *, relative: bool) -> BytesSegment:
    """Noise with the names' exports in it, as pointers or as offsets from their own place."""
    size = 4 if relative else words.size
    data = bytearray(random.Random(fields).randbytes(SIZE))
    table, strings = 0x1000, 0x8000
    starts = [0, *accumulate(len(name) + 1 for name in NAMES)]
    data[strings - 1 : strings + starts[-1]] = b"\0" + b"".join(name.encode() + b"\0" for name in NAMES)
    for number, address in enumerate(addresses):
        for field, value in enumerate([address, start(words) + strings + starts[number], start(words) + strings - 1]):
            if field < fields:
                place = table + (number * fields + field) * size
                own = start(words) + place if relative else 0
                raw = (value - own) % (1 << 8 * size)
                data[place : place + size] = raw.to_bytes(size, "little" if words.byte_order == "<" else "big")
    return BytesSegment(PLACE, np.frombuffer(bytes(data), np.uint8))


def symbols(words: Words, named: list[tuple[str, int]]) -> SymbolTable:
    texts = [f"T{name}" for name, _ in named]
    bounds = np.array([0, *accumulate(map(len, texts))], np.int64)
    characters = np.frombuffer("".join(texts).encode(), np.uint8)
    return SymbolTable(np.array([at for _, at in named], np.uint64), characters, bounds, words.size)


@each_kind
@each_form
@pytest.mark.parametrize("relative", [False, True], ids=["pointers", "offsets"])
def test_exports_in_each_form(words: Words, fields: int, relative: bool) -> None:
    addresses = [start(words) + 64 * number for number in range(len(NAMES))]
    window = image(words, fields, addresses, relative=relative)
    found = find_exports(window, words, start(words) - PLACE & (1 << 64) - 1)
    pairs = set(zip(found.names, found.addresses.tolist(), strict=True))
    assert set(zip(NAMES, addresses, strict=True)) <= pairs
    named = list(zip(NAMES, addresses, strict=True))
    assert found.compared(symbols(words, named)) == (len(NAMES), 0)
    other = find_exports(window, words, start(words) - PLACE + 0x4000 & (1 << 64) - 1)
    assert other.compared(symbols(words, named))[0] == 0


@each_kind
def test_names_one_entry_away_contradict(words: Words) -> None:
    """But for those of neighbours that share an address."""
    addresses = [start(words) + 64 * (number - number % 5 // 4) for number in range(len(NAMES))]
    window = image(words, 2, addresses, relative=False)
    found = find_exports(window, words, start(words) - PLACE & (1 << 64) - 1)
    shifted = list(zip(NAMES[1:], addresses, strict=False))
    assert found.compared(symbols(words, shifted)) == (10, 39)


def test_what_the_table_does_not_name_says_nothing() -> None:
    words = EACH[0]
    window = image(words, 2, [start(words)] * len(NAMES), relative=False)
    found = find_exports(window, words, start(words) - PLACE & (1 << 64) - 1)
    assert found.compared(symbols(words, [("unknown", start(words))])) == (0, 0)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 4097])
@each_kind
def test_no_bytes_raise(words: Words, size: int) -> None:
    window = BytesSegment(PLACE + size % 4, np.frombuffer(random.Random(size).randbytes(size), np.uint8))
    find_exports(window, words, 0xFFFF_FFFF_FFFF_FFF0)
