"""Every format must read back to the table that was written."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kallsift.addresses import PhysicalAddress, VirtualAddress
from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols, SymbolGroup
from kallsift.analysis.listings import text as listing_text
from kallsift.errors import KallsiftError
from kallsift.kernel.kernel import Kernel, TableLocation
from kallsift.output.symbols.formats import FORMATS
from kallsift.output.symbols.json_writer import document
from tests.output.sample import ROWS, SLIDE, Row, kernel, memory, table, unproven
from tests.output.symbol_names import NASTY, PLAIN, TYPES, escaped

TABLES = st.lists(st.tuples(st.integers(0, 2**64 - 1), TYPES, PLAIN | NASTY), max_size=20)


def written(form: str, own: Kernel, dynamic: DynamicSymbols | None = None) -> bytes:
    """A kernel's symbols in a format."""
    return b"".join(FORMATS[form].write(memory(), [(own, dynamic)]))


@given(TABLES)
def test_json_reads_back(rows: list[Row]) -> None:
    (found,) = json.loads(written("json", kernel(rows)))["kernels"]
    assert [(int(s["address"], 16), s["type"], s["name"]) for s in found["symbols"]] == rows
    assert found["kaslr_slide"] == hex(SLIDE)
    assert found["symbol_count"] == len(rows)


@given(st.lists(TABLES, max_size=3))
def test_json_of_several_kernels_reads_back(tables: list[list[Row]]) -> None:
    chunks = FORMATS["json"].write(memory(), [(kernel(rows), None) for rows in tables])
    found = json.loads(b"".join(chunks))
    names = [[symbol["name"] for symbol in one["symbols"]] for one in found["kernels"]]
    assert names == [[name for _, _, name in rows] for rows in tables]


@given(TABLES)
def test_csv_reads_back(rows: list[Row]) -> None:
    text = written("csv", kernel(rows)).decode("ascii")
    header, *records = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert header == ["address", "type", "name", "module"]
    assert records == [[f"0x{address:016x}", kind, guarded(escaped(name)), ""] for address, kind, name in rows]


def guarded(name: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return f"'{name}" if name[:1] in tuple("=+-@'") else name


def test_csv_holds_no_formulas() -> None:
    names = ["=1+1", "@SUM(A1)", "+1", "-1", "'quoted", '"=1', "plain", "a=b", "\t=1"]
    dynamic = DynamicSymbols((SymbolGroup("=cmd", table([(1, "t", "@x"), (2, "t", "y")])),))
    text = written("csv", kernel([(0, "t", name) for name in names]), dynamic).decode("ascii")
    records = list(csv.reader(io.StringIO(text, newline=""), strict=True))[1:]
    assert [record[2] for record in records] == [
        *("'=1+1", "'@SUM(A1)", "'+1", "'-1", "''quoted", '"=1', "plain", "a=b", "\\x09=1"),
        *("'@x", "y"),
    ]
    assert [record[3] for record in records[-2:]] == ["'=cmd", "'=cmd"]


@given(st.lists(st.tuples(st.integers(1, 2**64 - 1), TYPES, NASTY.filter(bool)), min_size=1, max_size=20), NASTY)
def test_what_was_written_is_read_as_it_was(rows: list[Row], owner: str) -> None:
    """Whatever names a kernel has: a listing of it does not differ from itself."""
    rows = sorted((row for row in rows if row[1:] != ("?", "?")), key=lambda row: row[0])
    own, dynamic = kernel(rows), DynamicSymbols((SymbolGroup(owner, table([(5, "t", "plain"), *rows])),))
    text = written("kallsyms", own, dynamic)
    found = listing_text.read("text", np.frombuffer(text, np.uint8))
    assert (found.notes, found.missing) == ((), ())
    assert list(found.symbols) == list(own.symbols)
    (group,) = found.dynamic.groups
    assert (group.owner, list(group.symbols)) == (owner, list(dynamic.groups[0].symbols))


def test_symbols_of_modules_follow_with_their_owner() -> None:
    module = kernel([(0xFFFFFFFFC0001000, "t", "init")]).symbols
    dynamic = DynamicSymbols((SymbolGroup('na"me\x1b', module),), ("BPF programs: unreadable",))
    (found,) = json.loads(written("json", kernel(), dynamic))["kernels"]
    assert found["missing"] == ["BPF programs: unreadable"]
    assert [symbol.get("module") for symbol in found["symbols"]] == [None] * len(ROWS) + ['na"me\x1b']
    text = written("csv", kernel(), dynamic).decode("ascii")
    assert list(csv.reader(io.StringIO(text, newline=""), strict=True))[-1][2:] == ["init", 'na"me\\x1b']
    lines = written("kallsyms", kernel(), dynamic).splitlines()
    assert lines[-1] == b'ffffffffc0001000 t init\t[na"me\\x1b]'


def test_only_json_holds_several_kernels() -> None:
    assert [name for name, form in FORMATS.items() if form.several] == ["json"]


def test_system_map_moves_the_kernel_half_only() -> None:
    lines = written("system.map", kernel()).decode().splitlines()
    moved = [address - SLIDE if address >> 63 else address for address, _, _ in ROWS]
    assert lines == [f"{address:016x} {t} {n}" for address, (_, t, n) in zip(moved, ROWS, strict=True)]


def table_at(address: int) -> TableLocation:
    """A table at a virtual address."""
    return TableLocation("names", PhysicalAddress(0x100000), VirtualAddress(address), 16)


def test_system_map_of_a_kernel_that_slid_down() -> None:
    rows = [(0xFFFF800008000000, "T", "_text")]
    slid = kernel(rows, kaslr_slide=-0x10000, tables=(table_at(0xFFFF800008100000),))
    text = written("system.map", slid)
    assert text == b"ffff800008010000 T _text\n"


def test_system_map_of_32_bit() -> None:
    rows = [(0x1000, "A", "absolute"), (0xC1800000, "T", "_text")]
    slid = kernel(rows, 4, kaslr_slide=0x800000, tables=(table_at(0xC1900000),))
    text = written("system.map", slid)
    assert text == b"00001000 A absolute\nc1000000 T _text\n"


def test_system_map_without_a_slide_is_refused_before_anything_is_written() -> None:
    with pytest.raises(KallsiftError, match="slide is unknown"):
        FORMATS["system.map"].write(memory(), [(unproven(), None)])


def test_info_json_is_complete() -> None:
    text = document("info", memory("a\udc80b", notes=("cut short",)), [(kernel(), {}), (unproven(), {"more": 1})])
    found = json.loads(text)
    proven, stale = found["kernels"]
    assert found["container"] == "raw"
    assert found["notes"] == ["cut short"]
    assert proven["proven"] is True
    assert proven["virtual_base"] == "0xffffffff9fa00000"
    assert proven["tables"] == [
        {"name": "names", "physical": "0x73d0f44", "virtual": "0xffffffffa0fd0f44", "size": 2943356}
    ]
    assert proven["evidence"][1]["outcome"] == "absent"
    assert (stale["proven"], stale["state"], stale["kaslr_slide"], stale["more"]) == (False, "stale copy", None, 1)


def test_the_sample_is_a_table() -> None:
    assert [(symbol.address, symbol.type, symbol.name) for symbol in table(ROWS)] == list(ROWS)
