"""Containers that name more parts than their files have room for: as many are there as the file is worth."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from kallsift.budget import MIN_OUTPUT, MIN_WORK, OUTPUT_RATIO
from kallsift.errors import SourceError
from kallsift.memory import run_budget, spool
from kallsift.memory.formats import avml, avml_frames
from kallsift.memory.formats import registry as containers
from kallsift.memory.formats.hyperv import key_value_store
from kallsift.memory.memory import Memory
from kallsift.memory.reassembled_file import ReassembledFile
from kallsift.optional_package import optional_package
from tests.kernel.made_machine import MIB

from .attacks import (
    apart,
    empty_promises,
    many_headers,
    many_keys,
    scattered_kdump,
    tiny_chunks,
    tiny_lime,
    tiny_ranges,
)


def opened(content: bytes) -> Memory:
    return containers.open_mapped("attack", np.frombuffer(content, np.uint8))


def most(content: bytes, cost: int) -> int:
    """How many parts may be kept of a file."""
    return (MIN_OUTPUT + OUTPUT_RATIO * len(content)) // cost


def test_runs_of_a_kdump() -> None:
    content = scattered_kdump(40_000)
    memory = opened(content)
    count = most(content, run_budget.RUN_SIZE)
    assert 0.9 * count < len(memory.segments) <= count
    assert memory.read(0, 4096).tobytes() == b"\xaa" * 4096
    assert f"left out: {40_000 - len(memory.segments):,} runs of pages" in memory.notes[-1]


def test_headers_of_an_elf_core_that_lead_to_the_same_bytes() -> None:
    for content in (many_headers(40_000, 4096), many_headers(500, MIB)):
        memory = opened(content)
        assert memory.size <= 2 * len(content) + MIB
        assert "ranges of the same bytes" in memory.notes[-1]
        assert memory.read(0, 4096).tobytes() == b"\xaa" * 4096


@pytest.mark.parametrize("write", [partial(tiny_lime, 40_000), partial(apart, 4_000)])
def test_ranges_of_other_containers(write: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_budget, "RUN_SIZE", MIN_OUTPUT // 1000)
    memory = opened(write())
    assert 900 < len(memory.segments) <= 2000
    assert "ranges of memory" in memory.notes[-1]


def test_chunks_of_an_avml_dump(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avml_frames, "CHUNK_COST", 1 << 16)
    content = tiny_chunks(100_000)
    memory = opened(content)
    assert 0 < memory.size <= most(content, 1 << 16)
    assert "places in the file with chunks" in memory.notes[0]


def test_keys_of_a_saved_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_value_store, "KEY_COST", 1 << 16)
    content = many_keys(MIB)
    storage = key_value_store.storage("attack", np.frombuffer(content, np.uint8))
    assert storage.left_out is not None
    assert "bytes of keys" in storage.left_out
    memory = opened(content)
    assert memory.size == 2 * MIB
    assert storage.left_out in memory.notes


def test_streams_one_behind_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "STREAM_COST", MIN_WORK // 100)
    memory = opened(gzip.compress(b"0123456789abcdef") * 1000)
    assert memory.size // 16 == 100
    assert any("one of more streams" in note for note in memory.notes)


def test_ranges_of_an_avml_dump(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avml, "RANGE_COST", MIN_WORK // 100)
    memory = opened(tiny_ranges(1 << 15))
    assert 0 < memory.size <= 101
    assert "left out: 1 ranges" in memory.notes[0]


def test_chunks_that_promise_more_than_snappy_can_hold() -> None:
    with pytest.raises(SourceError, match="holds no memory"):
        opened(empty_promises(1 << 15))


def test_an_order_of_pieces_adds_nothing_to_what_a_file_is_worth() -> None:
    view = np.zeros(4096, np.uint8)
    content = ReassembledFile(view, np.array([1 << 40]), np.array([4096]), np.array([0]))
    assert (len(content), content.stored_size) == ((1 << 40) + 4096, 4096)


def test_a_module_that_is_missing_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def asking(module: str) -> object:
        asked.append(module)
        if module == "missing":
            raise ImportError(module)
        return module

    monkeypatch.setattr("kallsift.optional_package.import_module", asking)
    optional_package.cache_clear()
    assert [optional_package("missing", "there") for _ in range(3)] == ["there"] * 3
    optional_package.cache_clear()
    assert asked == ["missing", "there"]
