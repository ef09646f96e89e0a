"""DWARF made of types that were made by hand, read back by pyelftools, gdb and binutils."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols, SymbolGroup
from kallsift.kernel.access.btf_blob import BtfBlob, BtfError, Kind
from kallsift.kernel.access.virtual_memory import virtual_memory
from kallsift.kernel.kernel import Kernel
from kallsift.output.dwarf import debug_sections
from kallsift.output.elf.writer import ElfFile, elf_file
from kallsift.types.btf import Btf
from kallsift.types.find import kernel_types as found_types
from kallsift.types.type import COMPOSITE, Type
from kallsift.types.types import Types
from tests.components import lacking, needs
from tests.kernel.made_types import FLAG, MadeTypes
from tests.kernel.twice import function
from tests.output.elf_kernel import BASE, ROWS, SIZE, SLIDE, built, output_of, read, written
from tests.types.typed_kernel import PER_CPU, RQ_OFFSET, TASK, kernel_types, typed_kernel


def types_for(kernel: Kernel, made: MadeTypes | Btf) -> Types:
    """Types by themselves, of a kernel."""
    return Types(made.btf() if isinstance(made, MadeTypes) else made, "made up", kernel, virtual_memory(kernel))


def elf_of(made: MadeTypes | Btf, **options: Any) -> ElfFile:
    """The file of the made-up kernel with these types."""
    kernel = typed_kernel()
    return elf_file(kernel, types=types_for(kernel, made), **options)


def units(data: bytes) -> list[Any]:
    """The units of a file's DWARF, as pyelftools has them."""
    return list(read(data).get_dwarf_info().iter_CUs())


def entries(unit: Any) -> Iterator[Any]:
    """The entries right below a unit."""
    yield from unit.get_top_DIE().iter_children()


def attribute(entry: Any, name: str) -> Any:
    """The value of an entry's attribute; None where it has none."""
    found = entry.attributes.get(f"DW_AT_{name}")
    return None if found is None else found.value


def name_of(entry: Any) -> str:
    """The name of an entry; empty where it has none."""
    return (attribute(entry, "name") or b"").decode("latin-1")


def by_name(unit: Any) -> dict[str, Any]:
    """The entries right below a unit by their names."""
    return {name_of(entry): entry for entry in entries(unit)}


def kernel_file(**options: Any) -> bytes:
    """The file of the made-up kernel with its own types."""
    kernel = typed_kernel()
    return written(elf_file(kernel, types=found_types(kernel, virtual_memory(kernel)), **options))


def spelled(entry: Any) -> str:
    """The type of an entry as C spells it, but for arrays and functions."""
    if "DW_AT_type" not in entry.attributes:
        return "void"
    target = entry.get_DIE_from_attribute("DW_AT_type")
    words = {
        "DW_TAG_pointer_type": "{} *",
        "DW_TAG_const_type": "const {}",
        "DW_TAG_array_type": "{}[]",
    }
    if target.tag in words:
        return words[target.tag].format(spelled(target))
    return name_of(target) or "{...}"


def test_every_member_lies_where_the_types_say() -> None:
    made = kernel_types()
    (unit,) = units(written(elf_of(made)))
    found, btf = by_name(unit), made.btf()
    compared = 0
    for type_ in (Type(btf, number) for number in range(1, len(btf))):
        if type_.kind not in COMPOSITE or not type_.name:
            continue
        entry = found[type_.name]
        assert attribute(entry, "byte_size") == type_.size
        for member, inner in zip(type_.members, entry.iter_children(), strict=True):
            assert name_of(inner) == member.name
            if member.bits is None:
                assert attribute(inner, "data_member_location") == member.offset
            else:
                assert attribute(inner, "data_bit_offset") == member.bit_offset
                assert attribute(inner, "bit_size") == member.bits
            compared += 1
    assert compared > 20
    assert spelled(next(iter(found["list_head"].iter_children()))) == "list_head *"


def test_functions_have_prototypes_and_places() -> None:
    (unit,) = units(kernel_file())
    wanted = typed_kernel().symbols[function(5)]
    found = by_name(unit)[function(5)]
    assert (attribute(found, "low_pc"), attribute(found, "high_pc")) == (wanted.address, 0x100)
    assert attribute(found, "external") == 1
    assert spelled(found) == "int"
    assert [(name_of(each), spelled(each)) for each in found.iter_children()] == [("task", "void *")]


