"""Bytes eight at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kallsift.lanes import LANE, lanes, writable_lanes


@given(st.binary(max_size=40))
def test_lanes_are_what_stands_at_each_place(text: bytes) -> None:
    padded = text + bytes(LANE)
    places = range(len(text) + 1)
    data = np.frombuffer(text, np.uint8)
    assert lanes(data).tolist() == [int.from_bytes(padded[place : place + LANE], "little") for place in places]
    assert lanes(data, ">").tolist() == [int.from_bytes(padded[place : place + LANE], "big") for place in places]


@given(st.lists(st.binary(min_size=1, max_size=LANE), max_size=60))
def test_later_lanes_overwrite_earlier_ones(pieces: list[bytes]) -> None:
    joined = b"".join(pieces)
    ends = np.cumsum([0, *map(len, pieces)])
    text = np.empty(len(joined) + LANE, np.uint8)
    writable_lanes(text)[ends[:-1]] = np.array([int.from_bytes(piece, "little") for piece in pieces], np.uint64)
    assert text[: len(joined)].tobytes() == joined
