"""What is found out of a window once holds wherever its bytes lie."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from kallsift.kernel.placement.distances import empty_head_distances, self_pointer_distances
from kallsift.kernel.placement.pointers import Words
from kallsift.kernel.placement.window_facts import MAX_KEPT, SharedWindows
from kallsift.memory.segments import BytesSegment

SIZE = 1 << 16


def image(words: Words, virtual: int) -> NDArray[np.uint8]:
    """Empty heads of lists at two distances, of which the first is seen more often."""
    data = np.zeros(SIZE, np.uint8)
    cells = data.view(words.dtype)
    for index in range(60):
        place = (8 + 4 * index) * words.size
        cells[8 + 4 * index : 10 + 4 * index] = (virtual + place + 0x7000 * (index > 40)) & words.mask
    return data


@pytest.mark.parametrize("words", [Words(8, "<"), Words(4, ">")], ids=str)
@pytest.mark.parametrize("start", [0, 0x4000, 0x1234_5000, 0x1234_5004, 0x10_0000_0000, 0x7FFF_F008])
def test_distances_are_those_of_the_window_alone(words: Words, start: int) -> None:
    data = image(words, 0xC000_0000)
    shared = SharedWindows()
    for place in (0x8000, start):
        window = BytesSegment(place, data)
        facts, alone = shared.facts(window, words), SharedWindows().facts(window, words)
        assert self_pointer_distances(facts) == self_pointer_distances(alone)
        assert empty_head_distances(facts) == empty_head_distances(alone)
        if place % words.size == 0:
            first = 0xC000_0000 - place & words.mask
            assert empty_head_distances(facts) == [(first, 41), (first + 0x7000 & words.mask, 19)]


def test_what_is_known_is_not_looked_for_again() -> None:
    data, asked = image(Words(8, "<"), 0), []
    shared = SharedWindows()

    def look() -> int:
        asked.append(1)
        return len(asked)

    for start, found in ((0, 1), (0x1000, 1), (0x1004, 2), (8, 1)):
        facts = shared.facts(BytesSegment(start, data), Words(8, "<"))
        assert facts.once_aligned("words", look) == found
    assert shared.facts(BytesSegment(0, data), Words(4, "<")).once_aligned("words", look) == 3
    assert shared.facts(BytesSegment(0, data[8:]), Words(8, "<")).once_aligned("words", look) == 4


def test_windows_around_arrays_that_begin_an_entry_apart_are_all_kept() -> None:
    """Each way to read a memory comes back to all of them in turn."""
    data, shared, asked = image(Words(4, "<"), 0), SharedWindows(), list[int]()
    for _ in range(3):
        for first in (0, 4, 8):
            window = BytesSegment(first, data[first:])
            shared.facts(window, Words(4, "<")).once("words", partial(asked.append, first))
    assert asked == [0, 4, 8]


def test_facts_of_equal_arrays_are_the_same() -> None:
    facts = SharedWindows().facts(BytesSegment(0, image(Words(8, "<"), 0)), Words(8, "<"))
    one, other = np.arange(5, dtype=np.uint64), np.arange(1, 6, dtype=np.uint64)
    assert facts.once_of("hits", (one,), lambda: 1) == 1
    assert facts.once_of("hits", (other,), lambda: 2) == 2
    assert facts.once_of("hits", (one.copy(),), lambda: 3) == 1
    assert facts.once_of("others", (one,), lambda: 4) == 4


def test_few_windows_are_kept() -> None:
    shared, words = SharedWindows(), Words(8, "<")
    windows = [BytesSegment(0, np.zeros(64, np.uint8)) for _ in range(MAX_KEPT + 1)]
    for number, window in enumerate(windows):
        assert shared.facts(window, words).once("number", partial(int, number)) == number
    assert shared.facts(windows[0], words).once("number", lambda: "new") == "new"