def test_variables_have_types_and_places() -> None:
    (unit,) = units(kernel_file())
    variables = {name_of(entry): entry for entry in entries(unit) if entry.tag == "DW_TAG_variable"}
    places = {name: bytes(attribute(entry, "location")) for name, entry in variables.items()}
    assert {name: (spelled(variables[name]), place) for name, place in places.items()} == {
        "init_task": ("task_struct", b"\x03" + TASK.to_bytes(8, "little")),
        "runqueues": ("rq", b"\x03" + (PER_CPU + RQ_OFFSET).to_bytes(8, "little")),
        "modules": ("list_head", places["modules"]),
        "btf_modules": ("list_head", places["btf_modules"]),
    }


def test_modules_build_on_the_kernel() -> None:
    kernel, module = units(kernel_file(modules=True))
    assert name_of(module.get_top_DIE()) == "made"
    links, count = by_name(module)["module_private"].iter_children()
    assert links.get_DIE_from_attribute("DW_AT_type").offset == by_name(kernel)["list_head"].offset
    assert (spelled(count), attribute(count, "data_member_location")) == ("int", 16)


def test_modules_without_types_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions are described by prototypes, so the functions of such a module are missing: an oops may be in one."""
    kernel = typed_kernel()
    loaded = [SymbolGroup(name, kernel.symbols, (range(0x1000, 0x2000),)) for name in ("made", "bare\x1b")]
    monkeypatch.setattr(debug_sections, "dynamic_symbols", lambda _: DynamicSymbols(tuple(loaded)))
    file = elf_file(kernel, types=found_types(kernel, virtual_memory(kernel)), modules=True)
    assert r"1 of 2 modules have no types, so their functions are left out: bare\x1b" in file.remarks
    assert not file.complete


def enumerations() -> MadeTypes:
    made = MadeTypes()
    made.enum("signed", {"LOW": -2, "HIGH": 2}, flag=True)
    made.enum("unsigned", {"TOP": 0xFFFF_FFFE})
    for name, flag, value in (("wide", False, 0xFFFF_FFFF_FFFF_FFFE), ("wide_signed", True, -3)):
        words = [made.name(f"OF_{name}"), value & 0xFFFF_FFFF, value >> 32 & 0xFFFF_FFFF]
        made.add(Kind.ENUM64, name, 8, *words, count=1, flag=flag)
    made.enum("declared", {})
    return made


def test_enumerators_keep_their_signs() -> None:
    (unit,) = units(written(elf_of(enumerations())))
    values = {
        name_of(entry): [attribute(each, "const_value") for each in entry.iter_children()] for entry in entries(unit)
    }
    assert values == {
        "signed": [-2, 2],
        "unsigned": [0xFFFF_FFFE],
        "wide": [0xFFFF_FFFF_FFFF_FFFE],
        "wide_signed": [-3],
        "declared": [],
    }
    assert attribute(by_name(unit)["declared"], "declaration")


def odd_types() -> MadeTypes:
    """One of each kind that has something special."""
    made = MadeTypes()
    number = made.integer("int", 4, signed=True)
    made.integer("char", 1, signed=True)
    made.integer("_Bool", 1)
    made.words[-1] = 4 << 24 | 8
    made.add(Kind.FLOAT, "double", 8)
    tagged = made.add(Kind.TYPE_TAG, "user", number)
    made.pointer(tagged)
    made.add(Kind.FWD, "nowhere", 0)
    made.add(Kind.FWD, "no_union", 0, flag=True)
    made.struct("open", 4, [("length", number, 0), ("items", made.array(number, 0), 4)])
    made.add(Kind.RESTRICT, "", made.add(Kind.VOLATILE, "", made.add(Kind.CONST, "", 0)))
    made.add(Kind.TYPEDEF, "nothing", 0)
    made.add(Kind.DECL_TAG, "tag", number, 0xFFFF_FFFF)
    made.function("read_0_thing0", 0, [("format", number), ("", 0)])
    return made


def test_odd_types() -> None:
    (unit,) = units(written(elf_of(odd_types())))
    found = by_name(unit)
    assert [attribute(found[name], "encoding") for name in ("int", "char", "_Bool", "double")] == [5, 6, 2, 4]
    assert spelled(next(entry for entry in entries(unit) if entry.tag == "DW_TAG_pointer_type")) == "int"
    assert (found["nowhere"].tag, found["no_union"].tag) == ("DW_TAG_structure_type", "DW_TAG_union_type")
    assert attribute(found["nowhere"], "declaration")
    _, items = found["open"].iter_children()
    (bounds,) = items.get_DIE_from_attribute("DW_AT_type").iter_children()
    assert attribute(bounds, "count") is None
    assert spelled(found["nothing"]) == "void"
    parameter, rest = found["read_0_thing0"].iter_children()
    assert (name_of(parameter), rest.tag) == ("format", "DW_TAG_unspecified_parameters")
    assert spelled(found["read_0_thing0"]) == "void"


def test_big_endian() -> None:
    kernel = replace(typed_kernel(), byte_order=">")
    data = written(elf_file(kernel, types=types_for(kernel, kernel_types().btf(">"))))
    (unit,) = units(data)
    assert not read(data).little_endian
    found = by_name(unit)
    assert attribute(found["task_struct"], "byte_size") == 40
    assert [attribute(each, "data_member_location") for each in found["task_struct"].iter_children()] == [0, 8, 16, 32]
    assert bytes(attribute(found["init_task"], "location")) == b"\x03" + TASK.to_bytes(8, "big")


def test_types_that_lead_to_themselves() -> None:
    made = MadeTypes()
    made.add(Kind.TYPEDEF, "circle", 2)
    made.add(Kind.CONST, "", 1)
    made.pointer(3)
    made.struct("holder", 8, [("member", 1, 0), ("other", 77, 0)])
    file = elf_of(made)
    (unit,) = units(written(file))
    assert spelled(by_name(unit)["circle"]) == "void"
    assert list(by_name(unit)["holder"].iter_children()) == []
    assert "3 types do not end or are of an unknown kind" in file.remarks
    assert not file.complete


def test_a_kind_that_is_newer_is_left_out_and_counted() -> None:
    made = MadeTypes()
    number = made.integer("int", 4)
    made.struct("holder", 8, [("member", number, 0), ("newer", 3, 4)])
    blob = made.blob()
    blob.sizes.known[30] = True
    file = elf_of(Btf(BtfBlob(np.array([*made.words, 1, 30 << 24, 0], np.uint32), made.strings, blob.sizes), 8))
    (unit,) = units(written(file))
    assert [name_of(each) for each in by_name(unit)["holder"].iter_children()] == ["member"]
    assert "1 types do not end or are of an unknown kind" in file.remarks


def test_names_of_control_characters() -> None:
    made = MadeTypes()
    made.integer("int\x1b[31m", 4)
    (unit,) = units(written(elf_of(made)))
    assert list(by_name(unit)) == ["int?[31m"]


def test_any_words() -> None:
    random, whole = np.random.default_rng(5), kernel_types()
    written_files = 0
    for _ in range(60):
        words = np.array(whole.words, np.uint32)
        for place in random.integers(0, 500, 4).tolist():
            few = int(random.integers(0, 20))
            words[place] = random.choice([few, few << 24, few << 24 | FLAG | few, int(random.integers(0, 1 << 32))])
        try:
            data = written(elf_of(Btf(BtfBlob(words, whole.strings), 8)))
        except BtfError:
            continue
        (unit,) = units(data)
        assert all(entry.tag is None or entry.offset for entry in unit.iter_DIEs())
        written_files += 1
    assert written_files > 20


def test_more_types_than_any_kernel_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kallsift.output.dwarf.debug_sections.MAX_WORDS", 100)
    with pytest.raises(BtfError, match="more types than in any kernel"):
        elf_of(kernel_types())


def test_functions_with_too_many_parameters_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kallsift.output.dwarf.functions.MAX_PARAMETERS", 10)
    (unit,) = units(written(elf_of(kernel_types())))
    assert sum(entry.tag == "DW_TAG_subprogram" for entry in entries(unit)) == 10


def test_the_structure_with_most_members_comes_first() -> None:
    """Debuggers find the first of a name."""
    made = MadeTypes()
    number = made.integer("int", 4)
    name = made.name("node")
    for count in (1, 3, 2):
        made.struct("", 4 * count, [(letter, number, 4 * index) for index, letter in enumerate("abc"[:count])])
        made.words[-3 - 3 * count] = name
    made.pointer(2)
    (unit,) = units(written(elf_of(made)))
    nodes = [entry for entry in entries(unit) if name_of(entry) == "node"]
    assert attribute(nodes[0], "byte_size") == 12
    assert sorted(attribute(each, "byte_size") for each in nodes) == [4, 8, 12]
    assert [len(list(each.iter_children())) for each in nodes] == [attribute(each, "byte_size") / 4 for each in nodes]
    pointer = next(entry for entry in entries(unit) if entry.tag == "DW_TAG_pointer_type")
    assert attribute(pointer.get_DIE_from_attribute("DW_AT_type"), "byte_size") == 4


PER_CPU_ROWS = (
    (0x0, "A", "__per_cpu_start"),
    *ROWS,
    (0x1800, "A", "__per_cpu_end"),
    (BASE + 0x6000, "D", "__per_cpu_load"),
)


def test_per_cpu_offsets_get_a_section_at_0() -> None:
    """As in vmlinux, where crash looks for it; without types they stay what the kernel's table says."""
    kernel = built(sorted(PER_CPU_ROWS))
    elf = read(written(elf_file(kernel, types=types_for(kernel, kernel_types()))))
    section = elf.get_section_by_name(".data..percpu")
    assert (section["sh_addr"], section["sh_size"], section["sh_type"]) == (0, 0x1800, "SHT_PROGBITS")
    table = elf.get_section_by_name(".symtab")
    number = elf.get_section_index(".data..percpu")
    found = {each.name: (each["st_shndx"], each["st_size"]) for each in table.iter_symbols()}
    assert found["fixed_percpu_data"] == found["__per_cpu_start"] == (number, 0x1000)
    assert found["cpu_debug_store"] == (number, 0x800)
    loads = [each["p_vaddr"] for each in elf.iter_segments() if each["p_type"] == "PT_LOAD"]
    assert loads.index(0) == len(loads) - 2
    plain = read(written(elf_file(kernel)))
    assert plain.get_section_by_name(".data..percpu") is None
    (symbol,) = plain.get_section_by_name(".symtab").get_symbol_by_name("cpu_debug_store")
    assert symbol["st_shndx"] == "SHN_ABS"


