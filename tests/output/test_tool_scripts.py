"""Symbols for debuggers and disassemblers: each program's own reader gets them all, and no name becomes code."""

from __future__ import annotations

import atexit
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols, SymbolGroup
from kallsift.kallsyms.escapes import unescaped
from kallsift.output.elf.symbol_table import symbol_elf
from kallsift.output.symbols.embedded import gdb_script, ida_script
from kallsift.output.symbols.name_lists import ghidra_list, located, radare2_script
from tests.output.sample import ROWS, Row, kernel, table

TEXT = 0xFFFFFFFF9FA00000

HOSTILE = (
    "a b",
    "x\nimport os",
    "q; !touch /tmp/hurt",
    "`id`",
    '"""))\nraise SystemExit',
    "'\\x41|>@~#$(){}",
    "\x1b[2J",
    "\xff\x80",
)
"""Names that would do something where they are not taken for names."""

HOSTILE_ROWS: tuple[Row, ...] = (*ROWS[:-1], *((TEXT + 0x300, "t", name) for name in HOSTILE), ROWS[-1])

MODULE = DynamicSymbols((SymbolGroup("xfs", table([(0xFFFFFFFFC0100000, "t", "xfs_read")])),))


def text_of(chunks: Iterable[bytes | memoryview]) -> str:
    return b"".join(chunks).decode("ascii")


def test_ghidra_reads_each_line_as_three_words() -> None:
    lines = text_of(ghidra_list(kernel(HOSTILE_ROWS), MODULE)).splitlines()
    found = [
        (unescaped(name.encode()).decode("latin-1"), int(address, 16), kind)
        for name, address, kind in map(str.split, lines)
    ]
    code = "TtWw"
    wanted = [(name, address, "f" if letter in code else "l") for address, letter, name in HOSTILE_ROWS]
    assert found == [*wanted, ("xfs_read", 0xFFFFFFFFC0100000, "f")]
    assert all(line.split()[1].startswith("0x") for line in lines)


def test_radare2_gets_flags_and_no_other_command() -> None:
    first, *lines = text_of(radare2_script(kernel(HOSTILE_ROWS), MODULE)).splitlines()
    assert first == "fs symbols"
    assert len(lines) == len(HOSTILE_ROWS) + 1
    for line in lines:
        assert re.fullmatch(r"f sym\.[A-Za-z0-9_.]+ = 0x[0-9a-f]{16}", line), line
    assert lines[-1] == "f sym.xfs_read = 0xffffffffc0100000"
    assert f"f sym.q_x3b_x20_x21touch_x20_x2ftmp_x2fhurt = {TEXT + 0x300:#x}" in lines


def test_symbols_without_name_or_address_are_left_out() -> None:
    rows = located(table([(0x10, "T", "one"), (0x20, "T", "two")]))
    assert rows.names() == ["one", "two"]
    assert len(located(table([(0x10, "T", "one"), (0x20, "", "")]))) == 1


def symbols_of(file: ELFFile) -> SymbolTableSection:
    section = file.get_section_by_name(".symtab")
    assert isinstance(section, SymbolTableSection)
    return section


def run_script(script: str, **modules: object) -> None:
    """Run a script in Python with made-up modules of the program that it is for."""
    before = {name: sys.modules.get(name) for name in modules}
    try:
        for name, module in modules.items():
            sys.modules[name] = module  # type: ignore[assignment]
        exec(compile(script, "script", "exec"), {})
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def test_ida_names_each_address() -> None:
    named: list[tuple[int, str]] = []
    module = ModuleType("ida_name")
    module.__dict__.update(SN_NOWARN=1, SN_NOCHECK=2, SN_FORCE=4)
    module.__dict__["set_name"] = lambda address, name, flags: named.append((address, name))
    run_script(text_of(ida_script(kernel(HOSTILE_ROWS), MODULE)), ida_name=module)
    assert [(address, unescaped(name.encode()).decode("latin-1")) for address, name in named] == [
        *((address, name) for address, _, name in HOSTILE_ROWS),
        (0xFFFFFFFFC0100000, "xfs_read"),
    ]


