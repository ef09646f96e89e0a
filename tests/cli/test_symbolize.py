"""``kallsift symbolize``: as a filter, from a file, and with another boot's base."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kallsift.cli.commands.symbolize import MAX_LINE
from tests.cli.conftest import Command, Plant
from tests.output.sample import ROWS, SLIDE, kernel

LINE = b"RIP: 0010:0xffffffff9fa00045\n"
SAID = "RIP: 0010:0xffffffff9fa00045 <init+0x5/0xc0>\n"


class Pipe(io.BytesIO):
    """Bytes that can be read only once."""

    def seekable(self) -> bool:
        return False


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def piped(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Pipe(text)))


def test_a_file_and_a_pipe(command: Command, plant: Plant, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(kernel())
    log.write_bytes(LINE + b"x\x1b[m\n")
    assert command("symbolize", "dump", log).out == SAID + "x\x1b[m\n"
    piped(monkeypatch, LINE + b"no end")
    result = command("symbolize", "dump")
    assert (result.code, result.out, result.err) == (0, SAID + "no end", "")


def moved(line: bytes, by: int) -> bytes:
    return line.replace(b"ffffffff9fa00045", b"%x" % (0xFFFFFFFF9FA00045 + by))


@pytest.mark.parametrize("base", [0xFFFFFFFF9FA00000 + 0x400000, SLIDE + 0x400000])
def test_another_boots_base(command: Command, plant: Plant, log: Path, base: int) -> None:
    plant(kernel())
    log.write_bytes(moved(LINE, 0x400000) + LINE)
    lines = command("symbolize", "dump", log, "--from-base", f"{base:#x}").out.splitlines()
    assert lines == ["RIP: 0010:0xffffffff9fe00045 <init+0x5/0xc0>", "RIP: 0010:0xffffffff9fa00045"]


OFFSET = b"Kernel Offset: 0x1ee00000 from 0xffffffff81000000 (relocation range)\n"


def test_the_log_tells_its_base(command: Command, plant: Plant, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(kernel())
    text = moved(LINE, 0x400000) + OFFSET + moved(LINE, 0x400000)
    log.write_bytes(text)
    result = command("symbolize", "dump", log)
    assert [line for line in result.out.splitlines() if "<" in line] == [
        "RIP: 0010:0xffffffff9fe00045 <init+0x5/0xc0>"
    ] * 2
    assert "_text was at 0xffffffff9fe00000" in result.err
    piped(monkeypatch, text)
    result = command("symbolize", "dump")
    assert [("<init" in line) for line in result.out.splitlines()] == [False, False, True]
    assert "the following lines" in result.err
    log.write_bytes(text + OFFSET.replace(b"1ee", b"1ef"))
    result = command("symbolize", "dump", log)
    assert (result.code, result.out) == (1, "")
    assert "several boots" in result.err


@pytest.mark.parametrize(
    "line",
    [
        b"a user wrote: " + OFFSET,
        b"y" * (MAX_LINE) + OFFSET,  # the rest of a line too long for one
        OFFSET,
    ],
)
def test_a_base_that_the_log_does_not_bear_out(
    command: Command, plant: Plant, log: Path, monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    """Its addresses are this kernel's, whoever wrote that line."""
    plant(kernel())
    text = LINE.replace(b"9fa00045", b"9fa00245") + line
    log.write_bytes(text)
    piped(monkeypatch, text)
    for result in (command("symbolize", "dump", log), command("symbolize", "dump")):
        assert "0xffffffff9fa00245 <a_rather_long" in result.out
        assert ("do not fit" in result.err) == (line == OFFSET)


def test_a_line_that_is_too_long_stays_as_it_is(command: Command, plant: Plant, log: Path) -> None:
    plant(kernel())
    long = b"y" * (MAX_LINE - len(LINE) // 2) + b" " + LINE
    log.write_bytes(long + LINE + b"z" * MAX_LINE * 3 + b" " + LINE + LINE)
    result = command("symbolize", "dump", log)
    assert result.out.replace(SAID, LINE.decode()) == log.read_text()
    assert result.out.count("<init") == 2


def test_addresses(command: Command, plant: Plant, log: Path) -> None:
    plant(kernel())
    log.write_text("init+0x5/0xc0\n")
    assert command("symbolize", "dump", log).out == "init+0x5/0xc0\n"
    assert command("symbolize", "dump", log, "--addresses").out == "init+0x5/0xc0 <ffffffff9fa00045>\n"


def test_usage(command: Command, plant: Plant, log: Path) -> None:
    plant(kernel())
    assert command("symbolize", "--all", "dump", log).code == 2
    assert command("symbolize", "-").code == 2
    missing = command("symbolize", "dump", log)
    assert (missing.code, missing.err) == (1, f"kallsift: {log}: No such file or directory\n")
    log.write_bytes(b"")
    assert command("symbolize", "dump", log).out == ""


def test_each_line_comes_out_before_the_next_goes_in(tmp_path: Path) -> None:
    """An endless pipe, with a saved table for a source."""
    table = tmp_path / "kallsyms"
    table.write_text("".join(f"{address:016x} {kind} {name}\n" for address, kind, name in ROWS))
    command = [sys.executable, "-m", "kallsift", "symbolize", str(table)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(3):
            process.stdin.write(LINE)
            process.stdin.flush()
            assert process.stdout.readline().decode() == SAID
        process.stdin.close()
        assert process.wait() == 0
