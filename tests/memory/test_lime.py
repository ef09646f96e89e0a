"""LiME: what was written is read back, damage is kept where it can be and named where it cannot."""

from __future__ import annotations

import time
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kallsift.errors import SourceError, UnmappedError
from kallsift.memory.formats import lime as container
from kallsift.memory.memory import Memory
from tests.memory.builders import ByteOrder, Range, lime, lime_header
from tests.memory.strategies import damaged, ranges
from tests.memory.writers import avml


def read(content: bytes) -> Memory:
    assert container.probe(content[:4096])
    return container.open("dump", np.frombuffer(content, np.uint8), lambda: None)


def content_of(memory: Memory) -> list[Range]:
    return [(segment.start, segment.read().tobytes()) for segment in memory.segments]


@given(ranges(), st.sampled_from(["<", ">"]), st.randoms())
def test_reads_back(expected: list[Range], order: ByteOrder, random: Random) -> None:
    shuffled = list(expected)
    random.shuffle(shuffled)
    memory = read(lime(shuffled, order))
    assert content_of(memory) == sorted(expected)
    assert memory.notes == ()


def test_the_last_address_of_all() -> None:
    memory = read(lime([(2**64 - 4, b"last")]))
    assert memory.read(2**64 - 2, 2).tobytes() == b"st"
    with pytest.raises(UnmappedError):
        memory.read(2**64 - 2, 3)


def test_data_are_views() -> None:
    content = np.frombuffer(lime([(0, b"abcd")]), np.uint8)
    memory = container.open("dump", content, lambda: None)
    assert np.shares_memory(memory.segments[0].read(), content)


def test_release_is_handed_on() -> None:
    calls: list[int] = []
    with container.open("dump", np.frombuffer(lime([(0, b"a")]), np.uint8), lambda: calls.append(1)):
        assert not calls
    assert calls == [1]


TWO = [(0x1000, b"first range"), (0x9000, b"second")]


@pytest.mark.sampled(30)
@pytest.mark.parametrize("length", range(4, len(lime(TWO))))
def test_truncated_everywhere(length: int) -> None:
    whole = lime(TWO)
    second = 32 + len(TWO[0][1])
    cut = whole[:length]
    if length <= 32:
        with pytest.raises(SourceError, match="ends before any memory"):
            read(cut)
        return
    memory = read(cut)
    kept = [(0x1000, cut[32:second]), (0x9000, cut[second + 32 :])]
    assert content_of(memory) == [(start, data) for start, data in kept if data]
    if length < second:
        assert memory.notes == (f"range 0x1000-0x100a is cut short: {length - 32} of 11 bytes present",)
    elif length == second:
        assert memory.notes == ()
    elif length < second + 32:
        found = length - second
        assert memory.notes == (f"header at file offset {second:#x} is cut short: {found} of 32 bytes present",)
    else:
        assert memory.notes == (f"range 0x9000-0x9005 is cut short: {length - second - 32} of 6 bytes present",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lime(TWO) + b"\0" * 40, "no LiME header at file offset 0x51"),
        (lime(TWO) + b"E\0", "no LiME header at file offset 0x51"),
        (lime(TWO, "<") + lime([(0, b"a")], ">"), "no LiME header at file offset 0x51"),
        (lime(TWO) + lime_header(9, 8), "no LiME header at file offset 0x51"),
        (lime([*TWO, (0x100A, b"a")]), "range 0x100a-0x100a overlaps earlier ranges"),
        (lime([*TWO, (0x1000, b"first range")]), "range 0x1000-0x100a overlaps earlier ranges"),
    ],
)
def test_what_stands_behind_ranges_is_left_out(content: bytes, message: str) -> None:
    memory = read(content)
    assert content_of(memory) == TWO
    assert len(memory.notes) == 1
    assert message in memory.notes[0]


def test_no_range_at_all_is_refused() -> None:
    with pytest.raises(SourceError, match="no LiME header at file offset 0x0"):
        read(lime_header(0, 3, version=2) + b"abcd")


FOUR = [
    (0x1000, b"first range"),
    (0x9000, b"second" + lime([(0, b"inner")])[:30]),
    (0x20000, b"third"),
    (1 << 40, b"4"),
]


@pytest.mark.sampled(30)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("place", [*range(4, 24)])
def test_a_broken_header_costs_its_range(order: ByteOrder, number: int, place: int) -> None:
    # the first four bytes of all tell that this is LiME
    content = bytearray(lime(FOUR, order))
    begin = sum(32 + len(data) for _, data in FOUR[:number])
    content[begin + place] ^= 0x80
    found = content_of(read(bytes(content)))
    others = [each for each in FOUR if each is not FOUR[number]]
    # of the last one nothing tells how long it should be
    assert found[: len(others)] == others if number == 3 else found == others


@pytest.mark.parametrize("number", range(1, 4))
def test_a_broken_magic_costs_its_range(number: int) -> None:
    content = bytearray(lime(FOUR))
    content[sum(32 + len(data) for _, data in FOUR[:number])] ^= 1
    memory = read(bytes(content))
    assert content_of(memory) == [each for each in FOUR if each is not FOUR[number]]
    assert len(memory.notes) == 1


def test_number_of_ranges_is_bounded() -> None:
    content = lime([(position * 2, b"x") for position in range(container.RANGE_LIMIT + 1)])
    begin = time.process_time()
    with pytest.raises(SourceError, match="more than"):
        read(content)
    assert time.process_time() - begin < 5


@given(damaged(lime([(0x1000, b"first range"), (0x9000, b"second"), (2**63, bytes(70))])))
def test_damage_is_an_error_of_the_source_or_none(content: bytes) -> None:
    if not container.probe(content[:4096]):
        return
    try:
        memory = read(content)
    except SourceError:
        return
    assert memory.size <= len(content)
    assert all(0 <= segment.start < segment.end <= 2**64 for segment in memory.segments)


def test_what_avml_writes_unpacked() -> None:
    """It cuts ranges into blocks, and leaves out those that are blank."""
    content = b"".join(avml.blocks([(0x1000, b"a" * 20 + bytes(16) + b"b" * 9)], packed=False, size=16))
    memory = read(content)
    assert [(segment.start, segment.size) for segment in memory.segments] == [(0x1000, 16), (0x1010, 16), (0x1020, 13)]
    assert memory.read(0x1000, 45).tobytes() == b"a" * 20 + bytes(16) + b"b" * 9
    blank = read(b"".join(avml.blocks([(0x1000, b"a" * 16 + bytes(16) + b"b")], packed=False, size=16)))
    assert [(segment.start, segment.size) for segment in blank.segments] == [(0x1000, 16), (0x1020, 1)]
