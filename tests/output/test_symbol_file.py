"""Symbol files for Volatility: sizes and offsets are BTF's, each name is there once, and hostile types end."""

from __future__ import annotations

import json
import lzma
import time
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kallsift.errors import KallsiftError
from kallsift.kernel.access.btf_blob import BtfBlob, Kind
from kallsift.kernel.access.virtual_memory import virtual_memory
from kallsift.output.isf import writer
from kallsift.output.isf.writer import Producer, packed, symbol_file
from kallsift.types.btf import Btf
from kallsift.types.find import kernel_types
from kallsift.types.module_types import loaded_types
from kallsift.types.types import Types
from tests.kernel.made_types import MadeTypes
from tests.kernel.made_up import IMAGE, ROWS, made_up
from tests.output.sample import SLIDE
from tests.types.typed_kernel import TASK, typed_kernel, types_of

PRODUCER = Producer("kallsift", "1.2.3")


def written(types: Types, *modules: tuple[str, Types]) -> dict[str, Any]:
    """What a symbol file has, by its five parts."""
    found: dict[str, Any] = json.loads(b"".join(symbol_file(types, modules, PRODUCER)))
    assert list(found) == ["metadata", "base_types", "user_types", "enums", "symbols"]
    return found


def of_kernel() -> Types:
    kernel = typed_kernel()
    return kernel_types(kernel, virtual_memory(kernel))


def made(add: Callable[[MadeTypes], object]) -> dict[str, Any]:
    types = MadeTypes()
    add(types)
    return written(types_of(types))


def test_structures_are_as_btf_has_them() -> None:
    types = of_kernel()
    found = written(types)["user_types"]
    for name in ("task_struct", "list_head", "module", "btf"):
        type_ = types[name]
        assert (found[name]["kind"], found[name]["size"]) == ("struct", type_.size)
        offsets = {key: field["offset"] for key, field in found[name]["fields"].items() if "anonymous" not in field}
        assert offsets == {member.name: member.offset for member in type_.members if member.name}
    links = found["list_head"]["fields"]["next"]["type"]
    assert links == {"kind": "pointer", "subtype": {"kind": "struct", "name": "list_head"}}
    comm = found["task_struct"]["fields"]["comm"]["type"]
    assert comm == {"kind": "array", "count": 8, "subtype": {"kind": "base", "name": "char"}}
    call = found["operations"]["fields"]["call"]["type"]
    assert call == {"kind": "pointer", "subtype": {"kind": "function"}}


def test_members_without_a_name_lead_to_their_type() -> None:
    found = written(of_kernel())["user_types"]
    (unnamed,) = (field for field in found["task_struct"]["fields"].values() if field.get("anonymous"))
    assert unnamed["offset"] == 8
    either = found[unnamed["type"]["name"]]
    assert (unnamed["type"]["kind"], either["kind"], either["size"]) == ("union", "union", 8)
    (inner,) = (field for field in either["fields"].values() if field.get("anonymous"))
    assert list(found[inner["type"]["name"]]["fields"]) == ["low", "high"]


def test_bit_fields_lie_in_aligned_units() -> None:
    fields = written(of_kernel())["user_types"]["flags"]["fields"]
    places = {name: (f["offset"], f["type"]["bit_position"], f["type"]["bit_length"]) for name, f in fields.items()}
    assert places == {"one": (0, 0, 1), "three": (0, 1, 3), "rest": (4, 0, 28)}
    assert fields["one"]["type"]["type"] == {"kind": "base", "name": "int"}


def test_bit_fields_of_packed_and_of_big_endian_structures() -> None:
    types = MadeTypes()
    types.fields("packed", 8, [("across", types.integer("unsigned int", 4), 28, 8), ("low", 1, 33, 2)])
    found = types_of(types)
    across = written(found)["user_types"]["packed"]["fields"]["across"]
    assert (across["offset"], across["type"]["bit_position"]) == (3, 4)
    big = replace(found, kernel=replace(found.kernel, byte_order=">"))
    document = written(big)
    low = document["user_types"]["packed"]["fields"]["low"]
    assert (low["offset"], low["type"]["bit_position"]) == (4, 32 - 1 - 2)
    assert document["base_types"]["unsigned int"]["endian"] == "big"


def test_numbers_have_the_names_of_dwarf() -> None:
    def add(types: MadeTypes) -> None:
        long, flag = types.integer("unsigned long", 8), types.integer("_Bool", 1)
        wide, huge = types.integer("__int128", 16, signed=True), types.integer("pointer", 8)
        types.struct("some", 64, [("a", long, 0), ("b", flag, 8), ("c", wide, 16), ("d", huge, 32)])

    found = made(add)
    names = {name: field["type"]["name"] for name, field in found["user_types"]["some"]["fields"].items()}
    assert names == {"a": "long unsigned int", "b": "_Bool", "c": "__int128", "d": "void"}
    numbers = found["base_types"]
    assert numbers["long unsigned int"] == {"size": 8, "signed": False, "kind": "int", "endian": "little"}
    assert (numbers["_Bool"]["kind"], numbers["char"]["kind"], numbers["void"]["size"]) == ("bool", "char", 0)
    assert numbers["pointer"] == {"size": 8, "signed": False, "kind": "int", "endian": "little"}


