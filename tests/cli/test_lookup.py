"""``kallsift lookup``: names, addresses, and what is found where nothing is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols, SymbolGroup
from kallsift.analysis.symbol_lookup import Resolver
from kallsift.cli import symbol_sources
from kallsift.cli.commands.lookup import answers
from tests.cli.conftest import Command, Plant
from tests.output.sample import ROWS, kernel, table, unproven


@pytest.mark.parametrize(
    ("query", "lines"),
    [
        ("init", ["ffffffff9fa00040 t init", "ffffffff9fa00100 t init"]),
        ("0xffffffff9fa00140", ["ffffffff9fa00140 init+0x40/0x100"]),
        ("ffffffff9fa00000", ["ffffffff9fa00000 _text+0x0/0x40"]),
        ("0xFFFFFFFF9FA0003f", ["ffffffff9fa0003f _text+0x3f/0x40"]),
        ("0x8", []),
        ("ffffffffa2000000", []),
        ("0xffffffff9fa00041", ["ffffffff9fa00041 init+0x1/0xc0"]),
        ("0xffffffffa2000001", []),
        ("0x7fffffffffff", []),
        ("nosuch", []),
        ("", []),
        ("0x", []),
        ("\u4e00", []),
    ],
)
def test_answers(query: str, lines: list[str]) -> None:
    assert answers(Resolver(table(ROWS)), query) == lines


def test_a_name_goes_before_an_address() -> None:
    rows = [(0xC0000000, "T", "deadbeef"), (0xDEADBEE0, "T", "other"), (0xDEADBF00, "T", "end")]
    assert answers(Resolver(table(rows, 4)), "deadbeef") == ["c0000000 T deadbeef"]
    assert answers(Resolver(table(rows, 4)), "0xdeadbeef") == ["deadbeef other+0xf/0x20"]


MODULES = DynamicSymbols(
    (
        SymbolGroup("first", table([(0xFFFFFFFFC0002000, "T", "late"), (0xFFFFFFFFC0001000, "t", "init")])),
        SymbolGroup("se\x1bcond", table([(0xFFFFFFFFC0003000, "t", "init")])),
    )
)


@pytest.mark.parametrize(
    ("query", "lines"),
    [
        (
            "init",
            [
                "ffffffff9fa00040 t init",
                "ffffffff9fa00100 t init",
                "ffffffffc0001000 t init\t[first]",
                "ffffffffc0003000 t init\t[se\\x1bcond]",
            ],
        ),
        ("first:init", ["ffffffffc0001000 t init\t[first]"]),
        ("first:_text", []),
        ("0xffffffffc0001234", ["ffffffffc0001234 init+0x234/0x1000 [first]"]),
        ("0xffffffffc0002000", ["ffffffffc0002000 late+0x0 [first]"]),
        ("0xffffffffc0002001", []),
        ("0xffffffffc0000fff", []),
        ("0xffffffffc0003000", ["ffffffffc0003000 init+0x0 [se\\x1bcond]"]),
        ("0xffffffff9fa00140", ["ffffffff9fa00140 init+0x40/0x100"]),
    ],
)
def test_answers_from_modules(query: str, lines: list[str]) -> None:
    assert answers(Resolver(table(ROWS), MODULES), query) == lines


def test_what_cannot_be_read_of_modules_is_said(
    command: Command, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(kernel())
    monkeypatch.setattr(symbol_sources, "dynamic_symbols", lambda _: DynamicSymbols((), ("modules: gone",)))
    result = command("lookup", "dump", "init")
    assert (result.code, result.err) == (3, "kallsift: warning: the symbols are incomplete: modules: gone\n")
    assert command("lookup", "dump", "--core", "init").code == 0


def test_exit_codes(command: Command, plant: Plant) -> None:
    plant(kernel())
    assert command("lookup", "dump", "init", "_text").code == 0
    some = command("lookup", "dump", "init", "nosuch")
    assert (some.code, some.err) == (3, "kallsift: there is no symbol called nosuch\n")
    none = command("lookup", "dump", "nosuch", "0x7fffffffffff")
    assert (none.code, none.out) == (1, "")
    assert none.err.splitlines()[1] == "kallsift: there is no symbol at 0x7fffffffffff"
    plant(unproven())
    assert command("lookup", "dump", "init").code == 3


def test_what_a_damaged_table_lost_is_not_denied(command: Command, plant: Plant) -> None:
    known = np.ones(len(ROWS), np.bool_)
    known[[4, 5]] = False
    plant(kernel(symbols=replace(table(ROWS), known_addresses=known)))
    result = command("lookup", "dump", "init")
    assert (result.code, result.out) == (3, "")
    lost = "2 of 8 symbols lost their name or address"
    assert result.err == f"kallsift: no known symbol is called init: {lost}\n"
    assert command("lookup", "dump", "0xffffffff9fa00140").err.startswith("kallsift: no known symbol is at 0xffff")


def test_all_kernels_are_asked(command: Command, plant: Plant) -> None:
    plant(kernel(), kernel(ROWS[:3]))
    result = command("lookup", "dump", "--all", "_stext")
    assert result.out == "kernel 0:\nffffffff9fa00000 T _stext\nkernel 1:\n"
    assert result.err == "kallsift: there is no symbol called _stext in kernel 1\n"
    assert result.code == 0


def test_names_of_a_dump_are_printed_escaped(command: Command, plant: Plant) -> None:
    plant(kernel([(1, "T", "a\x1b[2J"), (2, "T", "b")]))
    assert command("lookup", "dump", "0x1").out == "0000000000000001 a\\x1b[2J+0x0/0x1\n"


def test_the_resolvers_answer_and_who_may_ask_it(command: Command, plant: Plant) -> None:
    rows = [*ROWS[:3], (0xFFFFFFFF9FA00010, "T", "kallsyms_lookup_name"), (0xFFFFFFFF9FA00020, "T", "register_kprobe")]
    rows += [*ROWS[4:], (0xFFFFFFFFA2000010, "r", "__ksymtab_register_kprobe")]
    plant(kernel(rows))
    result = command("lookup", "dump", "--resolver", "init")
    assert (result.code, result.out) == (0, "ffffffff9fa00040 t init\n")
    assert result.err.splitlines()[:3] == [
        "kallsyms_lookup_name at 0xffffffff9fa00010 is not exported: returns the address of any name",
        "kallsyms_on_each_symbol is not in this kernel",
        "register_kprobe at 0xffffffff9fa00020 is exported: "
        "a kprobe on a function gives that function's address, so kallsyms_lookup_name's too",
    ]


def test_a_saved_table(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "kallsyms"
    file.write_text("".join(f"{address:016x} {kind} {name}\n" for address, kind, name in ROWS))
    result = command("lookup", file, "init", "0xffffffff9fa00041")
    assert result.out.splitlines()[2] == "ffffffff9fa00041 init+0x1/0xc0"
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize("name", ["modules", "layout", "exports", "guests", "symbols", "info"])
def test_a_saved_table_has_no_memory(command: Command, tmp_path: Path, name: str) -> None:
    file = tmp_path / "kallsyms"
    file.write_text("".join(f"{address:016x} {kind} {name}\n" for address, kind, name in ROWS) * 99)
    result = command(name, file)
    assert (result.code, result.out) == (1, "")
    assert result.err.count("\n") == 1
    assert "is a list of symbols" in result.err


def test_the_running_kernels_own_table_is_a_listing_too(command: Command) -> None:
    result = command("symbols", "/proc/kallsyms")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(
        "kallsift: /proc/kallsyms: is a list of symbols, which only 'lookup', 'symbolize' and 'diff' accept"
    )


def test_a_saved_listing_with_more_in_it(command: Command, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    text = "$ cat /proc/kallsyms\nffffffff81000000 T _text\nffffffff81000040 t init\n"
    saved.write_text(text)
    result = command("lookup", saved, "init")
    assert (result.code, result.out) == (0, "ffffffff81000040 t init\n")
    assert result.err.startswith(f"kallsift: warning: {saved}: skipped a line that is not a symbol (line 1: $ cat")
    saved.write_text(text + "ffffffff8100")
    result = command("lookup", saved, "init")
    assert (result.code, result.out) == (3, "ffffffff81000040 t init\n")
    assert "line 4: ffffffff8100" in result.err


def test_one_rule_for_what_is_escaped(command: Command, plant: Plant, tmp_path: Path) -> None:
    """Names print alike in all commands, and read back: in a listing, and as what one looks for."""
    rows = [*ROWS[:3], (0xFFFFFFFF9FA00010, "t", "a b\n\xe9\\\x7f\x1b"), *ROWS[4:]]
    plant(kernel(rows))
    line = "ffffffff9fa00010 t a\\x20b\\x0a\\xe9\\x5c\\x7f\\x1b\n"
    name = line.split()[2]
    assert line in command("symbols", "dump").out
    assert command("lookup", "dump", name).out == line
    assert command("lookup", "dump", "0xffffffff9fa00010").out == f"ffffffff9fa00010 {name}+0x0/0x30\n"
    saved = tmp_path / "saved"
    saved.write_text(command("symbols", "dump").out)
    assert command("diff", "dump", saved).code == 0
    assert command("lookup", saved, name).out == line
    saved.write_text(saved.read_text().replace(line, ""))
    assert command("diff", "dump", saved).out == f"- {line}"
