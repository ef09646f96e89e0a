"""The run of digits is found wherever it stands."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kallsift.kallsyms import token_scan
from kallsift.kallsyms.token_scan import DIGITS, digit_runs, packed_runs
from kallsift.memory.formats import registry as containers
from kallsift.memory.lazy_segment import LazySegment
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment
from tests.examples import examples
from tests.kallsyms.placed import memory
from tests.memory.writers.avml import avml

bounded = settings(derandomize=True, max_examples=examples(60))


def runs(source: Memory) -> list[int]:
    """Addresses of all runs found."""
    return [segment.start + int(place) for segment, places in digit_runs(source) for place in places]


def at_alignment(content: bytes, alignment: int) -> Memory:
    """One segment from 0 on whose bytes lie ``alignment`` behind a multiple of 64 in this process."""
    room = np.zeros(len(content) + 128, np.uint8)
    skipped = -room.ctypes.data % 64 + alignment
    data = room[skipped : skipped + len(content)]
    data[:] = np.frombuffer(content, np.uint8)
    return Memory("test", "test", AddressSpace.PHYSICAL, (BytesSegment(0, data),))


def brute(content: bytes) -> list[int]:
    return [place for place in range(len(content)) if content.startswith(DIGITS, place)]


def test_the_run_is_what_a_token_table_holds() -> None:
    assert DIGITS == b"0\0001\0002\0003\0004\0005\0006\0007\0008\0009\000"


@pytest.mark.sampled(16)
@pytest.mark.parametrize("alignment", range(64))
def test_every_alignment(alignment: int) -> None:
    content = b"\xff" * 40 + DIGITS + b"\xff" * 50
    assert runs(at_alignment(content, alignment)) == [40]


@pytest.mark.sampled(16)
@pytest.mark.parametrize("place", range(65))
def test_every_place(place: int) -> None:
    content = b"\0" * place + DIGITS + b"\x30" * (64 - place)
    assert runs(memory((0, content))) == brute(content) == [place]


def test_ends_of_a_segment() -> None:
    assert runs(memory((4096, DIGITS))) == [4096]
    assert runs(memory((4096, DIGITS + b"x"), (8192, b"xyz" + DIGITS))) == [4096, 8195]
    assert runs(memory((4096, DIGITS[:-1]), (8192, DIGITS[1:]))) == []


def around_borders(grain: int, alignment: int) -> dict[int, list[int]]:
    """What is found, by the place of the only run, wherever it crosses the second border of batches."""
    found = {}
    for place in range(2 * grain - 24, 2 * grain + 24):
        content = b"\xff" * place + DIGITS + b"\xff" * (3 * grain - place)
        found[place] = runs(at_alignment(content, alignment))
    return found


each_grain = pytest.mark.parametrize("grains", [(64, 256), (64, 64), (4096, 4096)])


@each_grain
@pytest.mark.parametrize("alignment", [0, 1, 4, 7, 8])
def test_borders_of_blocks_and_batches(
    monkeypatch: pytest.MonkeyPatch, grains: tuple[int, int], alignment: int
) -> None:
    """In memory of any alignment, as a segment of an ELF file starts where the headers end."""
    monkeypatch.setattr(token_scan, "BLOCK", grains[0])
    monkeypatch.setattr(token_scan, "BATCH", grains[1])
    for place, found in around_borders(grains[1], alignment).items():
        assert set(found) == {place}


@each_grain
def test_each_run_is_given_once(monkeypatch: pytest.MonkeyPatch, grains: tuple[int, int]) -> None:
    monkeypatch.setattr(token_scan, "BLOCK", grains[0])
    monkeypatch.setattr(token_scan, "BATCH", grains[1])
    for place, found in around_borders(grains[1], 0).items():
        assert found == [place]


@bounded
@given(
    st.lists(st.sampled_from([DIGITS, DIGITS[:12], DIGITS[2:], b"0\0001", b"\0", b"9", b"\xff\xff\xff"]), max_size=30)
)
def test_the_same_as_a_plain_search(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    assert runs(memory((0, content))) == brute(content)


@bounded
@given(st.binary(max_size=400))
def test_random_bytes(content: bytes) -> None:
    assert runs(memory((0, content))) == brute(content)


def test_progress_reaches_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_scan, "BATCH", 1024)
    seen: list[tuple[int, int]] = []
    content = random.Random(1).randbytes(5000)
    for _ in digit_runs(memory((0, content), (8192, content)), lambda done, total: seen.append((done, total))):
        pass
    assert seen[-1] == (10000, 10000)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_what_is_likely_comes_first_and_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_scan, "BATCH", 1024)
    monkeypatch.setattr(token_scan, "BLOCK", 256)
    places = [10, 1000, 1020, 2300, 4090, 5000]
    content = bytearray(6000)
    for place in places:
        content[place : place + len(DIGITS)] = DIGITS
    source = memory((0x10000, bytes(content)))
    found = [
        segment.start + run - 0x10000
        for segment, some in digit_runs(source, first=((0x10000 + 4000, 0x10000 + 4200),))
        for run in some.tolist()
    ]
    assert found[:1] == [4090]
    assert sorted(found) == places
    assert runs(source) == [0x10000 + place for place in places]


@pytest.mark.sampled(16)
@pytest.mark.parametrize("place", range(240, 273))
@pytest.mark.parametrize("start", [0, 3])
def test_across_blocks_whose_copies_are_aligned_otherwise(
    monkeypatch: pytest.MonkeyPatch, place: int, start: int
) -> None:
    monkeypatch.setattr(token_scan, "BLOCK", 256)
    content = bytearray(1024)
    content[place : place + len(DIGITS)] = DIGITS
    data = np.frombuffer(bytes(content), np.uint8)
    # blocks of sizes such that each read begins elsewhere in a block
    stretch = LazySegment(0, 101, len(data), lambda number: data[number * 101 :][:101].copy()).moved(0, start)
    assert runs(Memory("test", "test", AddressSpace.PHYSICAL, (stretch,))) == [place]


def test_empty_memory() -> None:
    assert runs(memory()) == []


def test_what_is_packed_is_searched_without_unpacking_it() -> None:
    content = bytearray(random.Random(2).randbytes(1 << 20))
    places = [0x1234, 0x8F003, 0xA0000]
    for place in places:
        content[place : place + 32] = DIGITS + b"__ksymtab_\0x"
    # a text of two bytes a character
    content[0x50000 : 0x50000 + 24] = DIGITS + b"a\0b\0"
    source = containers.open_mapped("dump", np.frombuffer(avml([(0x7000, bytes(content))]), np.uint8))
    for lost in (0, 5000):
        found = list(packed_runs(source.moved(-0x7000 - lost)))
        wanted = [place - lost for place in places if place >= lost]
        assert [any(low <= place < high for low, high in found) for place in wanted] == [True] * len(wanted)
        assert not any(low <= 0x50000 - lost < high for low, high in found)
    assert not list(packed_runs(memory((0, bytes(content)))))
