"""Memory itself: gaps are errors, and reading many words agrees with reading them one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kallsift.errors import SourceError, UnmappedError
from kallsift.memory import memory as model
from kallsift.memory.memory import AddressSpace, Memory, printable
from kallsift.memory.segments import BytesSegment, sorted_segments
from tests.memory.builders import Range
from tests.memory.strategies import ranges


def memory_of(content: list[Range]) -> Memory:
    segments = sorted_segments(BytesSegment(start, np.frombuffer(data, np.uint8)) for start, data in content)
    return Memory(source="test", container="test", space=AddressSpace.PHYSICAL, segments=segments)


def byte_at(content: list[Range], address: int) -> int | None:
    """The slow and obvious reading."""
    return next((data[address - start] for start, data in content if start <= address < start + len(data)), None)


@given(ranges(), st.integers(-5, 600), st.integers(0, 40))
def test_read_gives_every_byte_or_raises(content: list[Range], place: int, size: int) -> None:
    address = max(0, content[0][0] + place)
    memory = memory_of(content)
    expected = [byte_at(content, address + step) for step in range(size)]
    if None in expected:
        with pytest.raises(UnmappedError) as caught:
            memory.read(address, size)
        assert (caught.value.address, caught.value.size) == (address, size)
    else:
        assert memory.read(address, size).tolist() == expected


@given(
    ranges(), st.lists(st.integers(-9, 600), max_size=40), st.sampled_from(["u1", "<u2", ">u2", "<u4", ">u4", "<u8"])
)
def test_words_agree_with_read(content: list[Range], places: list[int], kind: str) -> None:
    dtype: np.dtype[np.unsignedinteger] = np.dtype(kind)
    memory = memory_of(content)
    addresses = [max(0, content[0][0] + place) for place in places]
    addresses += [start + len(data) - 1 for start, data in content]
    values, held = memory.words(np.array(addresses, np.uint64), dtype)
    assert values.dtype == np.uint64
    assert held.dtype == np.bool_
    for address, value, there in zip(addresses, values.tolist(), held.tolist(), strict=True):
        try:
            expected = memory.read(address, dtype.itemsize).tobytes()
        except UnmappedError:
            assert (value, there) == (0, False)
        else:
            assert there
            assert value == int.from_bytes(expected, "big" if kind[0] == ">" else "little")


def test_words_at_the_end_of_all_addresses_do_not_wrap() -> None:
    memory = memory_of([(0, b"abcd"), (2**64 - 2, b"yz")])
    values, held = memory.words(np.array([2**64 - 2, 2**64 - 1], np.uint64), np.dtype("<u2"))
    assert held.tolist() == [True, False]
    assert values.tolist() == [0x7A79, 0]


def test_words_of_nothing() -> None:
    for content in ([], [(5, b"x")]):
        values, held = memory_of(content).words(np.empty(0, np.uint64), np.dtype("<u4"))
        assert len(values) == len(held) == 0
    values, held = memory_of([]).words(np.array([1], np.uint64), np.dtype("<u4"))
    assert not held.any()


@given(ranges(), st.integers(-5, 600), st.integers(0, 90), st.integers(0, 90))
def test_window_is_what_one_segment_holds(content: list[Range], place: int, before: int, after: int) -> None:
    address = max(0, content[0][0] + place)
    memory = memory_of(content)
    if byte_at(content, address) is None:
        with pytest.raises(UnmappedError):
            memory.window(address, before, after)
        return
    window = memory.window(address, before, after)
    start, data = next(one for one in content if one[0] <= address < one[0] + len(one[1]))
    low, high = max(start, address - before), min(start + len(data), address + after)
    assert window.start == low
    assert window.data.tobytes() == data[low - start : max(low, high) - start]


@given(ranges())
def test_segment_at(content: list[Range]) -> None:
    memory = memory_of(content)
    for start, data in content:
        for address in (start - 1, start, start + len(data) - 1, start + len(data)):
            segment = memory.segment_at(address)
            assert (segment is None) == (byte_at(content, address) is None)
            if segment is not None:
                assert segment.start <= address < segment.end


def test_overlap_is_refused() -> None:
    with pytest.raises(SourceError, match="overlap at 0x2"):
        memory_of([(0, b"abc"), (2, b"x")])


@given(st.text())
def test_printable(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()
    assert shown == text or not text.isprintable()


def test_large_copies_are_shared_while_they_are_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "LARGE", 64)
    monkeypatch.setattr(model, "ROUND", 16)
    content = [(0, bytes(range(100))), (100, bytes(range(100, 200))), (230, b"z" * 100)]
    expected = bytes(range(200)) + bytes(30) + b"z" * 100
    memory = memory_of(content)
    first = memory.around(150, 90, 100)
    second = memory.around(148, 80, 98)
    assert (first.start, second.start) == (60, 68)
    assert first.data.tobytes() == expected[60:250]
    assert second.data.tobytes() == expected[68:246]
    assert np.shares_memory(first.data, second.data)
    third = memory.around(100, 100, 230)
    assert third.data.tobytes() == expected
    assert not np.shares_memory(first.data, third.data)
    del first, second, third
    assert memory.around(150, 90, 100).data.tobytes() == expected[60:250]
