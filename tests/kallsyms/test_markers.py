"""Runs of words that can be markers: the same as by looking at each word after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kallsift.kallsyms.format.markers import GROUP, MAX_ENTRY, find_markers
from tests.examples import examples

bounded = settings(deadline=None, derandomize=True, max_examples=examples(200))

STEPS = st.sampled_from([0, 1, 2 * GROUP - 1, 2 * GROUP, 3000, GROUP * MAX_ENTRY, GROUP * MAX_ENTRY + 1, -5])


def plain(words: list[int]) -> int:
    """The longest run that begins with 0 and goes on in steps that 256 entries can take; 0 if there are not two."""
    longest = 0
    for first in range(len(words)):
        end = first + 1
        while words[first] == 0 and end < len(words) and 2 * GROUP <= words[end] - words[end - 1] <= GROUP * MAX_ENTRY:
            end += 1
        longest = max(longest, end - first if end - first > 1 else 0)
    return longest


@pytest.mark.parametrize("dtype", ["<u4", ">u4", "<u8", ">u8"])
@bounded
@given(steps=st.lists(st.one_of(STEPS, st.just(3000), st.none()), max_size=60))
def test_the_longest_run(dtype: str, steps: list[int | None]) -> None:
    words, word = [], 0
    for step in steps:
        word = 0 if step is None else max(0, word + step)
        words.append(word)
    data = np.array(words, dtype).view(np.uint8)
    found = [len(one.values) for one in find_markers(data, 0, len(data), dtype[0]) if one.width == int(dtype[-1])]
    assert max(found, default=0) == plain(words)
