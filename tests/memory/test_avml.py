"""AVML dumps read back as what they were written from, and broken ones are refused in one line."""

from __future__ import annotations

import numpy as np
import pytest

from kallsift.errors import SourceError
from kallsift.memory import avml as reader
from kallsift.memory import containers
from kallsift.memory.model import Memory
from tests.memory.writers.avml import avml

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
        (4, b"\x03", "no AVML header of version 2"),
        (16, b"\0" * 8, "no AVML header"),
        (32 + 10, b"\x02", "a chunk of kind 0x2"),
        (32 + 10 + 8, b"\xff\xff\xff\x7f", "is broken"),
    ],
)
def test_broken_headers_are_refused(place: int, value: bytes, message: str) -> None:
    data = bytearray(avml([(0x1000, CONTENT[::-1])]))
    data[place : place + len(value)] = value
    with pytest.raises(SourceError, match=message):
        read(bytes(data))


def test_without_its_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(reader, "import_module", missing)
    with pytest.raises(SourceError, match=r"pip install 'kallsift\[images\]'"):
        read(avml([(0, CONTENT)]))
