"""``kallsift config``: the text, or one line that says where else it is."""

from __future__ import annotations

import gzip
from pathlib import Path

from kallsift.modules.ikconfig import END, START
from tests.cli.conftest import Command, Plant
from tests.kernel.made_up import made_up
from tests.modules.made_config import TEXT, carrying


def test_printed_and_written(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(carrying(START + gzip.compress(TEXT) + END))
    result = command("config", "dump")
    assert (result.code, result.out, result.err) == (0, TEXT.decode(), "")
    assert command("config", "dump", "-o", tmp_path / "config").code == 0
    assert (tmp_path / "config").read_bytes() == TEXT
    assert command("config", "dump", "--all").code == 2


def test_none(command: Command, plant: Plant) -> None:
    plant(made_up())
    result = command("config", "dump")
    assert (result.code, result.out) == (1, "")
    assert result.err.count("\n") == 1
    assert "/boot/config-*" in result.err
