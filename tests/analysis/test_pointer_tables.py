"""Tables of pointers in a kernel made by hand, and what is marked in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols, SymbolGroup
from kallsift.analysis.pointer_tables import pointer_tables
from kallsift.analysis.pointer_tables.pointer_tables import pointer_table
from kallsift.arch import arm64, x86
from kallsift.errors import KallsiftError
from kallsift.kernel.kernel import State
from kallsift.memory.memory import ImageFacts
from kallsift.output.text.pointer_tables import table_lines
from tests.kernel.made_up import DIRECT, FUNCTIONS, IMAGE, TABLE, VMALLOC, WORDS, made_up
from tests.output.sample import table

MODULES = DynamicSymbols(
    (SymbolGroup("ev\x1bil", table([(VMALLOC + 0x100, "t", "hook"), (VMALLOC + 0x200, "t", "end")])),)
)


def test_a_table_of_the_kernels_own() -> None:
    found = pointer_table(made_up(), "sys_call_table")
    assert found.clean
    assert [entry.target for entry in found.entries] == list(FUNCTIONS)
    assert list(table_lines(found, 8))[1] == f"  1 {TABLE + 8:016x} {FUNCTIONS[1]:016x} __x64_sys_1+0x0/0x100"


@pytest.mark.parametrize(
    ("target", "symbol", "fault"),
    [
        (VMALLOC + 0x104, "hook+0x4/0x100 [ev\\x1bil]", "in a module"),
        (VMALLOC + 0x300, None, "in memory that belongs to no listed module"),
        (DIRECT + 0x300, None, "in memory that belongs to no listed module"),
        (0x1234, None, "not mapped"),
        (FUNCTIONS[2] + 4, "__x64_sys_2+0x4/0x100", "not at the beginning of a function"),
        (IMAGE + 0x1030, "page_offset_base+0x0/0x8", "outside of the kernel's text"),
        (0, None, ""),
    ],
)
def test_entries_that_lead_elsewhere(
    monkeypatch: pytest.MonkeyPatch, target: int, symbol: str | None, fault: str
) -> None:
    monkeypatch.setattr(pointer_tables, "dynamic_symbols", lambda _: MODULES)
    found = pointer_table(made_up({**WORDS, TABLE + 8: target}), "sys_call_table")
    entry = found.entries[1]
    assert (entry.target, entry.symbol, entry.fault) == (target, symbol, fault)
    assert found.clean is (not fault)
    assert [one.fault for one in found.entries if one.number != 1] == [""] * 3
    assert list(table_lines(found, 8))[1].startswith("!" if fault else " ")


def test_what_cannot_be_read_of_modules_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pointer_tables, "dynamic_symbols", lambda _: DynamicSymbols((), ("modules: gone",)))
    assert pointer_table(made_up({**WORDS, TABLE: 1}), "sys_call_table").missing == ("modules: gone",)


def test_tables_that_cannot_be() -> None:
    kernel = made_up()
    for name, why in (
        ("nosuch", "no symbol called"),
        ("_end", "end of _end is unknown"),
        ("idt_table", "nor a register"),
    ):
        with pytest.raises(KallsiftError, match=why):
            pointer_table(kernel, name)
    with pytest.raises(KallsiftError, match="__x64_sys_1 is code, not a table"):
        pointer_table(kernel, "__x64_sys_1")
    with pytest.raises(KallsiftError, match="cannot be read"):
        pointer_table(made_up(mapped={DIRECT: 0}), "sys_call_table")
    image = replace(kernel, state=State.IMAGE, memory=replace(kernel.memory, image=ImageFacts(("vmlinux",), 0)))
    with pytest.raises(KallsiftError, match="image"):
        pointer_table(image, "sys_call_table")


def test_gates() -> None:
    """Two gates by the manual: offset in three parts, the kind with its present bit; the second is absent."""
    address = 0xFFFF_FFFF_8123_4567
    gate = bytes.fromhex("6745 1000 008e 2381 ffffffff 00000000".replace(" ", ""))
    absent = gate[:5] + b"\x0e" + gate[6:]
    present, targets = x86.gates(np.frombuffer(gate + absent, np.uint8), 8)
    assert (present.tolist(), int(targets[0])) == ([True, False], address)
    assert x86.handlers(np.frombuffer(gate + absent, np.uint8), 8).tolist() == [address]


def test_branches_of_vectors() -> None:
    """A branch inside of the vectors counts for nothing; the first that leaves them does, forwards and backwards."""
    start, code = 0xFFFF_8000_0801_0800, np.zeros(arm64.VECTORS_SIZE // 4, "<u4")
    code[1] = 0x1400_0001
    code[2] = 0x1400_0000 | 0x1000
    code[3] = 0x1400_0000 | 0x2000
    code[32] = 0x1400_0000 | (1 << 26) - 0x400
    places, targets = arm64.vector_branches(code.view(np.uint8), start)
    assert places.tolist() == [start + 0x80 * number for number in range(16)]
    assert targets.tolist()[:3] == [start + 8 + 4 * 0x1000, start + 0x80 - 4 * 0x400, 0]
