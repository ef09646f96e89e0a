"""Symbol files for Volatility of real kernels: every structure is as BTF has it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kallsift.kernel.access.btf_blob import BtfError, Kind
from kallsift.output.isf.writer import Producer, symbol_file
from kallsift.types.type import COMPOSITE, Type
from kallsift.types.types import Types
from tests.real.conftest import GUESTS, Taken
from tests.real.listed import running


def size_of(described: dict[str, Any], document: dict[str, Any], word: int) -> int:
    """The size of what a symbol file describes."""
    match described["kind"]:
        case "array":
            return int(described["count"]) * size_of(described["subtype"], document, word)
        case "base":
            return int(document["base_types"][described["name"]]["size"])
        case "struct" | "union":
            return int(document["user_types"][described["name"]]["size"])
        case "enum":
            return int(document["enums"][described["name"]]["size"])
        case "pointer":
            return word
    return 0


def fields_of(type_: Type, document: dict[str, Any]) -> list[tuple[str, int, int]]:
    """Name, offset and size of each member with a name that is no bit field."""
    entry, word = document["user_types"][type_.name], type_.btf.word_size
    return [
        (name, field["offset"], size_of(field["type"], document, word))
        for name, field in entry["fields"].items()
        if field["type"]["kind"] != "bitfield" and "anonymous" not in field
    ]


def document_of(types: Types) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(b"".join(symbol_file(types, (), Producer("kallsift", "0.0.0"))))
    return found


@pytest.mark.parametrize("guest", GUESTS)
def test_every_structure_is_as_btf_has_it(taken: Taken, guest: str) -> None:
    try:
        types = running(taken(guest).dump("elf")).types
    except BtfError as error:
        pytest.skip(str(error))
    if types.kernel.kaslr_slide is None:
        pytest.skip("nothing tells this kernel's KASLR slide")
    document = document_of(types)
    btf = types.btf
    names = {btf.name(number) for kind in COMPOSITE for number in btf.of_kind(kind).tolist()} - {""}
    assert len(names) > 5000
    for name in names:
        type_ = next(each for each in types.all(name) if each.kind in COMPOSITE)
        entry = document["user_types"][name]
        assert (entry["kind"], entry["size"]) == (type_.kind.name.lower(), type_.size), name
        wanted = [
            (member.name, member.offset, member.type.size)
            for member in type_.members
            if member.bits is None and member.name
        ]
        assert fields_of(type_, document) == wanted, name
    for number in btf.of_kind(Kind.ENUM).tolist():
        if name := btf.name(number):
            assert document["enums"][name]["size"] == types[f"enum {name}"].size


@pytest.mark.parametrize("guest", GUESTS)
def test_symbols_are_those_of_system_map(taken: Taken, guest: str) -> None:
    kernel = running(taken(guest).dump("elf"))
    try:
        types = kernel.types
    except BtfError as error:
        pytest.skip(str(error))
    if kernel.kaslr_slide is None:
        pytest.skip("nothing tells this kernel's KASLR slide")
    found = document_of(types)["symbols"]
    for name in ("_text", "_stext", "init_task", "modules"):
        if name in kernel.symbols:
            assert found[name]["address"] == kernel.symbols[name].address - kernel.kaslr_slide
    assert set(kernel.symbols.names()) - found.keys() <= {"taint_flags"}
