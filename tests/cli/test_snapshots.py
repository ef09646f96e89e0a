"""What users see, word for word: help, and what the main commands print of kernels that are made by hand.

Programs read some of it, and documents quote it. A change of it should be meant: ``make snapshots`` writes the files
anew (see `tests.cli.snapshot`). Files of real guests differ with every boot, and have tests of their own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kallsift.analysis.dynamic import dynamic_symbols
from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols, SymbolGroup
from kallsift.cli.app import COMMANDS
from kallsift.cli.commands import modules as modules_command
from kallsift.output.symbols.formats import FORMATS
from tests.cli.conftest import Command, Plant
from tests.cli.snapshot import FOLDER, check_snapshot
from tests.kernel.made_machine import Machine
from tests.modules.made_inventory import loaded
from tests.output.sample import kernel, table, unproven

HELP = {"help/kallsift.txt": "--help", **{f"help/{name}.txt": f"{name} --help" for name in COMMANDS}}
"""Files, and the command lines whose output they hold."""

RECOVERED = {
    "recovered/info.txt": "info memory.raw",
    "recovered/info.json": "info memory.raw --json",
    "recovered/layout.txt": "layout memory.raw",
    "recovered/layout.json": "layout memory.raw --json",
    "recovered/page-table.txt": "layout memory.raw --page-table",
    "recovered/lookup.txt": "lookup memory.raw init_task 0xffffffff81304010",
}
"""Of a whole machine, whose dump is read from a file."""

PLANTED = {f"planted/symbols.{name}": f"symbols memory.raw --format {name}" for name in FORMATS} | {
    "planted/info-all.txt": "info memory.raw --all",
    "planted/modules.txt": "modules memory.raw",
    "planted/modules.proc": "modules memory.raw --format proc",
    "planted/modules.json": "modules memory.raw --json",
}
"""Of kernels and modules that the engine is made to find."""


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the terminal one of a fixed width."""
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The machine's memory as a file of raw memory."""
    file = tmp_path_factory.mktemp("machine") / "memory.raw"
    Machine().data.tofile(file)
    return file


@pytest.mark.parametrize("name", HELP)
def test_help(command: Command, name: str) -> None:
    result = command(*HELP[name].split())
    assert (result.code, result.err) == (0, "")
    check_snapshot(name, result.out)


@pytest.mark.parametrize("name", RECOVERED)
def test_recovered(command: Command, monkeypatch: pytest.MonkeyPatch, dump: Path, name: str) -> None:
    monkeypatch.chdir(dump.parent)
    result = command(*RECOVERED[name].split())
    assert (result.code, result.err) == (0, "")
    check_snapshot(name, result.out)


def test_symbols_are_those_of_the_machine(command: Command, dump: Path) -> None:
    """No file is needed for these: who wrote the tables knows what they hold."""
    result = command("symbols", dump)
    assert (result.code, result.err) == (0, "")
    assert result.out == "".join(f"{each.address:016x} {each.letter} {each.name}\n" for each in Machine().symbols)


@pytest.mark.parametrize("name", PLANTED)
def test_planted(command: Command, plant: Plant, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    plant(kernel(), unproven())
    xfs = SymbolGroup("xfs", table([(0xFFFFFFFFC0001000, "t", "xfs_init"), (0xFFFFFFFFC0001010, "d", 'na"me\n\x80')]))
    monkeypatch.setattr(dynamic_symbols, "dynamic_symbols", lambda _, **__: DynamicSymbols((xfs,)))
    monkeypatch.setattr(modules_command, "inventory", lambda _: loaded())
    check_snapshot(name, command(*PLANTED[name].split()).out)


def test_every_file_is_compared() -> None:
    kept = {file.relative_to(FOLDER).as_posix() for file in FOLDER.rglob("*") if file.is_file()}
    assert kept == {*HELP, *RECOVERED, *PLANTED}
