"""Hypothesis strategies that the tests of several containers share."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.memory.builders import Range


@st.composite
def ranges(draw: Any, *, highest: int = 2**64, touching: bool = True) -> list[Range]:
    """Between 1 and 6 ranges in the order of their addresses that never overlap; some touch if ``touching``."""
    result: list[Range] = []
    position = draw(st.integers(0, highest - 2000))
    for _ in range(draw(st.integers(1, 6))):
        data = draw(st.binary(min_size=1, max_size=64))
        result.append((position, data))
        gap = draw(st.sampled_from([0, 1, 7, 200] if touching else [1, 7, 200]))
        position += len(data) + gap
    return result


@st.composite
def damaged(draw: Any, content: bytes) -> bytes:
    """``content`` with some bytes or whole words overwritten, and perhaps cut short."""
    result = bytearray(content)
    hostile = [0, 1, 0x7F, 0xFFFF, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFF0, 0xFFFFFFFFFFFFFFFF]
    for _ in range(draw(st.integers(1, 6))):
        width = draw(st.sampled_from([1, 2, 4, 8]))
        value = draw(st.sampled_from(hostile) | st.integers(0, 2**64 - 1)) & (256**width - 1)
        place = draw(st.integers(0, len(content) - width))
        result[place : place + width] = value.to_bytes(width, "little")
    if draw(st.booleans()):
        del result[draw(st.integers(0, len(result))) :]
    return bytes(result)
