"""What tells tables from their neighbours where these go on in order."""

from __future__ import annotations

import random

import numpy as np
import pytest

from kallsift.kallsyms.format.address_encodings import ENCODINGS
from kallsift.kallsyms.format.address_table import MAX_WINDOWS, Run, find_runs, windows
from kallsift.kallsyms.format.seqs_of_names import scan_sequences

START = 0xC030_0000
ADDRESSES = np.cumsum([START, 0, *([16, 4, 0, 4096, 64] * 80)]).astype(np.uint64)


def runs(words: np.ndarray, encoding: str, size: int = 4) -> list[Run]:
    """The runs of one encoding in these words."""
    data = np.frombuffer(words.astype(f"<u{size}").tobytes(), np.uint8)
    return [run for run in find_runs(data, 0, len(data), size, "<", 300) if run.encoding.name == encoding]


def exact(found: list[Run], counts: list[int]) -> list[tuple[int, int]]:
    """Places and counts of the arrays that leave out nothing."""
    return [(array.offset // 4, len(array.words)) for array, begins, ends in windows(found, counts) if begins and ends]


@pytest.mark.parametrize("zeros", [0, 3, 900])
@pytest.mark.parametrize("word", [(), (402,), (0x1234_5678,)])
def test_what_is_far_below_the_addresses_is_none(zeros: int, word: tuple[int, ...]) -> None:
    """The count can stand directly before them, with padding before that."""
    words = np.array([*([0] * zeros), *word, *ADDRESSES.tolist(), 0])
    assert (zeros + len(word), 402) in exact(runs(words, "absolute"), [402])


def test_zeros_are_no_entries_relative_to_their_place() -> None:
    """They and what stands behind them may be in order, and are none of the array."""
    places = np.arange(len(ADDRESSES), dtype=np.uint64) * np.uint64(4)
    entries = (ADDRESSES - places - np.uint64(0xC100_0000)) & np.uint64(0xFFFF_FFFF)
    words = np.array([*([0] * 40), *entries.tolist(), *([0] * 44), 0xC56_EE78, 0x65E7_DF33])
    found = runs(words, "self-relative")
    assert [(run.offset // 4, len(run.words)) for run in found] == [(40, 402)]
    assert exact(found, [401, 402, 403]) == [(40, 402)]


def test_windows_are_bounded() -> None:
    found = runs(np.arange(100_000), "absolute")
    assert 0 < sum(1 for _ in windows(found, list(range(300, 556)))) <= MAX_WINDOWS * len(ENCODINGS)


@pytest.mark.parametrize("entry_size", [3, 4])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_a_permutation_is_found_behind_many_numbers_in_order(entry_size: int, byte_order: str) -> None:
    """Hash chains begin with small numbers that differ, at many places."""
    chance = random.Random(entry_size)
    order = chance.sample(range(2000), 2000)
    number = ">" if entry_size == 3 else byte_order
    raw = np.array(order, f"{number}u4").view(np.uint8).reshape(-1, 4)[:, 4 - entry_size :].tobytes()
    numbers = np.sort(np.array([chance.randrange(1 << 16) for _ in range(8000)], f"{byte_order}u4")).tobytes()
    data = np.frombuffer(numbers + bytes(64) + raw + numbers, np.uint8)
    found = list(scan_sequences(data, 0, len(data), range(1793, 2049), byte_order))
    assert [(one.offset, one.entry_size, one.order.tolist()) for one in found] == [
        (len(numbers) + 64, entry_size, order)
    ]
