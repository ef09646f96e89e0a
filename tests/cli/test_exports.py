"""``kallsift exports``: lines like Module.symvers, JSON, and what is missing."""

from __future__ import annotations

import json

import pytest

from kallsift.cli.commands import exports as exports_command
from kallsift.modules.exports.exports import Exports
from kallsift.modules.exports.kernel import ExportsError
from tests.cli.conftest import Command, Plant
from tests.modules.made_exports import FOUND
from tests.output.sample import kernel, unproven


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports_command, "exports_of", lambda _: FOUND)


@pytest.mark.usefixtures("found")
def test_lines(command: Command, plant: Plant) -> None:
    plant(kernel())
    result = command("exports", "dump")
    assert (result.code, result.err) == (0, "")
    assert result.out == (
        "0x92997ed8\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n"
        "0x00000000\tsp\\x1bace\tvmlinux\tEXPORT_SYMBOL_GPL\tNS\n"
        "0x00000001\thelper\tother\tEXPORT_SYMBOL\t\n"
    )
    assert command("exports", "dump", "--owner", "other").out.count("\n") == 1
    typo = command("exports", "dump", "--owner", "vmlinus")
    assert (typo.code, typo.out) == (1, "")
    assert typo.err == "kallsift: --owner: there is no module called vmlinus; did you mean vmlinux?\n"
    assert "'kallsift modules' lists them" in command("exports", "dump", "--owner", "x", "--json").err
    silent = command("exports", "dump", "--owner", "silent")
    assert (silent.code, silent.out, silent.err) == (0, "", "kallsift: silent exports nothing\n")
    plant(unproven())
    assert command("exports", "dump").code == 3


@pytest.mark.usefixtures("found")
def test_json(command: Command, plant: Plant) -> None:
    plant(kernel(), kernel())
    (document,) = json.loads(command("exports", "dump", "--json").out)["kernels"]
    assert document["missing"] == []
    assert document["exports"][1] == {
        "name": "sp\x1bace",
        "address": "0x20",
        "owner": "vmlinux",
        "macro": "EXPORT_SYMBOL_GPL",
        "gpl_only": True,
        "namespace": "NS",
        "crc": None,
    }
    assert len(json.loads(command("exports", "dump", "--json", "--all").out)["kernels"]) == 2
    assert command("exports", "dump", "--all").out.count("kernel ") == 2


def test_what_is_missing_is_said(command: Command, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(kernel())
    monkeypatch.setattr(exports_command, "exports_of", lambda _: Exports(FOUND.symbols, missing=("modules: gone",)))
    result = command("exports", "dump")
    assert (result.code, result.err) == (3, "kallsift: warning: the exports are incomplete: modules: gone\n")


def test_a_kernel_without_exports(command: Command, plant: Plant) -> None:
    """The image of this kernel holds none: the error is one line."""
    plant(kernel())
    result = command("exports", "dump")
    assert result.code == 1
    assert result.err.startswith("kallsift: ")
    assert result.err.count("\n") == 1
    assert ExportsError.__name__ not in result.err
