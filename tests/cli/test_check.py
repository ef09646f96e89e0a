"""``kallsift check``: a verdict a module, what it wants, its symbols, and the exit codes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kallsift.cli.commands import check as check_command
from kallsift.modules.exports.exports import Exports
from tests.cli.conftest import Command, Plant
from tests.modules.loadable import GOOD, LOADER
from tests.modules.module_builder import GLOBAL, UNDEFINED, Built
from tests.output.sample import kernel, unproven


@pytest.fixture
def good(tmp_path: Path, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that the kernel, which any source now holds, would take."""
    plant(kernel())
    monkeypatch.setattr(check_command, "exports", lambda _: LOADER.exports)
    monkeypatch.setattr(check_command, "loader", lambda *_: LOADER)
    (file := tmp_path / "good.ko").write_bytes(Built(**GOOD).data())
    return file


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """One that it would refuse."""
    symbols = [*GOOD["symbols"], ("no\x1bbody", GLOBAL, UNDEFINED)]
    (file := tmp_path / "bad.ko").write_bytes(Built(**{**GOOD, "symbols": symbols}).data())
    return file


def test_a_verdict_each(command: Command, good: Path, bad: Path, tmp_path: Path) -> None:
    (text := tmp_path / "text.ko").write_text("none")
    assert (one := command("check", "dump", good)).code == 0
    assert (one.out, one.err) == (f"{good}\tloads\t-\n", "")
    all_three = command("check", "dump", good, bad, text)
    assert all_three.code == 1
    assert all_three.out.splitlines()[1:] == [
        f"{bad}\trefused\tENOENT\tUnknown symbol no\\x1bbody (err -2): nothing exports it",
        f"{text}\trefused\tENOEXEC\tis not an ELF file",
    ]


def test_uses_and_symbols(command: Command, good: Path, bad: Path) -> None:
    lines = command("check", "dump", "--uses", bad).out.splitlines()
    assert lines[1] == "\tffffffff81000004\tfree\tvmlinux"
    assert lines[3] == "\t----------------\tno\\x1bbody\t-\tnothing exports it"
    lines = command("check", "dump", "--symbols", good).out.splitlines()
    assert lines[1].split() == ["Num:", "Value", "Size", "Type", "Bind", "Vis", "Section", "Name"]
    assert lines[3].split() == ["1:", "0000000000000010", "8", "FUNC", "GLOBAL", "DEFAULT", ".text", "own"]


def test_json(command: Command, good: Path, bad: Path) -> None:
    (found,) = json.loads(command("check", "dump", "--json", "--symbols", good, bad).out)["kernels"]
    one, other = found["files"]
    assert (one["file"], one["loads"], one["error"], one["reason"]) == (str(good), True, None, None)
    assert one["symbols"][1]["section"] == ".text"
    assert (other["errno"], other["error"]) == (2, "ENOENT")
    assert other["uses"][0]["owner"] == "vmlinux"


def test_remarks_are_said_once(command: Command, good: Path, tmp_path: Path) -> None:
    signed = []
    for name in ("one.ko", "two.ko"):
        signed.append(tmp_path / name)
        signed[-1].write_bytes(Built(**GOOD, signature=b"s").data())
    result = command("check", "dump", *signed, good)
    assert result.code == 0
    assert result.err.startswith(f"kallsift: warning: {signed[0]} and 1 more: its signature was not checked")
    assert result.err.count("\n") == 1


def test_exit_codes(
    command: Command, plant: Plant, good: Path, bad: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert command("check", "dump").code == 2
    assert command("check", "dump", tmp_path / "missing.ko").code == 2
    partly = replace(LOADER, exports=Exports(LOADER.exports.symbols, missing=("modules: gone",)))
    monkeypatch.setattr(check_command, "loader", lambda *_: partly)
    assert command("check", "dump", bad).code == 3
    monkeypatch.setattr(check_command, "loader", lambda *_: LOADER)
    plant(unproven())
    assert command("check", "dump", good).code == 3


def test_every_kernel(command: Command, plant: Plant, good: Path) -> None:
    plant(kernel(), kernel())
    assert command("check", "dump", "--all", good).out == f"kernel 0:\n{good}\tloads\t-\nkernel 1:\n{good}\tloads\t-\n"
