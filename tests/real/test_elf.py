"""The ELF file of a real guest's dump, as the tools see it that it is made for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kallsift
from tests.components import needs
from tests.real.conftest import GUESTS, Taken
from tests.real.debuggers import debugger

WORD = (1 << 64) - 1


@pytest.fixture(scope="module")
def written(taken: Taken, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file for each guest, written by the command."""
    folder = tmp_path_factory.mktemp("elf")
    files = {}
    for guest in GUESTS:
        files[guest] = folder / guest
        command = [sys.executable, "-m", "kallsift", "elf", str(taken(guest).dump("elf")), "-o", str(files[guest])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return files


def output_of(*command: str | Path) -> str:
    """What a tool prints, if it has nothing to complain of."""
    needs(str(command[0]))
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("guest", GUESTS)
def test_nm_prints_the_table(taken: Taken, written: dict[str, Path], guest: str) -> None:
    command = [sys.executable, "-m", "kallsift", "symbols", "--core", str(taken(guest).dump("elf"))]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert sorted(output_of("nm", "--special-syms", written[guest]).splitlines()) == sorted(table.splitlines())


@pytest.mark.parametrize("guest", GUESTS)
def test_readelf_has_no_complaint(taken: Taken, written: dict[str, Path], guest: str) -> None:
    text = output_of("readelf", "-aW", written[guest])
    assert not re.search(r"^readelf: ", text, re.M)
    (found,) = set(re.findall(r"Build ID: (\w+)", text))
    assert found in told_build_id(taken(guest).truth("notes").decode())


def told_build_id(hexdump: str) -> str:
    """The guest's own notes (/sys/kernel/notes) as hexadecimal digits."""
    lines = [line[8:].split("|")[0] for line in hexdump.splitlines()]
    return "".join(lines).replace(" ", "")


@pytest.mark.parametrize("guest", GUESTS)
def test_gdb_disassembles_a_function_and_resolves_an_address(
    taken: Taken, written: dict[str, Path], guest: str
) -> None:
    with kallsift.open(taken(guest).dump("elf")) as memory:
        kernel = kallsift.recover(memory)
        function = kernel.symbols["vfs_read"]
        width = kernel.symbols.word_size
        # variables that were zero at the start and are not any more
        chosen = [s for s in kernel.symbols if s.type in "bB" and s.address % width == 0][::37]
        places = np.array([s.address - kernel.distance & WORD for s in chosen], np.uint64)
        words = memory.words(places, np.dtype(f"{kernel.byte_order}u{width}"))[0].tolist()
    variables = [(s.address, word) for s, word in zip(chosen, words, strict=True) if word][:20]
    commands = [
        "disassemble vfs_read",
        f"info symbol {function.address + 5:#x}",
        *(f"x/s {symbol.address:#x}" for symbol in kernel.symbols.all("linux_banner")),
        *(f"output/x *(unsigned long *){address:#x}" for address, _ in variables),
    ]
    arguments = [part for command in commands for part in ("-ex", command, "-ex", "echo \\n")]
    text = output_of(debugger(guest), "-q", "-batch", "-nx", *arguments, written[guest])
    assert "Dump of assembler code for function vfs_read:" in text
    assert f"{function.address:#0{2 + 2 * width}x} <+0>:" in text
    assert "vfs_read + 5 in section .text" in text
    # text-only tables name neither the banner nor variables
    assert ('"Linux version ' in text) == ("linux_banner" in kernel.symbols)
    assert len(variables) == (20 if "linux_banner" in kernel.symbols else 0)
    assert [line for line in text.splitlines() if re.fullmatch("0x[0-9a-f]+", line)] == [
        f"{word:#x}" for _, word in variables
    ]


@pytest.mark.parametrize("guest", GUESTS)
def test_the_image_that_the_guest_was_booted_with(taken: Taken, guest: str, tmp_path: Path) -> None:
    image, file = taken(guest).kernel_image, tmp_path / "vmlinux.elf"
    command = [sys.executable, "-m", "kallsift"]
    done = subprocess.run([*command, "elf", str(image), "-o", str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    table = subprocess.run([*command, "symbols", str(image)], capture_output=True, text=True, check=True).stdout
    assert sorted(output_of("nm", "--special-syms", file).splitlines()) == sorted(table.splitlines())
    (found,) = set(re.findall(r"Build ID: (\w+)", output_of("readelf", "-aW", file)))
    assert found in told_build_id(taken(guest).truth("notes").decode())
    text = output_of(debugger(guest), "-q", "-batch", "-nx", "-ex", "disassemble vfs_read", file)
    assert "Dump of assembler code for function vfs_read:" in text


@pytest.mark.parametrize("guest", [name for name in GUESTS if name.startswith("amd64")])
def test_objdump_disassembles_a_function(written: dict[str, Path], guest: str) -> None:
    text = output_of("objdump", "-d", "--disassemble=vfs_read", written[guest])
    assert "<vfs_read>:" in text
    assert len(re.findall(r"^ *ffffffff[0-9a-f]+:\t", text, re.M)) > 20
    assert "(bad)" not in text
