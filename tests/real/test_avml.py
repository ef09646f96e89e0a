"""A real guest's memory as AVML would have written it: every page, and the table."""

from __future__ import annotations

from pathlib import Path

import kallsift
from tests.memory.writers.avml import blocks
from tests.real.comparison import text_of
from tests.real.conftest import Taken


def test_a_guest_out_of_a_compressed_dump(taken: Taken, tmp_path: Path) -> None:
    capture = taken("amd64-7.2")
    with kallsift.open(capture.dump("elf")) as plain:
        with (tmp_path / "dump.avml").open("wb") as file:
            file.writelines(blocks((segment.start, segment.read().tobytes()) for segment in plain.segments))
        with kallsift.open(tmp_path / "dump.avml") as memory:
            assert memory.container == "AVML, Snappy"
            kernel = kallsift.recover(memory)
            for segment in memory.segments:
                assert segment.read().tobytes() == plain.read(segment.start, segment.size).tobytes()
            assert memory.size > 64 << 20
    assert kernel.proven
    assert text_of(kernel) == capture.core_kallsyms()
