"""Commands whose source fails to be read: one line, no signal, and every line that is printed is right."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kallsift.memory.file_faults import EXACT_FAULTS, FileFaults
from tests.cli.conftest import Command
from tests.kernel.made_machine import MIB, PAGE, TABLES, Machine
from tests.memory.failing_file import failing, loop_device

MAIN = (sys.executable, "-c", "from kallsift.__main__ import main; main()")


@pytest.fixture(scope="module")
def machine() -> Machine:
    return Machine()


@pytest.fixture
def dump(machine: Machine, tmp_path: Path) -> Path:
    path = tmp_path / "memory.raw"
    path.write_bytes(machine.data.tobytes())
    return path


@pytest.fixture
def truth(command: Command, dump: Path) -> str:
    result = command("symbols", dump, "--core")
    assert result.code == 0
    return result.out


def warned(text: str, count: int) -> str:
    """The line that says how many pages could not be read."""
    (line,) = (line for line in text.splitlines() if "could not be read" in line)
    pages = f"{32 * MIB // PAGE:,}"
    assert line == f"kallsift: warning: {count:,} of {pages} pages could not be read; they are read as holes"
    return line


def all_right(text: str, truth: str) -> bool:
    """Whether each line is one of the table, but for what it says that it does not know."""
    lines = truth.splitlines()
    unequal = set(text.splitlines()) - set(lines)
    patterns = [re.compile(re.escape(line).replace("\\?", ".") + "\n") for line in unequal]
    return all(pattern.search(truth) for pattern in patterns)


def test_a_bad_sector_that_holds_nothing_of_the_answer_is_no_matter(command: Command, dump: Path, truth: str) -> None:
    with failing(dump, {1, 31 * MIB // PAGE}) as broken:
        result = command("symbols", broken, "--core")
        assert (result.code, result.out) == (0, truth)
        warned(result.err, 2)


def test_a_bad_sector_in_a_table_is_damage(command: Command, dump: Path, machine: Machine, truth: str) -> None:
    bad = (machine.place + TABLES) // PAGE + 3
    with failing(dump, {bad}) as broken:
        result = command("symbols", broken, "--core")
        assert result.code == 3
        warned(result.err, 1)
        assert "?" in result.out
        assert all_right(result.out, truth)


def test_a_page_is_read_three_times_before_it_is_given_up() -> None:
    """The first failure can be that of a page beside it: another thread had both read together."""
    faults = FileFaults("disk", 1 << 30)
    assert [faults.is_worth_a_try(4096) for _ in range(3)] == [True, True, False]
    assert faults.is_worth_a_try(8192)
    for _ in range(EXACT_FAULTS):
        faults.lost_bytes(0)
    assert not faults.is_worth_a_try(12288)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("share", [0.001, 0.02, 0.3])
def test_no_signal_ends_the_process(
    command: Command, dump: Path, machine: Machine, truth: str, seed: int, share: float
) -> None:
    chance = random.Random(seed)
    count = machine.size // PAGE
    bad = {chance.randrange(1, count) for _ in range(int(share * count))}
    with failing(dump, bad) as broken, loop_device(broken) as disk:
        result = command("symbols", disk, "--core")
        assert result.code in (0, 1, 3)
        if result.code == 0:
            assert result.out == truth
        assert all_right(result.out, truth)
        for arguments in (("info",), ("elf", "-o", dump.with_name("elf"))):
            name, *rest = arguments
            result = command(name, disk, *rest)
            assert result.code in (0, 1, 3), (name, result.err)
            assert all(line.startswith("kallsift: ") for line in result.err.splitlines())
        result = command("convert", "--as-is", disk, dump.with_name("copy"), "--format", "raw")
        assert result.code == 3
        warned(result.err, len(bad))
        copy, whole = dump.with_name("copy").read_bytes(), machine.data.tobytes()
        for page in range(count):
            part = slice(page * PAGE, page * PAGE + PAGE)
            assert copy[part] == (bytes(PAGE) if page in bad else whole[part])
        page = min(bad)
        result = command("extract", disk, hex(page * PAGE - 8), "16", "-o", dump.with_name("bytes"))
        assert result.code == 1
        assert not dump.with_name("bytes").exists()


SLOWLY = """
import os, sys, time
from pathlib import Path
from kallsift.kernel.recovery import search as recover
dump = os.environ["DUMP"]
found = recover.priority_ranges
def priority_ranges(memory):
    Path(dump + ".waits").touch()
    while Path(dump).stat().st_size > 4096:
        time.sleep(0.01)
    return found(memory)
recover.priority_ranges = priority_ranges
from kallsift.__main__ import main
main()
"""


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "arguments",
    [
        "symbols DUMP",
        "info DUMP",
        "lookup DUMP _text",
        "elf DUMP -o out",
        "symbols DUMP -o out",
        "extract DUMP 0x10000 16",
    ],
)
def test_a_file_that_is_cut_short_meanwhile(dump: Path, arguments: str) -> None:
    """Nothing is made of what is left, and a line says why."""
    waits = dump.with_name("memory.raw.waits")
    command = [sys.executable, "-c", SLOWLY, *arguments.replace("DUMP", str(dump)).split()]
    environment = {**os.environ, "DUMP": str(dump)}
    with subprocess.Popen(
        command, cwd=dump.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 60
        while not waits.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.truncate(dump, PAGE)
        out, err = process.communicate(timeout=60)
    assert err.decode() == (
        f"kallsift: {dump}: was cut short while it was read (4,096 of 33,554,432 bytes are left); "
        "copy it again when nothing writes to it\n"
    )
    assert (process.returncode, out) == (1, b"")
    assert sorted(path.name for path in dump.parent.iterdir()) == [dump.name, waits.name]


def test_a_file_that_is_cut_short_while_the_result_is_written(command: Command, dump: Path) -> None:
    """The old result stays."""
    target = dump.with_name("copy.raw")
    target.write_bytes(b"before")
    with pytest.MonkeyPatch.context() as patch:
        from kallsift.output.dumps import raw as raw_dump

        chunks = vars(raw_dump)["chunks"]

        def cut(*arguments: Any) -> Iterator[Any]:
            for number, chunk in enumerate(chunks(*arguments)):
                if number == 7:
                    os.truncate(dump, 6 * MIB)
                yield chunk

        patch.setattr(raw_dump, "chunks", cut)
        result = command("convert", "--as-is", dump, target)
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "was cut short while it was read" in result.err
    assert target.read_bytes() == b"before"
