"""``kallsift layout``: regions, addresses, the page table, and what the exit code says."""

from __future__ import annotations

import json

import pytest

from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols
from kallsift.cli.commands import layout as layout_command
from tests.cli.conftest import Command, Plant
from tests.kernel.made_up import DIRECT, IMAGE, MAPPED, PLACE, VMALLOC, WORDS, made_up


@pytest.fixture(autouse=True)
def no_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_command, "dynamic_symbols", lambda _: DynamicSymbols())


def test_regions(command: Command, plant: Plant) -> None:
    plant(made_up())
    result = command("layout", "dump")
    assert (result.code, result.err) == (0, "")
    names = [line.split("  proven")[1].split(":")[0].split()[0] for line in result.out.splitlines() if "proven" in line]
    assert names == ["direct", "vmalloc", "vmemmap", "kernel", "image", "text"]


def test_addresses(command: Command, plant: Plant) -> None:
    plant(made_up())
    asked = [IMAGE + 0x104, DIRECT + PLACE + 0x104, VMALLOC, 0xFFFF_8000_0000_0000]
    result = command("layout", "dump", *(f"{address:#x}" for address in asked))
    assert result.out.splitlines() == [
        f"{asked[0]:016x}\tkernel mapping > image > text\tphysical 1000104\t__x64_sys_0+0x4/0x100",
        f"{asked[1]:016x}\tdirect map\tphysical 1000104\talias of {asked[0]:016x} __x64_sys_0+0x4/0x100",
        f"{asked[2]:016x}\tvmalloc\tphysical 2000000\t-",
        f"{asked[3]:016x}\tin no region\tnot mapped\t-",
    ]
    assert result.code == 3
    assert command("layout", "dump", f"{IMAGE:#x}").code == 0


def test_page_table_and_json(command: Command, plant: Plant) -> None:
    plant(made_up())
    result = command("layout", "dump", "--page-table")
    assert [line.split("  ")[-1] for line in result.out.splitlines()] == [
        "direct map",
        "vmalloc",
        "vmemmap",
        "kernel mapping",
    ]
    (document,) = json.loads(command("layout", "dump", "--json").out)["kernels"]
    assert document["direct_map_offset"] == f"{DIRECT:#x}"
    (direct,) = (one for one in document["regions"] if one["name"] == "direct map")
    assert (direct["start"], direct["physical"], direct["outcome"]) == (f"{DIRECT:#x}", "0x0", "passed")


def test_what_contradicts_it_is_told_by_the_exit_code(command: Command, plant: Plant) -> None:
    plant(made_up({**WORDS, IMAGE + 0x1030: DIRECT - (1 << 30)}))
    result = command("layout", "dump")
    assert result.code == 3
    assert "  WRONG   direct map" in result.out
    plant(made_up(), made_up(mapped={**MAPPED, IMAGE: PLACE * 2}))
    assert command("layout", "dump", "--all").code == 3


def test_usage(command: Command, plant: Plant) -> None:
    plant(made_up())
    for arguments in (["--page-table", "--json"], ["--json", "0x1"], ["nonsense"]):
        assert command("layout", "dump", *arguments).code == 2
