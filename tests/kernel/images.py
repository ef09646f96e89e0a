"""Made-up images: words at places, everything else zero."""

from __future__ import annotations

import numpy as np

from kallsift.kernel.placement.pointers import Pointers, Words
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment

WIDE, WIDE_BIG, NARROW, NARROW_BIG = Words(8, "<"), Words(8, ">"), Words(4, "<"), Words(4, ">")
EACH = (WIDE, WIDE_BIG, NARROW, NARROW_BIG)


def pointers(*pairs: tuple[int, int]) -> Pointers:
    """From places and values."""
    ordered = sorted(pairs)
    return Pointers(
        np.array([place for place, _ in ordered], np.uint64),
        np.array([value % (1 << 64) for _, value in ordered], np.uint64),
    )


def segment(values: dict[int, int], start: int, size: int, words: Words = WIDE) -> BytesSegment:
    """Zeros but for the words, given by their addresses."""
    data = np.zeros(size, np.uint8)
    for place, value in values.items():
        raw = (value & words.mask).to_bytes(words.size, "little" if words.byte_order == "<" else "big")
        data[place - start : place - start + words.size] = np.frombuffer(raw, np.uint8)
    return BytesSegment(start, data)


def memory(*segments: BytesSegment) -> Memory:
    """Physical memory of some segments."""
    return Memory("test", "test", AddressSpace.PHYSICAL, segments)
