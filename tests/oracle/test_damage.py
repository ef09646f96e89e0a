"""What the oracle says of damaged tables is so."""

from __future__ import annotations

import itertools
from typing import get_args

import numpy as np
import pytest

from tests.oracle.damage import PAGE, Filler, damage
from tests.oracle.eras import ALL_ERAS, Era
from tests.oracle.symbols import TEXT, Symbol, population
from tests.oracle.writer import write

BY_NAME = {era.name: era for era in ALL_ERAS}
FILLERS: tuple[Filler, ...] = get_args(Filler)


@pytest.mark.parametrize("filler", FILLERS)
@pytest.mark.parametrize("share", [0.01, 0.1, 0.25])
@pytest.mark.parametrize(
    "era", [BY_NAME["2.6.9 x86"], BY_NAME["5.10 x86"], BY_NAME["openwrt 6.6"], BY_NAME["7.0"]], ids=str
)
def test_survivors_have_their_bytes(era: Era, share: float, filler: Filler) -> None:
    blob = write(population(3000), era, address=TEXT)
    around = bytes(100) + blob.data + bytes(5000)
    done = damage(blob, around, 100, 0x1234_0000, share, 1, filler)
    assert len(done.data) == len(around)
    assert done.lost
    places = sorted({i for i, (a, b) in enumerate(zip(around, done.data, strict=True)) if a != b})
    assert {(0x1234_0000 + place) // PAGE * PAGE for place in places} <= {*done.lost}
    bounds = [*blob.heads, blob.tables["names"].end]
    array = blob.tables["addresses" if "addresses" in blob.tables else "offsets"]
    width = array.size // len(blob.symbols)
    changed = np.zeros(len(around) + 1, np.int64)
    changed[np.array(places, np.int64) + 1] = 1
    changed = np.cumsum(changed)
    for index, (low, high) in enumerate(itertools.pairwise(bounds)):
        if done.names[index]:
            assert changed[100 + high] == changed[100 + low]
        if done.addresses[index]:
            place = 100 + array.offset + width * index
            assert changed[place + width] == changed[place]
    assert np.array_equal(done.survivors, done.names & done.addresses)


def test_a_lost_token_takes_the_names_that_use_it() -> None:
    blob = write(population(3000), BY_NAME["6.4 absolute"], address=TEXT)
    table, names = blob.tables["token_table"], blob.tables["names"]
    # a page begins amid the tokens
    address = -(table.offset + 400) % PAGE
    page = address + table.offset + 400
    lost = next(one for seed in range(200) if (one := damage(blob, blob.data, 0, address, 1e-9, seed)).lost == (page,))
    kept, place = set(), table.offset
    for code, token in enumerate(blob.tokens):
        place += len(token) + 1
        kept |= {code} if place <= table.offset + 400 else set()
    entries = [blob.data[low + 1 : high] for low, high in itertools.pairwise([*blob.heads, names.end])]
    assert lost.names.tolist() == [{*entry} <= kept for entry in entries]
    assert 0 < lost.names.sum() < 3000


def test_a_lost_name_takes_those_that_begin_as_it_does() -> None:
    symbols = [Symbol(TEXT + i, "T", name) for i, name in enumerate(("a" * PAGE, "abc", "abd", "bcd", "bce"))]
    blob = write(symbols, BY_NAME["2.6.9 x86"], address=TEXT)
    start = -(blob.heads[0] + 1) % PAGE
    lost = next(
        one
        for seed in range(50)
        if (one := damage(blob, blob.data, 0, start, 1e-9, seed)).lost == (start + blob.heads[0] + 1,)
    )
    assert lost.names.tolist() == [False, False, False, True, True]


def test_a_lost_base_takes_all_addresses() -> None:
    blob = write(population(3000), BY_NAME["5.10 x86"], address=TEXT)
    base = blob.tables["relative_base"].offset
    for seed in range(50):
        done = damage(blob, blob.data, 0, 0, 1e-9, seed)
        if done.lost[0] <= base < done.lost[0] + PAGE:
            assert not done.addresses.any()
            return
    pytest.fail("no seed lost the base")
