"""``kallsift diff``: lines, the summary and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kallsift.kernel.kernel import State
from tests.cli.conftest import Command, Plant
from tests.output.sample import ROWS, kernel, unproven


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The sample's table at the addresses it was linked at, with a module."""
    file = tmp_path / "saved"
    lines = [f"{address:016x} {kind} {name}\n" for address, kind, name in ROWS]
    file.write_text("".join(lines))
    return file


def test_agreement(command: Command, plant: Plant, saved: Path) -> None:
    plant(kernel())
    result = command("diff", "dump", saved)
    assert (result.code, result.out) == (0, "")
    assert result.err == f"dump and {saved} agree in all {len(ROWS)} symbols\n"
    plant(unproven())
    assert command("diff", "dump", saved).code == 3


def test_differences(command: Command, saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    text = saved.read_text()
    text = text.replace("T _stext", "t _stext").replace("ffffffff9fa00200 T", "ffffffff9fa00210 T")
    text = text.replace("_end", "_ende") + "ffffffffc0001000 t own\t[xfs]\n"
    other.write_text(text)
    result = command("diff", saved, other)
    long = ROWS[6][2]
    assert result.out.splitlines() == [
        "! ffffffff9fa00000 T t _stext",
        f"~ ffffffff9fa00200 ffffffff9fa00210 T {long}",
        "- ffffffffa2000000 B _end",
        "+ ffffffffa2000000 B _ende",
    ]
    assert result.err.endswith("differ: 1 missing, 1 added, 1 moved, 1 of another type; 5 symbols are the same\n")
    assert result.code == 4
    document = json.loads(command("diff", "--json", saved, other).out)
    assert (document["agree"], document["same"], document["slide"]) == (False, 5, "0x0")
    assert document["differences"][2] == {
        "change": "missing",
        "module": None,
        "before": {"address": "0xffffffffa2000000", "type": "B", "name": "_end"},
        "after": None,
    }


def test_a_slide_is_said(command: Command, saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text(saved.read_text().replace("ffffffff9f", "ffffffff8f").replace("ffffffffa2", "ffffffff92"))
    result = command("diff", saved, other)
    assert result.code == 0
    assert result.err.endswith("agree in all 8 symbols; the second lies -0x10000000 from the first\n")


def test_modules(command: Command, saved: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text(saved.read_text() + "ffffffffc0001000 t own\t[xfs]\n")
    other.write_text(saved.read_text() + "ffffffffc0001000 t own\t[ext4]\n")
    result = command("diff", one, other)
    assert (result.code, result.out) == (4, "- [xfs] with 1 symbols\n+ [ext4] with 1 symbols\n")
    assert command("diff", "--core", one, other).code == 0


def test_what_cannot_be_compared(command: Command, plant: Plant, saved: Path, tmp_path: Path) -> None:
    plant()
    assert command("diff", "dump", saved).code == 1
    hidden = tmp_path / "hidden"
    hidden.write_text("0000000000000000 T _text\n0000000000000000 T _stext\n")
    result = command("diff", saved, hidden)
    assert result.code == 1
    assert "kptr_restrict" in result.err
    assert command("diff", saved).code == 2
    assert command("diff", "--kernel", "0", saved, saved).code == 2
    plant(kernel())
    assert command("diff", "--all", "dump", saved).code == 2


def test_a_damaged_table(command: Command, saved: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    lines = saved.read_text().splitlines(keepends=True)
    lines[3] = "???????????????? T _stext\n"
    lines[4] = "ffffffff9fa00040 ? ?\n"
    damaged.write_text("".join(lines))
    result = command("diff", damaged, saved)
    assert (result.code, result.out) == (3, "")
    assert "agree in all 6 symbols that are known in both; 2 lost their name or address" in result.err


def test_what_fails_is_said_of_its_source(command: Command, plant: Plant, saved: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for dump in (first, second):
        dump.write_bytes(bytes(4096))
    plant()
    assert command("diff", saved, second).err.startswith(f"kallsift: {second}: token table: none found")
    assert command("diff", first, saved).err.startswith(f"kallsift: {first}: token table: none found")
    plant(kernel(state=State.STALE))
    assert f"warning: {second}: not proven (" in command("diff", saved, second).err
