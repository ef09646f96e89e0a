"""What one asks for types: by name, member, symbol and module, of a kernel that carries them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kallsift.errors import KallsiftError
from kallsift.kernel.access.btf_blob import BtfError, Kind
from kallsift.kernel.access.string_search import places_of
from kallsift.kernel.access.virtual_memory import virtual_memory
from kallsift.kernel.kernel import Kernel
from kallsift.memory.segments import BytesSegment
from kallsift.types.btf_file import read_types
from kallsift.types.find import given_types, kernel_types
from kallsift.types.module_types import modules_with_types
from kallsift.types.types import Types
from tests.kernel.made_types import MadeTypes, known_layout
from tests.kernel.made_up import IMAGE, made_up
from tests.output.sample import table
from tests.types.elf_files import elf_with
from tests.types.typed_kernel import (
    BTF,
    MODULES,
    PER_CPU,
    RQ_OFFSET,
    TASK,
    TYPES,
    array_of,
    module_types,
    typed_kernel,
    types_of,
)
from tests.types.typed_kernel import kernel_types as made_types


def asked(kernel: Kernel | None = None) -> Types:
    found = typed_kernel() if kernel is None else kernel
    return kernel_types(found, virtual_memory(found))


def test_members_by_name() -> None:
    types = asked()
    task = types["task_struct"]
    assert (task.size, task["pid"].offset, task["comm"].offset) == (40, 0, 32)
    assert (task["comm"].type.length, task["comm"].type.size) == (8, 8)
    assert (task["whole"].offset, task["high"].offset) == (8, 12), "members of what has no name count as its own"
    assert [member.name for member in task.members] == ["pid", "", "tasks", "comm"]
    assert "pid" in task
    assert "nothing" not in task
    with pytest.raises(KeyError):
        task["nothing"]
    assert task["tasks"].type["prev"].offset == 8
    assert task["tasks"].type["prev"].type.target.name == "list_head"


def test_bit_fields() -> None:
    flags = asked()["flags"]
    assert [(one.bit_offset, one.bits, one.offset) for one in flags.members] == [(0, 1, 0), (1, 3, 0), (32, 28, 4)]
    assert repr(flags["three"]) == "<Member three at 0, bit 1, 3 wide>"


def test_names_with_and_without_their_word() -> None:
    types = asked()
    assert types["struct task_struct"] == types["task_struct"]
    assert "union task_struct" not in types
    assert "enum pid_type" in types
    assert types["task_t"].resolved == types["operations"]
    assert types["unsigned long"].size == 8
    assert types.all("nothing") == ()
    with pytest.raises(KeyError):
        types["a\0b"]


def test_of_several_types_the_one_with_most_members_comes_first() -> None:
    made = MadeTypes()
    number = made.integer("int", 4)
    few = made.struct("node", 4, [("one", number, 0)])
    more = made.struct("node", 8, [("one", number, 0), ("two", number, 4)])
    forward = made.add(Kind.FWD, "node", 0)
    assert [found.number for found in types_of(made).all("node")] == [more, few, forward]


def test_a_word_before_a_name_asks_for_no_integer() -> None:
    types = asked()
    assert types["unsigned long"].kind is Kind.INT
    for word in ("struct", "union", "enum"):
        assert f"{word} unsigned long" not in types
    made = MadeTypes()
    made.integer("long unsigned int", 8)
    assert types_of(made)["unsigned long"].size == 8
    assert "struct unsigned long" not in types_of(made)


def test_forward_declarations_are_of_a_structure_or_a_union() -> None:
    made = MadeTypes()
    struct, union = made.add(Kind.FWD, "node", 0), made.add(Kind.FWD, "node", 0, flag=True)
    types = types_of(made)
    for word, numbers in (("struct ", [struct]), ("union ", [union]), ("enum ", []), ("", [union, struct])):
        assert [found.number for found in types.all(f"{word}node")] == numbers


def test_enumerators() -> None:
    types = asked()
    assert types["pid_type"].enumerators == {"PIDTYPE_PID": 0, "PIDTYPE_MAX": 4}
    assert types.enumerator("PIDTYPE_MAX") == types["pid_type"]
    assert types.enumerator("pid") is None


@pytest.mark.parametrize("is_marked", [False, True])
def test_enumerations_without_a_sign(is_marked: bool) -> None:
    """Before 6.1 no enumeration has the mark of a sign: all are taken for signed, as C has them."""
    made = MadeTypes()
    made.enum("bits", {"HIGH": 0x8000_0000})
    if is_marked:
        made.enum("error", {"NONE": -1}, flag=True)
    made.add(Kind.ENUM64, "wide", 8, made.name("TOP"), 5, 0x8000_0000, count=1)
    types = types_of(made)
    assert types["bits"].enumerators == {"HIGH": 0x8000_0000 - (0 if is_marked else 1 << 32)}
    assert types["wide"].enumerators == {"TOP": (1 << 63) + 5}
    if is_marked:
        assert types["error"].enumerators == {"NONE": -1}


def test_functions() -> None:
    types = asked()
    found = types.function("read_0_thing0")
    assert found is not None
    assert [(each.name, each.type.spelled()) for each in found.parameters] == [("task", "void *")]
    assert found.returns is not None
    assert found.returns.spelled() == "int"
    assert types.function("task_struct") is None


def test_types_of_symbols() -> None:
    types = asked()
    for name, spelled in (
        ("init_task", "struct task_struct"),
        ("runqueues", "struct rq"),
        ("modules", "struct list_head"),
        ("read_0_thing0", "int (void *task)"),
    ):
        found = types.of_symbol(name)
        assert found is not None, name
        assert found.spelled() == spelled
    for name in ("prog_idr", "behind_task", "nothing", "_end"):
        assert types.of_symbol(name) is None, name


@pytest.mark.parametrize(("name", "address"), [("init_task", TASK), ("runqueues", PER_CPU + RQ_OFFSET)])
def test_of_several_symbols_of_a_name_the_one_that_has_the_type(name: str, address: int) -> None:
    kernel = typed_kernel()
    types = asked(replace(kernel, symbols=table([(IMAGE - 8, "d", name), *_rows(kernel)])))
    assert types.kernel.symbols[name].address == IMAGE - 8
    found = types.typed_symbol(name)
    assert found is not None
    assert found[0].address == address
    assert found[1] == types.of_symbol(name)


def test_of_several_symbols_of_a_name_the_function() -> None:
    kernel, name = typed_kernel(), "read_0_thing0"
    types = asked(replace(kernel, symbols=table([(IMAGE - 8, "d", name), *_rows(kernel)])))
    found = types.typed_symbol(name)
    assert found is not None
    assert found[0].type == "T"


def test_a_type_that_has_no_room_is_not_the_symbols() -> None:
    kernel = typed_kernel()
    index = kernel.symbols.find("behind_task")
    assert index is not None
    kernel.symbols.addresses[index] -= 8
    assert asked(kernel).of_symbol("init_task") is None


def test_types_of_a_module() -> None:
    types = asked()
    assert modules_with_types(types) == ("made",)
    module = types.module("made")
    private = module["module_private"]
    assert (private.size, private["count"].offset, private["links"].type.name) == (24, 16, "list_head")
    assert "module_private" not in types
    assert "task_struct" in module
    assert len(module) == len(types) + 1
    with pytest.raises(
        BtfError, match=r"no loaded module called other has types of its own; modules with types: 1, for example made"
    ):
        types.module("other")
    with pytest.raises(BtfError, match=r"; did you mean made\?"):
        types.module("mad")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({BTF + 8: 5 << 32 | 60}, "made: its types cannot be read: it is cut short"),
        ({BTF + 16: 5}, "do not extend the kernel's"),
        ({BTF: 0x1000}, "cannot be read"),
        ({BTF + 8: 0xFFFF_FFFF}, "larger than those of any"),
    ],
)
def test_a_module_whose_types_make_no_sense(changes: dict[int, int], message: str) -> None:
    with pytest.raises(BtfError, match=message):
        asked(typed_kernel(changes=changes)).module("made")


def test_a_broken_list_of_modules_types() -> None:
    with pytest.raises(BtfError, match="no loaded module called made"):
        asked(typed_kernel(changes={MODULES: 0x1000, MODULES + 8: 0x1000})).module("made")


def test_found_by_their_header_where_only_text_is_listed() -> None:
    types = asked(typed_kernel(text_only=True))
    assert types.source == f"{TYPES:#x}"
    assert types["task_struct"]["comm"].offset == 32
    with pytest.raises(BtfError, match="its image has no BTF header"):
        asked(typed_kernel(b"", text_only=True))
    others = made_types().data().replace(b"_thing", b"_other")
    with pytest.raises(BtfError, match="its image has no BTF header"):
        asked(typed_kernel(others, text_only=True))


def test_exit_functions_need_not_be_listed_where_only_text_is() -> None:
    kernel = typed_kernel(text_only=True)
    rows = [(symbol.address, symbol.type, symbol.name) for symbol in kernel.symbols]
    for left_out, is_found in ((2, True), (3, False)):
        few = replace(kernel, symbols=table(rows[left_out + 1 :]))
        if is_found:
            assert asked(few)["task_struct"].size == 40
        else:
            with pytest.raises(BtfError, match="no BTF header"):
                asked(few)


def test_a_kernel_without_types() -> None:
    with pytest.raises(BtfError, match="this kernel carries no types"):
        asked(made_up())
    with pytest.raises(BtfError, match="it is not BTF"):
        asked(typed_kernel(bytes(100)))


def test_types_of_a_file() -> None:
    kernel = made_up(rows=[row for row in _rows(typed_kernel()) if "BTF" not in row[2]])
    memory, data = virtual_memory(kernel), made_types().data()
    assert given_types(kernel, memory, array_of(data), "file")["task_struct"].size == 40
    with pytest.raises(
        BtfError, match="file: the types are not of this build: 300 of their 300 functions are not in the kernel"
    ):
        given_types(kernel, memory, array_of(data.replace(b"_thing", b"_other")), "file")
    with pytest.raises(BtfError, match="file: it is not BTF"):
        given_types(kernel, memory, array_of(b"\x7fELF"), "file")
    elsewhere = made_types()
    elsewhere.words[elsewhere.words.index(RQ_OFFSET)] += 64
    with pytest.raises(BtfError, match="1 of their 1 per-CPU variables are at other offsets"):
        given_types(kernel, memory, array_of(elsewhere.data()), "file")
    few = MadeTypes()
    few.integer("int", 4)
    with pytest.raises(BtfError, match="they name only 0 functions"):
        given_types(kernel, memory, array_of(few.data()), "file")


def test_a_file_that_is_none_says_what_to_do() -> None:
    kernel, made = typed_kernel(), made_types()
    memory, data = virtual_memory(kernel), made.data()
    with pytest.raises(BtfError, match="file: these are the types of a module; name"):
        given_types(kernel, memory, array_of(module_types(made).data()), "file")
    with pytest.raises(BtfError, match=rf"file: it is cut short: .* {len(data):,} bytes, but there are 1,000"):
        given_types(kernel, memory, array_of(data[:1000]), "file")
    damaged = MadeTypes()
    for index in range(300):
        damaged.function(f"function_{index}", 0, [])
    damaged.words[3] = 0xFFFF_FFF0
    with pytest.raises(BtfError, match="file: the name at 0xfffffff0"):
        given_types(kernel, memory, array_of(damaged.data()), "file")


@pytest.mark.parametrize(("bits", "order"), [(32, "<"), (64, "<"), (64, ">")])
def test_a_file_of_types_inside_of_an_elf_file(bits: int, order: str, tmp_path: Path) -> None:
    file, data = tmp_path / "vmlinux", made_types().data()
    whole = elf_with(data, ".BTF", bits, order)
    file.write_bytes(whole)
    assert read_types(file).tobytes() == data
    file.write_bytes(elf_with(data, ".BTF.ext", bits, order))
    with pytest.raises(BtfError, match=r"without types \(section \.BTF\); name"):
        read_types(file)
    for end in range(0, 200, 7):
        file.write_bytes(whole[:4] + whole[4 : 4 + end])
        with pytest.raises(BtfError, match=r"broken ELF file|cut short"):
            read_types(file)
    file.write_bytes(whole[:-1])
    with pytest.raises(BtfError, match="cut short"):
        read_types(file)


def test_variables_of_other_sections_say_nothing_of_per_cpu_ones() -> None:
    kernel, made = typed_kernel(), made_types()
    made.add(Kind.VAR, "init_task", made.count, 1)
    made.add(Kind.DATASEC, ".data", 0x1000, made.count, 0x40, 64, count=1)
    types = given_types(kernel, virtual_memory(kernel), array_of(made.data()), "file")
    assert [offset for _, offset, _ in types.btf.variables(".data..percpu")] == [RQ_OFFSET]
    assert [offset for _, offset, _ in types.btf.variables(".data")] == [0x40]


def test_the_image_of_a_table_of_text_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[bytes] = []

    def places(window: BytesSegment, wanted: bytes, most: int) -> Iterator[int]:
        searched.append(wanted)
        return places_of(window, wanted, most)

    monkeypatch.setattr("kallsift.types.find.places_of", places)
    for data in (made_types().data(), made_types().data(layout=known_layout())):
        assert asked(typed_kernel(data, text_only=True))["task_struct"].size == 40
    assert len(searched) == 2


def test_names_that_are_like_one() -> None:
    types = asked()
    for name, near in (
        ("task_strct", "task_struct"),
        ("struct tsk_struct", "task_struct"),
        ("PIDTYPE_PIDS", "PIDTYPE_PID"),
        ("sate", None),
        ("start_strof", None),
        ("", None),
        ("nothing\x1b\u1234", None),
    ):
        assert types.similar(name) == near, name
    assert types.module("made").similar("module_privat") == "module_private"


def test_the_well_known_symbols_have_one_form() -> None:
    """mem_section is a pointer or an array by the kernel's configuration, and both have room enough."""
    kernel, made = typed_kernel(), made_types()
    made.struct("mem_section", 16, [("map", 1, 0)])
    many = replace(kernel, symbols=table([(IMAGE - 4096, "B", "mem_section"), *_rows(kernel)]))
    assert Types(made.btf(), "made up", many, virtual_memory(kernel)).of_symbol("mem_section") is None


def _rows(kernel: Kernel) -> list[tuple[int, str, str]]:
    return [(symbol.address, symbol.type, symbol.name) for symbol in kernel.symbols]


def test_each_object_is_one_line() -> None:
    types = asked()
    function = types.function("read_0_thing0")
    assert function is not None
    for each in (types, types.btf, types.btf.blob, types["task_struct"], function, *function.parameters):
        assert len(repr(each)) < 200
        assert repr(each).isprintable()


def test_all_errors_are_kallsifts() -> None:
    assert issubclass(BtfError, KallsiftError)
