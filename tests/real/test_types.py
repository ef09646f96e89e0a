"""Types of real kernels and of their modules, every one against what bpftool prints of them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import kallsift
from kallsift.kernel.access.btf_blob import BtfError, Kind
from kallsift.types.module_types import modules_with_types
from kallsift.types.symbol_types import SYMBOL_TYPES
from kallsift.types.type import COMPOSITE, ENUMS, Type
from kallsift.types.types import Types
from tests.lab.tools import run
from tests.real.conftest import GUESTS, Taken
from tests.real.listed import running, text_only

UNNAMED = "(anon)"
SIZED = (Kind.INT, *COMPOSITE, *ENUMS, Kind.FLOAT)
MADE_OF = (
    Kind.PTR,
    Kind.TYPEDEF,
    Kind.VOLATILE,
    Kind.CONST,
    Kind.RESTRICT,
    Kind.FUNC,
    Kind.VAR,
    Kind.DECL_TAG,
    Kind.TYPE_TAG,
)


@cache
def types_in(dump: Path) -> Types:
    """The types of the kernel in a dump, found once for all tests."""
    try:
        return running(dump).types
    except BtfError as error:
        pytest.skip(str(error))


def printed(folder: Path, types: Types, base: Path | None = None) -> list[dict[str, Any]]:
    """What bpftool prints of types; of a module's, those of its own."""
    file = folder / "types"
    file.write_bytes(types.btf.blob.data.tobytes())
    options: list[str | Path] = ["-B", base] if base is not None else []
    out = run(["bpftool", "-j", *options, "btf", "dump", "file", file], timeout=600)
    found: list[dict[str, Any]] = json.loads(out)["types"]
    return found


def values_of(found: dict[str, Any]) -> dict[str, int]:
    """Enumerators as bpftool has them; those of 32 bits modulo 2^32, since it prints some of them with a sign."""
    width = 64 if found["kind"] == "ENUM64" else 32
    return {value["name"]: value["val"] % (1 << width) for value in found["values"]}


def differences(type_: Type, wanted: dict[str, Any]) -> list[str]:
    """What of a type is not as bpftool prints it."""
    kind = type_.kind
    same: dict[str, tuple[object, object]] = {
        "kind": (kind.name, wanted["kind"]),
        "name": (type_.name or UNNAMED, wanted.get("name", UNNAMED)),
    }
    if kind in SIZED:
        same["size"] = (type_.size, wanted["size"])
    if kind in MADE_OF:
        same["made of"] = (type_.target.number, wanted["type_id"])
    if kind is Kind.ARRAY:
        same["array"] = ((type_.target.number, type_.length), (wanted["type_id"], wanted["nr_elems"]))
    if kind in COMPOSITE:
        same["members"] = (
            [(member.name or UNNAMED, member.type.number, member.bit_offset, member.bits) for member in type_.members],
            [
                (member["name"], member["type_id"], member["bits_offset"], member.get("bitfield_size"))
                for member in wanted["members"]
            ],
        )
    if kind in ENUMS:
        width = 64 if kind is Kind.ENUM64 else 32
        same["values"] = (
            {name: value % (1 << width) for name, value in type_.enumerators.items()},
            values_of(wanted),
        )
    if kind is Kind.FUNC_PROTO:
        returns = type_.returns
        assert returns is not None
        same["returns"] = (returns.number, wanted["ret_type_id"])
        same["parameters"] = (
            [(each.name or UNNAMED, each.type.number) for each in type_.parameters],
            [(each["name"], each["type_id"]) for each in wanted["params"]],
        )
    if kind is Kind.DATASEC:
        same["variables"] = (
            type_.btf.records(type_.number).tolist(),
            [[each["type_id"], each["offset"], each["size"]] for each in wanted["vars"]],
        )
    return [f"{type_.number}: {what}: {own} != {theirs}" for what, (own, theirs) in same.items() if own != theirs]


def compared(types: Types, wanted: list[dict[str, Any]], first: int) -> None:
    assert [row["id"] for row in wanted] == list(range(first, len(types.btf)))
    wrong = [line for row in wanted for line in differences(Type(types.btf, row["id"]), row)]
    assert wrong[:5] == []


@pytest.mark.parametrize("guest", GUESTS)
def test_every_type_is_as_bpftool_prints_it(taken: Taken, tmp_path: Path, guest: str) -> None:
    types = types_in(taken(guest).dump("elf"))
    compared(types, printed(tmp_path, types), 1)


@pytest.mark.parametrize("guest", GUESTS)
def test_every_type_of_every_module(taken: Taken, tmp_path: Path, guest: str) -> None:
    types = types_in(taken(guest).dump("elf"))
    try:
        names = modules_with_types(types)
    except BtfError as error:
        pytest.skip(str(error))
    base = tmp_path / "vmlinux"
    base.write_bytes(types.btf.blob.data.tobytes())
    assert len(names) > 20
    for name in names:
        own = types.module(name)
        compared(own, printed(tmp_path, own, base), own.btf.first)


@pytest.mark.parametrize("guest", GUESTS)
def test_an_image_has_the_same_types(taken: Taken, guest: str) -> None:
    capture = taken(guest)
    types = types_in(capture.dump("elf"))
    with kallsift.open(capture.kernel_image) as memory:
        own = kallsift.recover(memory).types
    assert own.btf.blob.data.tobytes() == types.btf.blob.data.tobytes()


@pytest.mark.parametrize("guest", GUESTS)
def test_found_without_a_symbol(taken: Taken, guest: str) -> None:
    """As where the table lists text alone: by the header, and by the functions, which are the table's."""
    dump = taken(guest).dump("elf")
    types = types_in(dump)
    found = text_only(running(dump)).types
    assert found.source.startswith("0x")
    assert found.btf.blob.data.tobytes() == types.btf.blob.data.tobytes()


@pytest.mark.parametrize("guest", GUESTS)
def test_types_of_well_known_symbols(taken: Taken, guest: str) -> None:
    """The size rule holds for every entry that the kernel has, and what stands there is what the type says."""
    dump = taken(guest).dump("elf")
    kernel, types = running(dump), types_in(dump)
    if "init_task" not in kernel.symbols:
        pytest.skip("this kernel's table lists text alone")
    known = [name for name in SYMBOL_TYPES if name in kernel.symbols]
    lacking = [name for name in known if types.of_symbol(name) is None]
    assert len(known) > 60
    assert lacking == []
    task = types.of_symbol("init_task")
    assert task is not None
    place = kernel.symbols["init_task"].address
    assert kernel.read(place + task["comm"].offset, 8) == b"swapper/"
    function = types.of_symbol("vfs_read")
    assert function is not None
    assert [each.name for each in function.parameters] == ["file", "buf", "count", "pos"]


@pytest.mark.parametrize("guest", GUESTS)
def test_every_type_prints(taken: Taken, guest: str) -> None:
    types = types_in(taken(guest).dump("elf"))
    kinds = (*COMPOSITE, Kind.ENUM, Kind.TYPEDEF, Kind.FUNC)
    for kind in kinds:
        for number in types.btf.of_kind(kind).tolist()[::7]:
            assert Type(types.btf, number).c().endswith(";\n")
