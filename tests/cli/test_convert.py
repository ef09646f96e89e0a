"""``kallsift convert`` and ``kallsift extract``: what is written, what is said, and the exit codes."""

from __future__ import annotations

import os
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import kallsift
from tests.cli.conftest import Command
from tests.memory.builders import Program, elf, lime, note, notes
from tests.memory.opened import ranges

PARTS = {0x3000: b"".join(struct.pack("<Q", number) * 512 for number in range(5)), 0x100000: bytes(8192) + b"x" * 4096}


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    """A LiME dump in which no kernel is."""
    path = tmp_path / "memory.lime"
    path.write_bytes(lime(PARTS.items()))
    return path


@pytest.mark.parametrize("name", ["out.elf", "out.kdump", "out.lime"])
def test_the_suffix_tells_the_format(command: Command, dump: Path, name: str) -> None:
    target = dump.with_name(name)
    result = command("convert", "--as-is", dump, target)
    assert (result.code, result.out) == (0, "")
    assert ("no VMCOREINFO" in result.err) is (name != "out.lime")
    with kallsift.open(target) as memory:
        assert ranges(memory) == PARTS


def test_raw_has_holes(command: Command, dump: Path) -> None:
    target = dump.with_name("out.raw")
    assert command("convert", dump, target, "--format", "raw").code == 3
    content = target.read_bytes()
    assert len(content) == 0x103000
    assert all(content[start : start + len(data)] == data for start, data in PARTS.items())
    assert target.stat().st_blocks * 512 < len(content)


def test_a_pipe_takes_what_is_in_order(command: Command, dump: Path) -> None:
    pipe = dump.with_name("pipe")
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as threads:
        read = threads.submit(pipe.read_bytes)
        assert command("convert", "--as-is", dump, pipe, "--format", "raw").code == 0
        content = read.result(10)
    assert len(content) == 0x103000
    assert content[0x3000:0x8000] == PARTS[0x3000]
    result = command("convert", "--as-is", dump, pipe, "--format", "kdump")
    assert result.code == 2
    assert "name a file" in result.err


def test_what_makes_no_sense_is_refused(command: Command, dump: Path) -> None:
    for arguments, reason in (
        ((dump, dump.with_name("out")), "give --format"),
        ((dump, dump), "is read by this command"),
        ((dump, dump.with_name("out.raw"), "--all"), "leave out --all"),
    ):
        result = command("convert", *arguments)
        assert result.code == 2
        assert reason in result.err
    assert dump.read_bytes() == lime(PARTS.items())


def test_a_failure_leaves_the_old_file(command: Command, dump: Path) -> None:
    target = dump.with_name("out.kdump")
    target.write_text("before")
    dump.write_bytes(lime([(0x1001, bytes(5000))]))
    result = command("convert", "--as-is", dump, target)
    assert result.code == 1
    assert "no whole page" in result.err
    assert target.read_text() == "before"
    assert len(list(dump.parent.iterdir())) == 2


def test_registers_that_find_no_place_are_named(command: Command, tmp_path: Path) -> None:
    """Those of an s390x core go into another core, and raw memory has no room for them."""
    core, other = tmp_path / "core", tmp_path / "other.elf"
    load = Program(1, PARTS[0x3000], 0x3000)
    core.write_bytes(
        elf([notes(note(b"CORE", 1, bytes(336)), note(b"VMCOREINFO", 0, b"PAGESIZE=4096\n")), load], machine=22)
    )
    assert command("convert", "--as-is", core, other).err == ""
    result = command("convert", "--as-is", other, tmp_path / "other.raw")
    assert (result.code, result.err) == (
        0,
        f"kallsift: {tmp_path}/other.raw leaves out the registers of 1 processor\n",
    )
    with kallsift.open(other) as memory:
        assert memory.hints.core is not None
        assert (memory.hints.core.machine, memory.hints.core.count) == (22, 1)
    result = command("convert", "--as-is", "--lstar", "0x1000", other, tmp_path / "more.elf")
    assert "left out" not in result.err


def test_extract_by_physical_address(command: Command, dump: Path) -> None:
    target = dump.with_name("out")
    assert command("extract", dump, "0x3ffc", "8", "-o", target).code == 0
    assert target.read_bytes() == PARTS[0x3000][0xFFC : 0xFFC + 8]
    assert command("extract", dump, "0x102000", "4").out == "xxxx"


@pytest.mark.parametrize(("start", "size"), [("0x2fff", "2"), ("0x102fff", "2"), ("0xffffffffffffffff", "2")])
def test_what_is_missing_is_never_made_up(command: Command, dump: Path, start: str, size: str) -> None:
    result = command("extract", dump, start, size, "-o", dump.with_name("out"))
    assert result.code == 1
    assert not dump.with_name("out").exists()
    assert result.err.count("\n") == 1


def test_nothing_is_printed_of_what_is_not_all_there(command: Command, tmp_path: Path) -> None:
    long = tmp_path / "long.lime"
    long.write_bytes(lime([(0, bytes(5 << 20))]))
    result = command("extract", long, "0", f"{(5 << 20) + 1}")
    assert (result.code, result.out) == (1, "")
    assert result.err == "kallsift: no memory at 0x500000 (+0x1 bytes) in this source\n"


def test_memory_at_the_top_of_all_addresses(command: Command, tmp_path: Path) -> None:
    top = tmp_path / "top.lime"
    top.write_bytes(lime([((1 << 64) - 4096, b"last".ljust(4096, b"!"))]))
    assert command("extract", top, "0xffffffffffffff00", "0x100").out == "!" * 256
    result = command("convert", "--as-is", top, tmp_path / "top.raw")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "longer than files can be; use --format lime or elf" in result.err
    for name in ("again.lime", "again.elf"):
        assert command("convert", "--as-is", top, tmp_path / name).code == 0
        assert command("extract", tmp_path / name, "0xfffffffffffff000", "4").out == "last"