def test_enumerations() -> None:
    found = made(
        lambda types: [
            types.enum("error", {"NONE": -1, "SOME": 1}, flag=True),
            types.add(Kind.ENUM64, "wide", 8, types.name("TOP"), 5, 0x8000_0000, count=1),
        ]
    )["enums"]
    assert found["error"] == {"size": 4, "base": "int", "constants": {"NONE": -1, "SOME": 1}}
    assert found["wide"] == {"size": 8, "base": "long unsigned int", "constants": {"TOP": (1 << 63) + 5}}


def test_of_several_types_of_a_name_that_with_most_members_has_it() -> None:
    def add(types: MadeTypes) -> None:
        number = types.integer("int", 4)
        few = types.struct("node", 4, [("one", number, 0)])
        types.struct("node", 8, [("one", number, 0), ("two", number, 4)])
        types.struct("holder", 4, [("node", few, 0)])

    found = made(add)["user_types"]
    assert found["node"]["size"] == 8
    other = found["holder"]["fields"]["node"]["type"]["name"]
    assert (other != "node", found[other]["size"]) == (True, 4)


def test_a_type_without_a_name_has_that_of_its_first_typedef() -> None:
    def add(types: MadeTypes) -> None:
        number = types.integer("int", 4)
        unnamed = types.struct("", 4, [("value", number, 0)])
        types.add(Kind.TYPEDEF, "kernel_cap_t", unnamed)
        types.add(Kind.TYPEDEF, "other_t", unnamed)
        named = types.struct("pid", 8, [("nr", number, 0)])
        types.add(Kind.TYPEDEF, "pid_t", named)
        hidden = types.struct("", 2, [])
        types.add(Kind.TYPEDEF, "pid", hidden)

    found = made(add)["user_types"]
    assert set(found) >= {"kernel_cap_t", "pid"}
    assert not {"other_t", "pid_t"} & set(found)
    assert found["pid"]["size"] == 8, "a type that has a name keeps it"


def test_types_of_modules() -> None:
    types = of_kernel()
    own = types.module("made")
    found = written(types, ("made", own))["user_types"]
    assert found["module_private"]["size"] == 24
    assert found["module_private"]["fields"]["links"]["type"] == {"kind": "struct", "name": "list_head"}
    loaded, errors = loaded_types(types)
    assert ([name for name, _ in loaded], errors) == (["made"], [])
    twice = written(types, ("made", own), ("again", own))["user_types"]
    assert sum(name.startswith("module_private") for name in twice) == 2


def test_a_forward_declaration_means_the_type_of_its_name() -> None:
    """Also that of a module; without one, nothing is known of it."""
    kernel = MadeTypes()
    kernel.struct("holder", 16, [("a", 2, 0), ("b", 4, 8)])
    kernel.pointer(3)
    kernel.add(Kind.FWD, "late", 0)
    kernel.pointer(5)
    kernel.add(Kind.FWD, "never", 0)
    module = MadeTypes(kernel)
    module.struct("late", 4, [])
    types = types_of(kernel)
    loaded = replace(types, btf=Btf(module.blob(), 8, types.btf))
    found = written(types, ("made", loaded))["user_types"]
    subtypes = [field["type"]["subtype"] for field in found["holder"]["fields"].values()]
    assert subtypes == [{"kind": "struct", "name": "late"}, {"kind": "base", "name": "void"}]
    assert "never" not in found


def test_symbols_have_link_addresses_and_types() -> None:
    found = written(of_kernel())["symbols"]
    assert found["init_task"] == {"type": {"kind": "struct", "name": "task_struct"}, "address": TASK - SLIDE}
    assert found["runqueues"]["type"] == {"kind": "struct", "name": "rq"}
    assert found["modules"]["type"] == {"kind": "struct", "name": "list_head"}
    assert found["_end"]["type"] == {"kind": "base", "name": "void"}
    assert found["kallsyms_names"]["address"] == IMAGE + 0x2000 - SLIDE


def test_the_banner_is_as_in_memory() -> None:
    types = replace(of_kernel(), kernel=made_up(rows=(*ROWS, (IMAGE + 0x4000, "D", "linux_banner"))))
    entry = written(types)["symbols"]["linux_banner"]
    assert b64decode(entry["constant_data"]) == b"Linux version 7.2.13 (somebody@somewhere)\n\0"


