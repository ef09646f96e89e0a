"""Words that equal symbols, counted against chance; with bit 0 set in pointers to code, and without."""

from __future__ import annotations

import random

import numpy as np
import pytest

from kallsift.kernel.placement.pointer_targets import (
    MIN_MARKED,
    Hits,
    Targets,
    hits_on_symbols,
    targets,
    without_code_bit,
)
from tests.output.sample import table

START = 0xFFFF_FFFF_6A60_0000


def symbols(count: int, seed: int = 2) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Ascending addresses, none of them odd."""
    chance = random.Random(seed)
    return np.array(sorted(START + 16 * value for value in chance.sample(range(1 << 20), count)), np.uint64)


def test_hits_on_symbols_against_chance() -> None:
    own = symbols(2000)
    # each counts once, however often it stands there
    hits = hits_on_symbols(np.concatenate((own[::4], np.repeat(own[:1], 300))), Targets(own, own))
    assert (hits.count, hits.distinct, hits.code_bit) == (500, 500, False)
    assert hits.by_chance < 20
    chance = random.Random(3)
    values = np.array([START + 8 * chance.randrange(1 << 21) for _ in range(4000)], np.uint64)
    hits = hits_on_symbols(values, Targets(own, own))
    assert hits.count < 32 + 1.5 * hits.by_chance


def test_without_words_or_symbols() -> None:
    nothing, one = np.empty(0, np.uint64), np.array([START], np.uint64)
    assert hits_on_symbols(one, Targets(nothing, nothing)) == Hits(0, 0.0, 0)
    assert hits_on_symbols(nothing, Targets(one, one)) == Hits(0, 0.0, 0)
    assert hits_on_symbols(one, Targets(one, nothing)).count == 1


@pytest.mark.parametrize("data_listed", [True, False])
def test_bit_0_of_pointers_to_code(data_listed: bool) -> None:
    """Pointers to data have none: Thumb-2 and microMIPS, with all symbols and with those of text alone."""
    every = symbols(2000)
    code, data = every[:1200], every[1200:]
    own = Targets(every if data_listed else code, code)
    values = np.concatenate((code[::3] + np.uint64(1), data[::4]))
    hits = hits_on_symbols(values, own)
    assert (hits.count, hits.code_bit) == (600 if data_listed else 400, True)
    assert hits.by_chance < 20


def test_an_odd_pointer_into_data_is_none() -> None:
    every = symbols(2000)
    own = Targets(every, every[:1000])
    assert not hits_on_symbols(every[1000:] + np.uint64(1), own).code_bit
    assert hits_on_symbols(every[1000:] + np.uint64(1), own).count < 20


def test_words_that_are_one_more_than_functions_by_chance_set_no_bit() -> None:
    """Fewer than equal one: the image's code has one instruction set."""
    every = symbols(3000)
    own = Targets(every, every)
    values = np.concatenate((every[:400], every[1000:1300] + np.uint64(1)))
    assert hits_on_symbols(values, own).count == 400
    few = every[: MIN_MARKED - 1] + np.uint64(1)
    assert hits_on_symbols(few, own).count < MIN_MARKED


def test_pointers_off_by_more_than_the_bit_confirm_nothing() -> None:
    """What a placement that is wrong by some bytes gives."""
    every = symbols(2000)
    for off in (2, 3, 5, 0x200, 0x201):
        hits = hits_on_symbols(every[::2] + np.uint64(off), Targets(every, every))
        assert hits.count < 32 + 1.5 * hits.by_chance
        assert not hits.code_bit


def test_letters_tell_code() -> None:
    kinds = "TtWwDbBRrVvA?"
    made = table([(START + 16 * index, kind, f"name{index}") for index, kind in enumerate(kinds)])
    own = targets(made, np.arange(len(kinds)) != 0)
    assert own.addresses.tolist() == [START + 16 * index for index in range(1, len(kinds))]
    assert own.code.tolist() == [START + 16 * index for index in (1, 2, 3, 12)]


def test_bit_0_is_cleared_where_a_function_is_meant() -> None:
    made = table([(START, "T", "code"), (START + 16, "D", "data"), (START + 33, "t", "odd")])
    values = np.array([START + 1, START, START + 17, START + 33, START + 3], np.uint64)
    assert without_code_bit(values, made).tolist() == [START, START, START + 17, START + 33, START + 3]
