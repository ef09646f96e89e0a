"""Modules as files: what is read of them, packed or not, as binutils read it; and of files that are broken."""

from __future__ import annotations

import gzip
import lzma
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kallsift.modules.insmod.ko_file import ModuleFileError, open_module, read_module
from kallsift.output.text.insmod_check import symbol_lines
from tests.components import needs
from tests.examples import examples
from tests.modules.module_builder import COMMON, GLOBAL, LOCAL, TEXT, UNDEFINED, WEAK, Built

KINDS = [("x86-64", 64, "<"), ("x86", 32, "<"), ("s390x", 64, ">"), ("ppc", 32, ">")]


def built(machine: str = "x86-64", bits: int = 64, order: str = "<", signature: bytes | None = None) -> Built:
    return Built(
        machine,
        bits,
        order,
        symbols=[
            ("here", LOCAL, TEXT),
            ("__ksymtab_mine", LOCAL, TEXT),
            ("there", GLOBAL, UNDEFINED),
            ("perhaps", WEAK, UNDEFINED),
            ("shared", GLOBAL, COMMON),
        ],
        information={"license": "GPL", "name": "made", "import_ns": ["ONE", "TWO"], "vermagic": "6.1 SMP "},
        versions={"module_layout": 0x12345678, "there": 0x9ABCDEF0},
        extended={"there": 0x9ABCDEF0, "a" * 300: 1},
        signature=signature,
    )


@pytest.mark.parametrize(("machine", "bits", "order"), KINDS)
@pytest.mark.parametrize("signature", [None, b"signed" * 20])
def test_everything_is_read(machine: str, bits: int, order: str, signature: bytes | None) -> None:
    module = read_module(built(machine, bits, order, signature).data())
    assert (module.elf.architecture, module.elf.bits, module.elf.byte_order) == (machine, bits, order)
    assert module.elf.relocatable
    assert [(one.name, one.bind, one.section) for one in module.elf.symbols[1:]] == [
        ("here", "LOCAL", ".text"),
        ("__ksymtab_mine", "LOCAL", ".text"),
        ("there", "GLOBAL", "UND"),
        ("perhaps", "WEAK", "UND"),
        ("shared", "GLOBAL", "COM"),
    ]
    assert module.exported == ["mine"]
    assert module.value("license") == "GPL"
    assert module.values("import_ns") == ["ONE", "TWO"]
    assert module.value("version") is None
    assert module.versions == {"module_layout": 0x12345678, "there": 0x9ABCDEF0}
    assert module.extended_versions is not None
    assert module.extended_versions["a" * 300] == 1
    assert module.signature == signature


@pytest.mark.parametrize(("machine", "bits", "order"), KINDS)
def test_readelf_says_the_same(machine: str, bits: int, order: str, tmp_path: Path) -> None:
    needs("readelf", package="binutils")
    (file := tmp_path / "made.ko").write_bytes(built(machine, bits, order).data())
    done = subprocess.run(["readelf", "-sW", file], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    theirs = [line.split() for line in done.stdout.splitlines() if line.strip()[:1].isdigit()]
    ours = [line.split() for line in symbol_lines(open_module(file))][1:]
    assert [row[:6] + row[7:] for row in ours] == [row[:6] + row[7:] for row in theirs]


@pytest.mark.parametrize("pack", [bytes, lzma.compress, gzip.compress])
def test_packed_files(pack: object, tmp_path: Path) -> None:
    data = built().data()
    (file := tmp_path / "made.ko.packed").write_bytes(pack(data))  # type: ignore[operator]
    assert open_module(file).value("name") == "made"
    packed = file.read_bytes()
    if packed != data:
        file.write_bytes(packed[: len(packed) // 2])
        with pytest.raises(ModuleFileError, match="cut short"):
            open_module(file)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not an ELF"),
        (b"#!/bin/sh\n", "not an ELF"),
        (b"\x7fELF", "broken"),
        (built().data()[:400], "broken"),
        (b"x" * 30 + b"\xff\xff\xff\xff" + b"~Module signature appended~\n", "longer than the file"),
        (b"~Module signature appended~\n", "longer than the file"),
    ],
)
def test_what_is_no_module(data: bytes, reason: str) -> None:
    with pytest.raises(ModuleFileError, match=reason):
        read_module(data)


@settings(max_examples=examples(300))
@given(st.data())
def test_whatever_a_file_holds(data: st.DataObject) -> None:
    machine, bits, order = data.draw(st.sampled_from(KINDS))
    content = bytearray(built(machine, bits, order, data.draw(st.sampled_from([None, b"s"]))).data())
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(content) - 1))
        value = data.draw(st.binary(min_size=1, max_size=8))
        content[place : place + len(value)] = value
    with suppress(ModuleFileError):
        list(symbol_lines(read_module(bytes(content[: data.draw(st.integers(0, len(content)))]))))
        list(symbol_lines(read_module(bytes(content))))
