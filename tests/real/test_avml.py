"""A real guest's memory as AVML would have written it: every page, and the table."""

from __future__ import annotations

from pathlib import Path

import pytest

import kallsift
from tests.memory.writers.avml import blocks
from tests.real.comparison import text_of
from tests.real.conftest import Taken


@pytest.mark.parametrize(("packed", "container"), [(True, "AVML, Snappy"), (False, "LiME")])
@pytest.mark.parametrize("guest", ["amd64-7.2", "amd64-5.10"])
def test_a_guest_out_of_it(taken: Taken, tmp_path: Path, guest: str, packed: bool, container: str) -> None:
    capture = taken(guest)
    with kallsift.open(capture.dump("elf")) as plain:
        with (tmp_path / "dump.avml").open("wb") as file:
            ranges = ((segment.start, segment.read().tobytes()) for segment in plain.segments)
            file.writelines(blocks(ranges, packed=packed))
        with kallsift.open(tmp_path / "dump.avml") as memory:
            assert memory.container == container
            kernel = kallsift.recover(memory)
            for segment in memory.segments:
                assert segment.read().tobytes() == plain.read(segment.start, segment.size).tobytes()
            assert memory.size > 64 << 20
    assert kernel.proven
    assert text_of(kernel) == capture.core_kallsyms()
