"""``kallsift modules``: its formats, what it says of hidden modules and of what is not known, and its exit codes."""

from __future__ import annotations

import json

import pytest

from kallsift.cli.commands import modules as modules_command
from kallsift.kernel.kernel import State
from kallsift.modules.inventory import Inventory, inventory
from tests.cli.conftest import Command, Plant
from tests.modules.made_inventory import loaded
from tests.modules.made_modules import BASE, BUILD_ID, STRIDE
from tests.output.sample import kernel, unproven

PROC = """\
module_a 16384 1 module_b, Live 0x00000000c0000000
module_b 16384 1 module_c, Live 0x00000000c0200000 (O)
module_c 16384 1 module_d, Live 0x00000000c0400000
module_d 16384 1 module_e,[permanent], Live 0x00000000c0600000 (O)
"""


@pytest.fixture
def holds(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(kernel())
    monkeypatch.setattr(modules_command, "inventory", lambda _: loaded())


@pytest.mark.usefixtures("holds")
def test_the_file_of_the_kernel(command: Command) -> None:
    result = command("modules", "dump", "--format", "proc")
    assert (result.code, result.out) == (0, PROC)
    assert "because the kernel's list does not have them, though they are in memory: module_e" in result.err


@pytest.mark.usefixtures("holds")
def test_the_table(command: Command) -> None:
    result = command("modules", "dump")
    lines = [line.split("  ") for line in result.out.splitlines()]
    assert (result.code, result.err, len(lines)) == (0, "", 6)
    rows = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert rows[0] == ["module", "base", "size", "refs", "state", "taints", "version", "list", "used by"]
    assert rows[1] == ["module_a", "0x00000000c0000000", "16384", "1", "Live", "-", "-", "yes", "module_b"]
    assert rows[4][5:] == ["O", "1.3", "yes", "module_e,[permanent]"]
    assert rows[5][-2:] == ["NO (tree, memory)", "-"]


@pytest.mark.usefixtures("holds")
def test_one_module(command: Command) -> None:
    result = command("modules", "dump", "--sections", "module_b")
    assert result.code == 0
    assert result.out.splitlines()[0] == f"module_b\t.text\t0x{BASE + STRIDE:016x}"
    assert command("modules", "dump", "--parameters", "module_b").out == "module_b\tp0\t?\t?\nmodule_b\tp1\t?\t?\n"
    some = command("modules", "dump", "module_b", "nosuch")
    assert (some.code, some.err) == (
        3,
        "kallsift: there is no module called nosuch; 'kallsift modules SOURCE' lists them\n",
    )
    assert command("modules", "dump", "nosuch").code == 1


@pytest.mark.usefixtures("holds")
def test_json(command: Command) -> None:
    result = command("modules", "dump", "--json", "module_d", "module_e")
    first, last = json.loads(result.out)["kernels"][0]["modules"]
    assert (first["listed"], first["build_id"], first["permanent"]) == (True, BUILD_ID.hex(), True)
    assert (last["listed"], last["found_by"]) == (False, ["tree", "memory"])
    assert (result.code, result.err) == (0, "")


def test_what_is_not_known(command: Command, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(kernel())
    monkeypatch.setattr(modules_command, "inventory", lambda _: loaded(taints=None, init=None, regions=()))
    result = command("modules", "dump", "--format", "proc", "module_d")
    assert (result.code, result.out) == (3, "module_d ? 1 module_e,?, Live ? ?\n")
    assert "so these facts of its modules are unknown: regions, init, taints" in result.err


def test_what_cannot_be_read(command: Command, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(kernel())
    monkeypatch.setattr(modules_command, "inventory", lambda _: loaded(users=8))
    result = command("modules", "dump", "module_d")
    assert result.code == 3
    assert "users: no memory at 0x18" in result.err
    assert result.out.splitlines()[1].endswith("  [permanent],?")


def test_every_kernel_is_asked(command: Command, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(kernel(), kernel(state=State.STALE))
    monkeypatch.setattr(
        modules_command, "inventory", lambda one: loaded() if one.state is State.RUNNING else inventory(one)
    )
    result = command("modules", "dump", "--all", "--format", "proc", "module_a")
    assert result.out == "kernel 0:\n" + PROC.splitlines(keepends=True)[0]
    assert "kernel 1: this kernel does not run, so it has no modules (its state: stale copy)" in result.err
    assert result.code == 3
    alone = command("modules", "dump", "--kernel", "1")
    assert (alone.code, alone.out) == (1, "")


def test_not_proven_and_not_together(command: Command, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(unproven())
    monkeypatch.setattr(modules_command, "inventory", lambda _: Inventory((), (), (), 8))
    assert command("modules", "dump").code == 3
    assert command("modules", "dump", "--json", "--sections").code == 2
