"""``kallsift lookup --table``: entries, marks, and what the exit code says."""

from __future__ import annotations

import pytest

from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols
from kallsift.analysis.pointer_tables import pointer_tables
from tests.cli.conftest import Command, Plant
from tests.kernel.made_up import FUNCTIONS, TABLE, WORDS, made_up


@pytest.fixture(autouse=True)
def no_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pointer_tables, "dynamic_symbols", lambda _: DynamicSymbols())


def test_a_clean_table(command: Command, plant: Plant) -> None:
    plant(made_up())
    result = command("lookup", "dump", "--table", "sys_call_table")
    assert result.code == 0
    assert result.out.splitlines() == [
        f"  {number} {TABLE + 8 * number:016x} {target:016x} __x64_sys_{number}+0x0/0x{size:x}"
        for number, (target, size) in enumerate(zip(FUNCTIONS, (0x100, 0x100, 0x100, 0x400), strict=True))
    ]
    assert result.err == "kallsift: sys_call_table: from the symbol sys_call_table to the next symbol\n"


def test_a_hooked_table(command: Command, plant: Plant) -> None:
    plant(made_up({**WORDS, TABLE + 16: 0x4141_4141_4141_4141}))
    result = command("lookup", "dump", "--table", "sys_call_table")
    assert result.code == 3
    assert [line for line in result.out.splitlines() if line.startswith("!")] == [
        f"! 2 {TABLE + 16:016x} 4141414141414141 -\tnot mapped"
    ]
    assert "warning: 1 of 4 entries of sys_call_table do not point to functions of the kernel" in result.err


def test_usage_and_failure(command: Command, plant: Plant) -> None:
    plant(made_up())
    assert command("lookup", "dump").code == 2
    assert command("lookup", "dump", "--table", "sys_call_table", "init_task").code == 2
    missing = command("lookup", "dump", "--table", "nosuch")
    assert (missing.code, missing.out) == (1, "")
    assert missing.err == "kallsift: there is no symbol called nosuch; name the symbol that the table begins at\n"
