"""``kallsift info``: both of its forms, and the exit code."""

from __future__ import annotations

import json

from tests.cli.conftest import Command, Plant
from tests.output.sample import kernel, unproven


def test_terminal_view(command: Command, plant: Plant) -> None:
    plant(kernel(), unproven())
    one, both = command("info", "dump"), command("info", "dump", "--all")
    assert (one.code, "kernel 0" in one.out, "kernel 1" in one.out) == (0, True, False)
    assert (both.code, "kernel 1" in both.out) == (3, True)


def test_json_view(command: Command, plant: Plant) -> None:
    plant(kernel())
    result = command("info", "dump", "--json")
    assert result.code == 0
    assert json.loads(result.out)["kernels"][0]["architecture"] == "x86-64"


def test_a_chosen_kernel_keeps_its_number(command: Command, plant: Plant) -> None:
    plant(kernel(), unproven())
    result = command("info", "dump", "--kernel", "1")
    assert ("kernel 1" in result.out, "kernel 0" in result.out) == (True, False)
