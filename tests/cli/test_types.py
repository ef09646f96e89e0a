"""``kallsift types``: definitions, counts, files of types, and what the exit code says."""

from __future__ import annotations

import json
import time
from pathlib import Path

from kallsift.kernel.access.btf_blob import Kind
from tests.cli.conftest import Command, Plant
from tests.kernel.made_types import MadeTypes
from tests.kernel.made_up import made_up
from tests.kernel.twice import function
from tests.types.elf_files import elf_with
from tests.types.typed_kernel import FUNCTIONS, TASK, kernel_types, module_types, typed_kernel


def test_definitions(command: Command, plant: Plant) -> None:
    plant(typed_kernel())
    result = command("types", "dump", "struct list_head", "read_0_thing0", "PIDTYPE_PID", "init_task", "runqueues")
    assert (result.code, result.err) == (0, "")
    assert [line.split() for line in result.out.splitlines()] == [
        ["struct", "list_head", "{"],
        ["struct", "list_head", "*", "next;", "/*", "0", "8", "*/"],
        ["struct", "list_head", "*", "prev;", "/*", "8", "8", "*/"],
        [],
        ["/*", "size:", "16,", "members:", "2", "*/"],
        ["};"],
        [],
        ["int", "read_0_thing0(void", "*task);"],
        [],
        ["enum", "pid_type", "{"],
        ["PIDTYPE_PID", "=", "0,"],
        ["PIDTYPE_MAX", "=", "4,"],
        ["};"],
        [],
        ["struct", "task_struct", "init_task;", "/*", "at", f"{TASK:x},", "size:", "40", "*/"],
        [],
        ["struct", "rq", "runqueues;", "/*", "at", "ffffffff81030a40,", "size:", "64", "*/"],
    ]


def test_a_keyword_belongs_to_the_next_word(command: Command, plant: Plant) -> None:
    plant(typed_kernel())
    apart = command("types", "dump", "struct", "list_head", "enum", "pid_type", "PIDTYPE_PID")
    assert apart.code == 0
    assert apart.out == command("types", "dump", "struct list_head", "enum pid_type", "PIDTYPE_PID").out
    assert command("types", "dump", "union", "list_head").code == 1


def test_counts(command: Command, plant: Plant) -> None:
    plant(typed_kernel())
    result = command("types", "dump")
    assert result.code == 0
    assert result.out.splitlines()[1:4] == ["      301 prototype", "      300 function", "        9 struct"]
    assert result.err == "kallsift: to print a type, give its name: kallsift types SOURCE task_struct\n"


def test_names_that_are_missing(command: Command, plant: Plant) -> None:
    plant(typed_kernel())
    result = command("types", "dump", "list_head", "nothing\x1b")
    assert result.code == 3
    assert result.err == r"kallsift: there is no type, enumerator or typed symbol called nothing\x1b" "\n"
    assert command("types", "dump", "nothing").code == 1
    result = command("types", "dump", "list_haed", "task_strct")
    assert (result.code, result.out) == (1, "")
    assert [line.rpartition("; ")[2] for line in result.err.splitlines()] == [
        "did you mean list_head?",
        "did you mean task_struct?",
    ]


def test_modules(command: Command, plant: Plant) -> None:
    plant(typed_kernel())
    assert "/* size: 24, members: 2 */" in command("types", "dump", "--module", "made", "module_private").out
    result = command("types", "dump", "--module", "other", "module_private")
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        "kallsift: no loaded module called other has types of its own; modules with types: 1, for example made\n"
    )


def test_written_as_the_kernel_has_them(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(typed_kernel())
    result = command("types", "dump", "--btf-out", tmp_path / "btf")
    assert (result.code, result.out, result.err) == (0, "", "")
    made = kernel_types()
    assert (tmp_path / "btf").read_bytes() == made.data()
    assert command("types", "dump", "--module", "made", "--btf-out", tmp_path / "made").code == 0
    assert (tmp_path / "made").read_bytes() == module_types(made).data()


def test_types_of_a_file(command: Command, plant: Plant, tmp_path: Path) -> None:
    rows = [(symbol.address, symbol.type, symbol.name) for symbol in typed_kernel().symbols]
    plant(made_up(rows=[row for row in rows if "BTF" not in row[2]]))
    result = command("types", "dump", "task_struct")
    assert result.code == 1
    assert "this kernel carries no types" in result.err
    assert result.err.endswith("; name a file of the same build (--types FILE)\n")
    file = tmp_path / "btf"
    file.write_bytes(kernel_types().data())
    result = command("types", "dump", "--types", file, "task_struct")
    assert result.code == 0
    assert "/* size: 40, members: 4 */" in result.out
    file.write_bytes(kernel_types().data().replace(b"_thing", b"_other"))
    result = command("types", "dump", "--types", file, "task_struct")
    assert (result.code, result.out) == (1, "")
    assert (
        result.err
        == f"kallsift: {file}: the types are not of this build: 300 of their 300 functions are not in the kernel\n"
    )
    assert command("types", "dump", "--types", tmp_path / "absent", "task_struct").code == 1
    file.write_bytes(elf_with(kernel_types().data(), ".BTF"))
    result = command("types", "dump", "--types", file, "task_struct")
    assert (result.code, result.err) == (0, "")
    file.write_bytes(elf_with(b"", ".data"))
    result = command("types", "dump", "--types", file, "task_struct")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"kallsift: {file}: it is an ELF file without types")


def test_several_kernels(command: Command, plant: Plant) -> None:
    plant(typed_kernel(), made_up())
    result = command("types", "dump", "--all", "list_head")
    assert result.code == 3
    assert result.out.startswith("kernel 0:\nstruct list_head {")
    assert "kernel 1: this kernel carries no types" in result.err
    documents = json.loads(command("types", "dump", "--all", "--json", "list_head").out)["kernels"]
    assert [len(found["types"]) for found in documents] == [1, 0]


def test_a_damaged_type_of_one_kernel_does_not_lose_the_others(command: Command, plant: Plant) -> None:
    damaged = MadeTypes()
    damaged.struct("list_head", 16, [("next", 9999, 0)])
    for index in range(FUNCTIONS):
        damaged.function(function(index), 0, [])
    plant(typed_kernel(), typed_kernel(damaged.data()), typed_kernel())
    result = command("types", "dump", "--all", "list_head")
    assert result.code == 3
    assert result.out.count("struct list_head {") == 2
    assert result.err == "kallsift: warning: kernel 1: there is no type 9999\n"
    documents = json.loads(command("types", "dump", "--all", "--json", "list_head").out)["kernels"]
    assert [len(found["types"]) for found in documents] == [1, 0, 1]


def test_values_of_a_type_that_is_too_large_end_at_once(command: Command, plant: Plant) -> None:
    """Each of its members has many parameters; to spell those of all takes long."""
    large = MadeTypes()
    number = large.integer("int", 4)
    prototype = large.add(Kind.FUNC_PROTO, "", number, *[0, number] * 30_000, count=30_000)
    large.struct("large", 8, [("", prototype, 0)] * 200)
    plant(typed_kernel(large.data()))
    started = time.process_time()
    result = command("types", "dump", "--json", "large")
    assert (result.code, result.out) == (1, "")
    assert result.err == "kallsift: the type is too large to print, or contains itself\n"
    assert time.process_time() - started < 5


def test_usage(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(typed_kernel())
    for option in ("--json", "--all"):
        assert command("types", "dump", "--btf-out", tmp_path / "btf", option).code == 2
    assert command("types", "dump", "--btf-out", tmp_path / "no" / "btf").code == 2
