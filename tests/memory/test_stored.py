"""Stored bytes are the bytes, in whatever blocks, and no more of them are decoded or kept than need be."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kallsift.memory.lazy_segment import Cache, LazySegment
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment, Segment
from tests.examples import examples

bounded = settings(derandomize=True, max_examples=examples(150))
START = 0x7000


def stored(data: NDArray[np.uint8], bounds: list[int], cache: Cache, uniform: int = 0) -> tuple[LazySegment, list[int]]:
    """The bytes in blocks, and which of them were decoded, as it happens."""
    decoded: list[int] = []

    def decode(number: int) -> NDArray[np.uint8]:
        decoded.append(number)
        if uniform:
            return data[number * uniform : (number + 1) * uniform].copy()
        return data[bounds[number] : bounds[number + 1]].copy()

    blocks = uniform or np.array(bounds, np.int64)
    return LazySegment(START, blocks, len(data), decode, cache), decoded


@st.composite
def cases(draw: st.DrawFn) -> tuple[NDArray[np.uint8], Segment]:
    """Bytes, and the same stored, perhaps without some at the beginning."""
    size = draw(st.integers(1, 300))
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    cuts = sorted(draw(st.sets(st.integers(1, max(1, size - 1)), max_size=8)) - {size})
    uniform = draw(st.sampled_from([0, 1, 7, 64, 1000]))
    stretch, _ = stored(data, [0, *cuts, size], Cache(draw(st.integers(1, 400))), uniform)
    lost = draw(st.integers(0, size - 1))
    return data[lost:], stretch.moved(-lost, lost)


@bounded
@given(cases(), st.integers(0, 320), st.integers(0, 320), st.lists(st.integers(0, 299), max_size=20))
def test_the_same_bytes(case: tuple[NDArray[np.uint8], Segment], low: int, high: int, places: list[int]) -> None:
    data, stretch = case
    assert (stretch.start, stretch.size) == (START, len(data))
    assert np.array_equal(stretch.read(), data)
    assert np.array_equal(stretch.read(low, high), data[low:high])
    width = min(4, len(data))
    offsets = np.array([place % (len(data) - width + 1) for place in places], np.int64)
    assert np.array_equal(stretch.gather(offsets, width), BytesSegment(0, data).gather(offsets, width))


def test_a_memory_of_stored_bytes_reads_as_one_in_hand() -> None:
    data = np.arange(4096).astype(np.uint8)
    parts = [BytesSegment(0, data), stored(data, [0, 100, 4096], Cache())[0].moved(-START + 4096)]
    memory = Memory("test", "test", AddressSpace.PHYSICAL, tuple(parts))
    assert np.array_equal(memory.read(4000, 300), np.concatenate((data[4000:], data[:204])))
    words, held = memory.words(np.array([0, 4092, 4095, 4096 + 97, 8190], np.uint64), np.dtype("<u4"))
    whole = np.concatenate((data, data)).tobytes()
    assert held.tolist() == [True, True, True, True, False]
    assert words[:4].tolist() == [int.from_bytes(whole[at : at + 4], "little") for at in (0, 4092, 4095, 4193)]
    assert np.array_equal(memory.around(5000, 4999, 3096).data, np.concatenate((data[1:], data[:4000])))


def test_what_is_asked_for_is_decoded_once() -> None:
    stretch, decoded = stored(np.zeros(1000, np.uint8), [], Cache(), 100)
    stretch.read(250, 260)
    stretch.gather(np.array([299, 255, 298]), 4)
    stretch.read(200, 400)
    assert decoded == [2, 3]


def test_the_cache_is_bounded() -> None:
    cache = Cache(250)
    stretch, decoded = stored(np.zeros(1000, np.uint8), [], cache, 100)
    stretch.read()
    stretch.read(800, 1000)
    assert decoded == list(range(10))
    stretch.read(700, 800)
    assert decoded == [*range(10), 7]


def test_what_is_decoded_cannot_be_changed() -> None:
    stretch, _ = stored(np.zeros(10, np.uint8), [], Cache(), 10)
    assert not stretch.read(2, 4).flags.writeable
