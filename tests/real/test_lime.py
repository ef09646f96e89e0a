"""A real guest's memory as LiME writes it without headers: the ranges that the guest itself calls System RAM."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import kallsift
from kallsift.cli.app import run
from tests.memory.writers import lime
from tests.real.comparison import text_of
from tests.real.conftest import Taken
from tests.real.ram import assert_same, ranges_of

Writer = Callable[[list[lime.Range], lime.Read], Iterator[bytes]]


@pytest.mark.parametrize("guest", ["amd64-7.2", "amd64-5.10", "arm64-6.12", "i386-6.1-686"])
@pytest.mark.parametrize("write", [lime.raw, lime.padded])
def test_a_guest_without_headers(taken: Taken, tmp_path: Path, guest: str, write: Writer) -> None:
    capture = taken(guest)
    ranges = ranges_of(capture)
    with kallsift.open(capture.dump("elf")) as plain:
        with (tmp_path / "dump").open("wb") as file:
            file.writelines(write(ranges, lambda address, size: plain.read(address, size).tobytes()))
        with kallsift.open(tmp_path / "dump") as memory:
            assert memory.container == "raw"
            kernel = kallsift.recover(memory)
        # the end of the last range, which without the addresses of the others lies elsewhere
        last = ranges[-1][1] - 0xFFF
        assert run(["extract", str(tmp_path / "dump"), hex(last), "0x1000", "-o", str(tmp_path / "page")]) == 0
        assert (tmp_path / "page").read_bytes() == plain.read(last, 0x1000).tobytes()
        assert kernel.proven
        assert text_of(kernel) == capture.core_kallsyms()
        assert_same(kernel.memory, plain, ranges)
    told = [check for check in kernel.evidence if check.name == "ranges"]
    if write is lime.raw and len(ranges) > 1:
        assert [check.outcome for check in told] == [kallsift.Outcome.PASSED]
        assert all(f"{last + 1 - first:#x} bytes at {first:#x}" in told[0].detail for first, last in ranges)
    else:
        assert not told


PAGE = 4096


def _lost(data: NDArray[np.uint8], sources: set[str]) -> NDArray[np.uint8]:
    """The bytes without what tells where they belong: whole pages of tables are overwritten, lines of a log spoilt."""
    words = data[: len(data) // 4 * 4].view("<u4")
    found = np.empty(0, np.int64)
    if "resources" in sources:
        found = np.flatnonzero((words == 0x81000200) | (words == 0x80000200)) * 4
    if "e820" in sources:
        places = np.flatnonzero(words[:-4] == 0x100000)
        found = np.append(found, places[(words[places + 1] == 0) & (words[places + 4] == 1)] * 4)
    for page in np.unique(found // PAGE).tolist():
        data[page * PAGE : (page + 1) * PAGE] = 0x5A
    if "log" in sources:
        for line in re.finditer(rb"(?:BIOS-e820|node +[0-9]+): \[mem 0x", data.tobytes()):
            data[line.start() : line.end()] = ord("-")
    return data


@pytest.mark.parametrize(
    ("guest", "lost", "teller"),
    [
        ("amd64-7.2", {"resources"}, "e820 tables and the kernel's log lines have"),
        ("amd64-5.10", {"resources", "e820"}, "; the kernel's log lines have"),
        ("amd64-5.10", {"resources", "log"}, "; e820 tables have"),
        ("amd64-6.12-la57", {"resources"}, "e820 tables and the kernel's log lines have"),
        ("i386-6.1-pae", {"resources"}, "e820 tables and the kernel's log lines have"),
    ],
)
def test_what_the_firmware_told_tells(taken: Taken, tmp_path: Path, guest: str, lost: set[str], teller: str) -> None:
    """Where the pages with the kernel's resources are lost, every other page still gets its address."""
    capture = taken(guest)
    ranges = ranges_of(capture)
    with kallsift.open(capture.dump("elf")) as plain:
        parts = lime.raw(ranges, lambda address, size: plain.read(address, size).tobytes())
        whole = np.frombuffer(b"".join(parts), np.uint8)
        data = _lost(whole.copy(), lost)
        (tmp_path / "dump").write_bytes(data.tobytes())
        with kallsift.open(tmp_path / "dump") as memory:
            kernel = kallsift.recover(memory)
        last = ranges[-1][1] - 0xFFF
        assert run(["extract", str(tmp_path / "dump"), hex(last), "0x1000", "-o", str(tmp_path / "page")]) == 0
        assert (tmp_path / "page").read_bytes() == data[-PAGE:].tobytes()
    assert kernel.proven
    assert text_of(kernel) == capture.core_kallsyms()
    (told,) = (check for check in kernel.evidence if check.name == "ranges")
    assert (told.outcome, teller in told.detail) == (kallsift.Outcome.PASSED, True)
    offset = 0
    for first, end in ranges:
        size = end + 1 - first
        assert np.array_equal(kernel.memory.read(first, size), data[offset : offset + size])
        offset += size