def test_addresses_without_the_slide() -> None:
    kernel = built()
    made = MadeTypes()
    made.function("init", made.integer("int", 4), [])
    (unit,) = units(written(elf_file(kernel, types=types_for(kernel, made), unslid=True)))
    assert attribute(unit.get_top_DIE(), "low_pc") == BASE - SLIDE
    assert attribute(unit.get_top_DIE(), "high_pc") == SIZE
    assert attribute(by_name(unit)["init"], "low_pc") == BASE - SLIDE + 0x40


@pytest.mark.parametrize("make", [kernel_types, odd_types, enumerations])
def test_binutils_have_no_complaint(tmp_path: Path, make: Any) -> None:
    data = written(elf_of(make(), modules=True))
    for command in (("readelf", "--debug-dump"), ("objdump", "--dwarf")):
        out, err = output_of(data, tmp_path, *command)
        assert err == ""
        assert "DW_TAG_compile_unit" in out


def test_gdb(tmp_path: Path) -> None:
    gdb = next(filter(None, map(shutil.which, ("gdb", "gdb-multiarch"))), None)
    if gdb is None:
        lacking("gdb is missing: apt-get install gdb")
    path = tmp_path / "vmlinux.elf"
    path.write_bytes(kernel_file(modules=True))
    commands = [
        "ptype struct task_struct",
        "p sizeof(struct module)",
        f"ptype {function(5)}",
        "p sizeof(init_task)",
        "ptype struct module_private",
        f"info line {function(5)}",
        "ptype struct flags",
    ]
    arguments = [part for each in commands for part in ("-ex", each)]
    done = subprocess.run([gdb, "-q", "-batch", "-nx", *arguments, path], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    for line in (
        "    struct list_head tasks;",
        "    char comm[8];",
        "$1 = 128",
        "type = int (void *)",
        "$2 = 40",
        "    int three : 3;",
        "    struct list_head links;",
    ):
        assert line in done.stdout.splitlines()
    assert f"No line number information available for address 0xffffffff81000500 <{function(5)}>" in done.stdout


def test_pahole(tmp_path: Path) -> None:
    needs("pahole", package="dwarves")
    out, _ = output_of(kernel_file(), tmp_path, "pahole", "-C", "task_struct")
    assert "/* size: 40, cachelines: 1, members: 4 */" in out
    assert ["struct", "list_head", "tasks;", "/*", "16", "16", "*/"] in [line.split() for line in out.splitlines()]
