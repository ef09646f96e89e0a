"""AVML dumps read back as what they were written from, and broken ones are refused in one line."""

from __future__ import annotations

import numpy as np
import pytest

from kallsift.errors import SourceError
from kallsift.memory.formats import avml as reader
from kallsift.memory.formats import registry as containers
from kallsift.memory.memory import Memory
from kallsift.optional_package import MissingPackageError
from tests.memory.writers.avml import avml, blocks

CHANCE = np.random.default_rng(5)
MIXED = np.concatenate((CHANCE.integers(0, 256, 100_000, np.uint8), np.repeat(CHANCE.integers(0, 9, 500), 400)))
CONTENT = MIXED.astype(np.uint8).tobytes()


def read(data: bytes) -> Memory:
    return containers.open_mapped("dump", np.frombuffer(data, np.uint8))


def test_what_is_written_comes_back() -> None:
    memory = read(avml([(0x1000, CONTENT), (0x1000 + len(CONTENT), CONTENT[:5000]), (1 << 32, CONTENT[::-1])]))
    assert (memory.container, memory.notes) == ("AVML, Snappy", ())
    found = [(segment.start, segment.read().tobytes()) for segment in memory.segments]
    assert found == [(0x1000, CONTENT + CONTENT[:5000]), (1 << 32, CONTENT[::-1])]
    assert memory.read(0x1000 + len(CONTENT) - 3, 6).tobytes() == CONTENT[-3:] + CONTENT[:3]


def test_blocks_of_zeros_are_left_out_and_stay_unmapped() -> None:
    memory = read(avml([(0, bytes(16 << 20) + CONTENT)]))
    assert [(segment.start, segment.size) for segment in memory.segments] == [(16 << 20, len(CONTENT))]


def test_a_dump_that_is_cut_short_keeps_what_is_there() -> None:
    whole = avml([(0x1000, CONTENT), (1 << 32, CONTENT)])
    memory = read(whole[: len(whole) * 9 // 10])
    assert memory.segments[0].read().tobytes() == CONTENT
    assert memory.segments[1].read().tobytes() == CONTENT[: memory.segments[1].size]
    assert 0 < memory.segments[1].size < len(CONTENT)
    (note,) = memory.notes
    assert "cut short" in note


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (4, b"\x03", "no AVML header of version 2 at file offset 0x0"),
        (16, b"\0" * 8, "no AVML header"),
        (9, b"\0", "header of range 0x0-0x4a3df is damaged"),
        (17, b"\x90", "header of range 0x1000-0x490df is damaged"),
    ],
)
def test_a_broken_header_of_the_only_range_is_refused(place: int, value: bytes, message: str) -> None:
    data = bytearray(avml([(0x1000, CONTENT[::-1])]))
    data[place : place + len(value)] = value
    with pytest.raises(SourceError, match=message):
        read(bytes(data))


BLOCKS = list(blocks([(0x1000, CONTENT), (1 << 20, CONTENT[::-1]), (1 << 32, CONTENT)]))
"""Header, content and trailer of three ranges."""
STARTS = (0x1000, 1 << 20, 1 << 32)


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize(("place", "value"), [(4, b"\x03"), (8, b"\xff"), (16, b"\x01"), (17, b"\xff"), (23, b"\x80")])
def test_a_broken_header_costs_its_range(number: int, place: int, value: bytes) -> None:
    parts = list(BLOCKS)
    parts[3 * number] = parts[3 * number][:place] + value + parts[3 * number][place + len(value) :]
    memory = read(b"".join(parts))
    assert [segment.start for segment in memory.segments] == [start for start in STARTS if start != STARTS[number]]
    assert all(segment.read().tobytes() in (CONTENT, CONTENT[::-1]) for segment in memory.segments)
    assert len(memory.notes) == 1
    assert memory.remarks == memory.notes


@pytest.mark.parametrize("number", range(3))
def test_a_broken_trailer_costs_nothing(number: int) -> None:
    parts = list(BLOCKS)
    parts[3 * number + 2] = bytes(8)
    assert [segment.start for segment in read(b"".join(parts)).segments] == list(STARTS)


def chunk_starts(data: bytes) -> list[int]:
    """Where the chunks of a range begin, which begins with its header."""
    places = [32]
    while places[-1] < len(data) - 8:
        places.append(places[-1] + 4 + int.from_bytes(data[places[-1] + 1 :][:3], "little"))
    return places[1:-1]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize(("place", "value"), [(0, 0x02), (0, 0xFF), (1, 0x56), (2, 0xFF), (3, 0x70)])
def test_a_broken_chunk_header_costs_its_chunk(number: int, place: int, value: int) -> None:
    data = bytearray(avml([(0x1000, CONTENT)]))
    begin = len(BLOCKS[0])
    starts = chunk_starts(bytes(data))
    assert len(starts) == 5
    assert begin == 32
    assert data[starts[number] + place] != value
    data[starts[number] + place] = value
    memory = read(bytes(data) + b"".join(BLOCKS[3:]))
    assert [segment.start for segment in memory.segments if segment.start >= 1 << 20] == list(STARTS[1:])
    found = bytearray(len(CONTENT))
    for segment in memory.segments:
        if segment.start < 1 << 20:
            found[segment.start - 0x1000 : segment.end - 0x1000] = segment.read().tobytes()
    low, high = number << 16, min(number + 1 << 16, len(CONTENT))
    # a packed chunk of less than 64 KiB is not found again: it goes with the one before
    high = len(CONTENT) if number == 3 else high
    assert found[:low] + found[high:] == CONTENT[:low] + CONTENT[high:]
    assert not any(found[low:high])
    # where the next chunk begins is wrong: that one is lost, or this one does not unpack
    assert memory.remarks
    assert memory.notes in (
        (),
        (f"range 0x1000-0x4a3df is damaged: {high - low} of {len(CONTENT)} bytes are lost",),
        (f"range 0x1000-0x4a3df is damaged: {high - low - 65536} of {len(CONTENT)} bytes are lost",),
    )


def test_without_its_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*modules: str) -> None:
        raise MissingPackageError(modules[0])

    monkeypatch.setattr(reader, "optional_package", missing)
    with pytest.raises(SourceError, match=r"package cramjam; pip install 'kallsift\[images\]'"):
        read(avml([(0, CONTENT)]))
