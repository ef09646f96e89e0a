"""Sparse files: what was never stored reads as zeros, and is not searched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kallsift
from kallsift.kallsyms.solvers.identifier_regions import name_regions
from kallsift.kallsyms.token_scan import DIGITS, digit_runs
from kallsift.memory import file_mapping
from kallsift.memory.file_mapping import GRAIN, map_file, stored_parts
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment
from tests.examples import examples

TEBIBYTE = 1 << 40


def sparse(path: Path, size: int, *parts: tuple[int, bytes]) -> Path:
    """Write a file that holds nothing but some parts."""
    with path.open("wb") as file:
        file.truncate(size)
        for offset, data in parts:
            file.seek(offset)
            file.write(data)
    if path.stat().st_blocks * 512 >= size:
        pytest.skip("this file system stores holes")
    return path


def opened(path: Path) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    with path.open("rb") as file:
        return map_file(str(path), file.fileno(), path.stat().st_size)


def test_holes_are_left_out(tmp_path: Path) -> None:
    path = sparse(tmp_path / "dump", 16 * GRAIN + 5, (3 * GRAIN + 9, b"one"), (4 * GRAIN, b"two"), (16 * GRAIN, b"end"))
    view = opened(path)
    assert list(stored_parts(view)) == [(3 * GRAIN, 5 * GRAIN), (16 * GRAIN, 16 * GRAIN + 5)]
    # of parts of the file as well, and of parts of these
    assert list(stored_parts(view[2 * GRAIN :][: 2 * GRAIN])) == [(GRAIN, 2 * GRAIN)]
    assert list(stored_parts(view[: 3 * GRAIN])) == []
    # a copy is no view of the file, nor are every other byte of it
    assert list(stored_parts(view[: 2 * GRAIN].copy())) == [(0, 2 * GRAIN)]
    assert list(stored_parts(view[: 2 * GRAIN : 2])) == [(0, GRAIN)]


@settings(max_examples=examples(30))
@given(st.lists(st.tuples(st.integers(0, 20 * GRAIN - 4), st.booleans()), max_size=8), st.integers(0, GRAIN))
def test_every_stored_byte_is_in_a_part(parts: list[tuple[int, bool]], first: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        written = [(offset, b"data" * (GRAIN // 3 if long else 1)) for offset, long in parts]
        size = max([20 * GRAIN, *(offset + len(data) for offset, data in written)])
        path = Path(folder, "dump")
        with path.open("wb") as file:
            file.truncate(size)
            for offset, data in written:
                file.seek(offset)
                file.write(data)
        view = opened(path)[first:]
        found = list(stored_parts(view))
        seen = np.zeros(len(view), np.bool_)
        for low, high in found:
            assert not seen[low:high].any()
            seen[low:high] = True
        assert not view[~seen].any()
        assert found == sorted(found)
        segment = BytesSegment(0x1000, view)
        for step, begin in ((GRAIN // 2, 7), (3 * GRAIN, 0)):
            places = list(segment.steps(step, begin))
            assert places == sorted(set(places))
            assert all(place % step == begin for place in places)
            for low, high in found:
                blocks = {begin + (place - begin) // step * step for place in range(max(low, begin), high, 4096)}
                assert blocks <= set(places)


def test_the_number_of_parts_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_mapping, "MAX_RANGES", 2)
    path = sparse(tmp_path / "dump", 32 * GRAIN, *((4 * number * GRAIN, b"data") for number in range(1, 8)))
    assert list(stored_parts(opened(path))) == [
        (4 * GRAIN, 5 * GRAIN),
        (8 * GRAIN, 9 * GRAIN),
        (12 * GRAIN, 32 * GRAIN),
    ]


def test_a_tebibyte_takes_what_is_stored(tmp_path: Path) -> None:
    """Only what is stored is looked at, and the progress is that of it alone."""
    places = (5 * GRAIN + 0x100, TEBIBYTE // 2 + 0x40, TEBIBYTE - 2 * GRAIN)
    names = b"some_identifier_of_a_kernel_" * (GRAIN // 16)
    region = TEBIBYTE // 4
    path = sparse(tmp_path / "dump", TEBIBYTE, (region, names), *((place, DIGITS) for place in places))
    with kallsift.open(path) as memory:
        assert memory.size == TEBIBYTE
        told: list[tuple[int, int]] = []
        found = [
            int(run) for _, runs in digit_runs(memory, lambda done, total: told.append((done, total))) for run in runs
        ]
        assert found == list(places)
        stored = memory.stored_size
        assert stored < 16 * GRAIN
        assert told[-1] == (stored, stored)
        assert all(done <= stored for done, _ in told)
        (low, high), *rest = name_regions(memory)
        assert region <= low < high <= region + len(names)
        assert not rest
        reads = _counted(memory)
        with pytest.raises(kallsift.RecoveryError):
            kallsift.recover(reads.memory)
        # each way to look for a kernel passes over what is stored, some of them in whole batches
        assert reads.count < 64 * (stored + 5 * (64 << 20))


class _counted:  # noqa: N801 - a function that keeps a number
    """A memory that counts the bytes that are read of it."""

    def __init__(self, memory: Memory) -> None:
        self.count = 0
        outer = self

        class Counting(BytesSegment):
            def read(self, low: int = 0, high: int | None = None) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
                part = super().read(low, high)
                # whoever takes a view of all asks which parts of it are stored
                outer.count += len(part) if len(part) < self.size else 0
                return part

        segments = tuple(Counting(segment.start, segment.read()) for segment in memory.segments)
        self.memory = Memory(memory.source, memory.container, AddressSpace.PHYSICAL, segments)


def test_standard_input_knows_its_holes(tmp_path: Path) -> None:
    path = sparse(tmp_path / "dump", 64 * GRAIN, (GRAIN, b"data"))
    code = "import kallsift; memory = kallsift.open('-'); print(memory.size, memory.stored_size)"
    with path.open("rb") as file:
        run = subprocess.run([sys.executable, "-c", code], stdin=file, capture_output=True, check=True, text=True)
    assert run.stdout.split() == [str(64 * GRAIN), str(GRAIN)]


def test_files_without_holes_have_none(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    path.write_bytes(os.urandom(4096) * 1024)
    assert list(stored_parts(opened(path))) == [(0, 4 << 20)]
