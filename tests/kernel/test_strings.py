"""Texts in an image: all of them, at the bounds of the parts that are looked at, and with the NULs around them."""

from __future__ import annotations

import numpy as np

from kallsift.kernel.access.string_search import TEXT_PART, places_of
from kallsift.memory.segments import BytesSegment


def test_places() -> None:
    data = np.zeros(2 * TEXT_PART + 100, np.uint8)
    places = [0x40, TEXT_PART - 3, TEXT_PART + 50, 2 * TEXT_PART - 1]
    for place in places:
        data[place : place + 6] = np.frombuffer(b"\0text\0", np.uint8)
    data[0x80:0x86] = np.frombuffer(b"atext\0", np.uint8)
    window = BytesSegment(0x1000, data)
    assert list(places_of(window, b"\0text\0", 10)) == [0x1000 + place for place in places]
    assert list(places_of(window, b"\0text\0", 2)) == [0x1040, 0x1000 + TEXT_PART - 3]
    assert list(places_of(window, b"text\0", 10))[:2] == [0x1041, 0x1081]
    assert list(places_of(window, b"absent", 10)) == []
