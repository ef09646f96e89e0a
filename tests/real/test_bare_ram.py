"""A real guest's RAM from both sides of the hole below 4 GiB, without the hole: as its own resources have it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import kallsift
from kallsift.kernel.ram import layout_candidates
from tests.lab import Capture, capture, guest_named
from tests.memory.writers import lime
from tests.real.comparison import text_of
from tests.real.ram import PAGE, assert_same, ranges_of

pytestmark = pytest.mark.lab

GUEST = "amd64-7.2-4g"
HOLE = (2 << 30, 4 << 30)
"""Where QEMU's q35 has none of its 4 GiB."""


@pytest.fixture(scope="module")
def large() -> Capture:
    if GUEST not in os.environ.get("KALLSIFT_LAB_CONTAINERS", "").split():
        pytest.skip(f"takes minutes: set KALLSIFT_LAB_CONTAINERS={GUEST}")
    return capture(guest_named(GUEST))


def _lost(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces, of whole pages but for their ends, without all pages that hold a resource of RAM."""
    for piece in pieces:
        data = np.frombuffer(piece, np.uint8).copy()
        words = data[: len(data) // 4 * 4].view("<u4")
        for page in np.unique(np.flatnonzero((words == 0x81000200) | (words == 0x80000200)) * 4 // PAGE).tolist():
            data[page * PAGE : (page + 1) * PAGE] = 0
        yield data.tobytes()


def _sparse(path: Path, pieces: Iterator[bytes]) -> None:
    with path.open("wb") as file:
        for piece in pieces:
            if piece.strip(b"\0"):
                file.write(piece)
            else:
                file.seek(len(piece), 1)
        file.truncate()


@pytest.mark.parametrize("kind", ["all RAM", "LiME raw"])
def test_without_its_hole(large: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """No layout of a machine is known to help."""
    monkeypatch.setattr(layout_candidates, "LAYOUTS", ())
    ranges = [(0, HOLE[0] - 1), (HOLE[1], HOLE[1] + HOLE[0] - 1)]
    if kind == "LiME raw":
        ranges = ranges_of(large)
    with kallsift.open(large.dump("elf")) as plain:
        _sparse(tmp_path / "ram", lime.raw(ranges, lambda address, size: plain.read(address, size).tobytes()))
        with kallsift.open(tmp_path / "ram") as memory:
            assert memory.container == "raw"
            kernel = kallsift.recover(memory)
        assert kernel.proven
        assert text_of(kernel) == large.core_kallsyms()
        assert_same(kernel.memory, plain, ranges)
    told = [check for check in kernel.evidence if check.name == ("hole" if kind == "all RAM" else "ranges")]
    assert [check.outcome for check in told] == [kallsift.Outcome.PASSED]


@pytest.mark.parametrize("kind", ["all RAM", "LiME raw"])
def test_without_its_resources(large: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """What the firmware told is left."""
    monkeypatch.setattr(layout_candidates, "LAYOUTS", ())
    ranges = ranges_of(large) if kind == "LiME raw" else [(0, HOLE[0] - 1), (HOLE[1], HOLE[1] + HOLE[0] - 1)]
    with kallsift.open(large.dump("elf")) as plain:
        pieces = lime.raw(ranges, lambda address, size: plain.read(address, size).tobytes())
        _sparse(tmp_path / "ram", _lost(pieces))
    with kallsift.open(tmp_path / "ram") as memory:
        kernel = kallsift.recover(memory)
        (held,) = memory.segments
        offset = 0
        for first, last in ranges:
            for start in range(first, last + 1, lime.AT_ONCE):
                size = min(lime.AT_ONCE, last + 1 - start)
                assert np.array_equal(kernel.memory.read(start, size), held.read(offset, offset + size)), f"{start:#x}"
                offset += size
    assert kernel.proven
    assert text_of(kernel) == large.core_kallsyms()
    (told,) = (check for check in kernel.evidence if check.name in ("hole", "ranges"))
    assert "e820 tables and the kernel's log lines have" in told.detail