def test_gdb_gets_an_elf_file_of_symbols() -> None:
    commands: list[str] = []
    run_script(text_of(gdb_script(kernel(HOSTILE_ROWS), MODULE)), gdb=SimpleNamespace(execute=commands.append))
    (command,) = commands
    file = Path(command.removeprefix("with confirm off -- add-symbol-file "))
    atexit.unregister(os.unlink)
    assert re.fullmatch(r"[\w/.-]+\.elf", str(file))
    found = ELFFile(io.BytesIO(file.read_bytes()))
    file.unlink()
    assert found["e_machine"] == "EM_X86_64"
    symbols = list(symbols_of(found).iter_symbols())[1:]
    names = {each.name.encode("utf-8", "surrogateescape") for each in symbols}
    assert len(symbols) == len(HOSTILE_ROWS) + 1
    assert {b"_stext", b"xfs_read", b"x\nimport os"} <= names


@pytest.mark.parametrize(("word_size", "order"), [(8, "<"), (8, ">"), (4, "<"), (4, ">")])
def test_elf_files_of_all_words_and_orders(word_size: int, order: str) -> None:
    rows = (
        (0x8000, "T", "_text"),
        (0x8100, "t", "init"),
        (0x9000, "T", "_etext"),
        (0x9100, "D", "data"),
        (0xA000, "B", "_end"),
    )
    made = kernel(rows, word_size, byte_order=order, architecture="arm" if word_size == 4 else "arm64")
    file = ELFFile(io.BytesIO(symbol_elf(made, [made.symbols])))
    assert (file.elfclass, file.little_endian) == (8 * word_size, order == "<")
    section = symbols_of(file)
    found = {each.name: each for each in section.iter_symbols()}
    assert {name: each["st_value"] for name, each in found.items() if name} == {name: at for at, _, name in rows}
    assert (found["init"]["st_info"]["bind"], found["_text"]["st_info"]["bind"]) == ("STB_LOCAL", "STB_GLOBAL")
    assert (found["init"]["st_shndx"], found["data"]["st_shndx"]) == (1, 2)
    assert section["sh_info"] == 2


@pytest.mark.parametrize("bounds", [("_stext", "_etext"), ("_stext",), ("_etext",), ()])
def test_an_image_whose_end_no_symbol_tells(bounds: tuple[str, ...]) -> None:
    """As of kernels that list text only; no size of a section is negative."""
    listed = ((0x8000, "T", "_stext"), (0x8100, "t", "init"), (0x9000, "T", "_etext"))
    rows = tuple(row for row in listed if row[2] in ("init", *bounds))
    made = kernel(rows, 4, architecture="x86")
    file = ELFFile(io.BytesIO(symbol_elf(made, [made.symbols])))
    found = {each.name: each["st_value"] for each in symbols_of(file).iter_symbols() if each.name}
    assert found == {name: at for at, _, name in rows}
    sizes = {section.name: section["sh_size"] for section in file.iter_sections()}
    assert sizes[".text"] == (0x1000 if len(bounds) == 2 else 0x9000 if "_etext" in bounds else 0)
    assert sizes[".data"] == 0


@pytest.mark.skipif(shutil.which("gdb-multiarch") is None, reason="gdb-multiarch is not installed")
def test_gdb_itself_knows_the_symbols(tmp_path: Path) -> None:
    script = tmp_path / "kernel.py"
    rows = (*HOSTILE_ROWS[:-1], (TEXT + 0x1000, "T", "_etext"), (TEXT + 0x1010, "D", "init_task"), HOSTILE_ROWS[-1])
    script.write_text(text_of(gdb_script(kernel(rows), MODULE)))
    ask = ["p &init_task", f"info symbol {TEXT + 0x220:#x}", "info symbol 0xffffffffc0100000"]
    options = [word for command in (f"source {script}", *ask) for word in ("-ex", command)]
    run = subprocess.run(["gdb-multiarch", "-nx", "-batch", *options], capture_output=True, text=True, timeout=100)
    assert "0xffffffff9fa01010" in run.stdout, run.stderr
    assert "a_rather_long_name_that_takes_more_than_a_few_lanes_to_copy + 32 in section .text" in run.stdout
    assert "xfs_read in section .modules" in run.stdout
    assert "rror" not in run.stderr
