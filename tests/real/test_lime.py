"""A real guest's memory as LiME writes it without headers: the ranges that the guest itself calls System RAM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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