def test_of_several_symbols_of_a_name_the_global_one_counts() -> None:
    rows = (*ROWS, (IMAGE + 0x4000, "d", "modules"), (IMAGE + 0x5000, "D", "modules"), (IMAGE + 0x6000, "d", "modules"))
    found = written(replace(types_of(MadeTypes()), kernel=made_up(rows=rows)))["symbols"]
    assert found["modules"]["address"] == IMAGE + 0x5000 - SLIDE


def test_shims() -> None:
    types = MadeTypes()
    types.struct("tk_data", 16, [])
    types.struct("taint_flag", 4, [("c_true", types.integer("char", 1), 0)])
    rows = (
        *ROWS,
        (IMAGE + 0x4000, "d", "timekeeper_data"),
        (IMAGE + 0x4020, "d", "taint_flags"),
        (IMAGE + 0x4040, "d", "behind"),
    )
    found = written(replace(types_of(types), kernel=made_up(rows=sorted(rows))))["symbols"]
    assert found["timekeeper_data"]["type"]["count"] == 2
    assert found["tk_core"] == {"type": {"kind": "struct", "name": "tk_data"}, "address": IMAGE + 0x4000 - SLIDE}
    assert "taint_flags" not in found


def test_names_are_data() -> None:
    """Whatever a name is made of, the file is JSON, and the name is in it."""
    name = '"},\x1b[2J\\\xff'

    def add(types: MadeTypes) -> None:
        types.struct(name, 4, [(name, types.integer("int", 4), 0)])

    assert made(add)["user_types"][name]["fields"][name]["offset"] == 0
    found = written(replace(types_of(MadeTypes()), kernel=made_up(rows=(*ROWS, (IMAGE + 0x4000, "d", name)))))
    assert name in found["symbols"]


def test_hostile_types_end() -> None:
    """Types that hold or point at themselves, and more types one in the other than anybody nests."""

    def add(types: MadeTypes) -> None:
        for _ in range(30):
            types.struct("", 8, [("", number, 0) for number in range(1, 31)] * 4)
        types.add(Kind.TYPEDEF, "endless", types.count + 1)
        pointer = types.pointer(types.count + 1)
        types.struct("holder", 8, [("pointer", pointer, 0)])
        types.add(Kind.TYPEDEF, "circle", types.count)
        number = types.integer("int", 4)
        for _ in range(5000):
            number = types.array(number, 1)
        types.struct("deep", 8, [("array", number, 0), ("nowhere", 0xFFFF_FFF0, 4)])
        types.struct("broken", 8, [("name", 1, 0)])
        types.words[-3] = 0x7FFF_0000

    started = time.process_time()
    found = made(add)["user_types"]
    assert time.process_time() - started < 20
    assert "broken" not in found
    assert found["deep"]["fields"]["nowhere"]["type"] == {"kind": "base", "name": "void"}
    assert not any(field.get("anonymous") for entry in found.values() for field in entry["fields"].values())


@pytest.mark.parametrize("seed", range(40))
def test_damaged_types_are_left_out(seed: int) -> None:
    """Whatever words are damaged, what is written is a whole file; or no types are there at all."""
    chance = np.random.default_rng(seed)
    types = of_kernel()
    blob = types.btf.blob
    words = blob.words.copy()
    for place in chance.integers(0, len(words), 1 + seed).tolist():
        words[place] = chance.choice([0, 1, 7, 0xFFFF_FFFF, words[place] ^ 1 << int(chance.integers(32))])
    try:
        damaged = replace(types, btf=Btf(replace(blob, words=words), 8))
    except KallsiftError:
        return
    found = written(damaged)
    assert found["symbols"]["_text"]["address"] == IMAGE - SLIDE


def test_as_many_names_as_one_likes() -> None:
    words = np.array([1, Kind.STRUCT << 24, 8] * 200_000, np.uint32)
    types = types_of(Btf(BtfBlob(words, b"\0module\0"), 8))
    started = time.process_time()
    assert len(written(types)["user_types"]) == 200_000
    assert time.process_time() - started < 20


def test_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_SIZE", 1000)
    with pytest.raises(KallsiftError, match="larger than those of any kernel"):
        written(of_kernel())


def test_an_unknown_slide() -> None:
    types = of_kernel()
    unknown = replace(types, kernel=replace(types.kernel, kaslr_slide=None))
    with pytest.raises(KallsiftError, match="KASLR slide is unknown"):
        symbol_file(unknown, (), PRODUCER)


def test_packed_with_xz() -> None:
    pieces = [b"some text, ", b"and more"]
    assert lzma.decompress(b"".join(packed(pieces))) == b"".join(pieces)


def test_the_producer_is_named() -> None:
    metadata = written(of_kernel())["metadata"]
    assert (metadata["format"], metadata["producer"]) == ("6.2.0", {"name": "kallsift", "version": "1.2.3"})
