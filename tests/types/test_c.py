"""Types as C: declarations around their names, definitions with offsets, and a compiler that takes them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest

from kallsift.kernel.access.btf_blob import BtfError, Kind
from kallsift.types.type import Type
from tests.kernel.made_types import MadeTypes
from tests.types.typed_kernel import kernel_types, types_of


def test_declarations() -> None:
    made = MadeTypes()
    number = made.integer("int", 4)
    task = made.struct("task", 4, [("pid", number, 0)])
    constant = made.add(Kind.CONST, "", task)
    pointer = made.pointer(constant)
    fixed = made.add(Kind.CONST, "", pointer)
    volatile = made.add(Kind.VOLATILE, "", number)
    row = made.array(number, 3)
    rows = made.array(row, 2)
    call = made.add(Kind.FUNC_PROTO, "", pointer, 0, number, made.name("rest"), rows, 0, 0, count=3)
    nothing = made.add(Kind.FUNC_PROTO, "", 0)
    tagged = made.add(Kind.TYPE_TAG, "user", number)
    for type_, wanted in (
        (number, "int x"),
        (0, "void x"),
        (pointer, "const struct task *x"),
        (fixed, "const struct task *const x"),
        (made.pointer(volatile), "volatile int *x"),
        (rows, "int x[2][3]"),
        (made.pointer(rows), "int (*x)[2][3]"),
        (made.array(pointer, 4), "const struct task *x[4]"),
        (made.pointer(call), "const struct task *(*x)(int, int rest[2][3], ...)"),
        (made.array(made.pointer(nothing), 2), "void (*x[2])(void)"),
        (made.pointer(made.pointer(nothing)), "void (**x)(void)"),
        (made.pointer(tagged), "int *x"),
        (made.add(Kind.FWD, "other", 0), "struct other x"),
        (made.add(Kind.FWD, "either", 0, flag=True), "union either x"),
    ):
        assert Type(made.btf(), type_).spelled("x") == wanted
    assert Type(made.btf(), pointer).spelled() == "const struct task *"
    assert Type(made.btf(), call).spelled() == "const struct task *(int, int rest[2][3], ...)"


def test_a_definition() -> None:
    made = MadeTypes()
    number, byte = made.integer("int", 4), made.integer("char", 1)
    inner = made.struct("", 8, [("low", number, 0), ("high", number, 4)])
    choice = made.enum("", {"A": 0, "BB": 1})
    either = made.struct("", 8, [("", inner, 0), ("bytes", made.array(byte, 8), 0)], Kind.UNION)
    made.struct("outer", 32, [("first", byte, 0), ("", either, 8), ("choice", choice, 16), ("last", inner, 20)])
    assert types_of(made)["outer"].c() == dedent("""\
        struct outer {
        \tchar                       first;                /*     0     1 */

        \t/* XXX 7 bytes hole, try to pack */

        \tunion {
        \t\tstruct {
        \t\t\tint        low;                  /*     8     4 */
        \t\t\tint        high;                 /*    12     4 */
        \t\t};                                       /*     8     8 */
        \t\tchar               bytes[8];             /*     8     8 */
        \t};                                               /*     8     8 */
        \tenum {
        \t\tA  = 0,
        \t\tBB = 1,
        \t} choice;                                        /*    16     4 */
        \tstruct {
        \t\tint                low;                  /*    20     4 */
        \t\tint                high;                 /*    24     4 */
        \t} last;                                          /*    20     8 */

        \t/* size: 32, members: 4 */
        \t/* padding: 4 */
        };
        """)


def test_bit_fields_and_others() -> None:
    types = types_of(kernel_types())
    text = types["flags"].c()
    assert [line.split("/*")[1].split() for line in text.splitlines() if ":" in line and ";" in line] == [
        ["0:", "0", "4", "*/"],
        ["0:", "1", "4", "*/"],
        ["4:", "0", "4", "*/"],
    ]
    assert "three:3;" in text
    assert types["pid_type"].c() == "enum pid_type {\n\tPIDTYPE_PID = 0,\n\tPIDTYPE_MAX = 4,\n};\n"
    assert types["task_t"].c() == "typedef struct operations task_t;\n"
    assert types["operations"].c().splitlines()[1].split("  ")[0] == "\tint"
    assert "(*call)(void *, ...);" in types["operations"].c()
    assert types["int"].c().split() == ["int;", "/*", "size:", "4,", "signed", "*/"]
    function = types.function("read_0_thing0")
    assert function is not None
    assert function.c() == "int read_0_thing0(void *task);\n"


def test_a_typedef_of_what_has_no_name() -> None:
    made = MadeTypes()
    inner = made.struct("", 4, [("counter", made.integer("int", 4), 0)])
    made.add(Kind.TYPEDEF, "atomic_t", made.add(Kind.VOLATILE, "", inner) and inner)
    lines = types_of(made)["atomic_t"].c().splitlines()
    assert (lines[0], lines[-1]) == ("typedef struct {", "} atomic_t;")


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_a_compiler_agrees(tmp_path: Path) -> None:
    """Definitions are C, and put each member where the comment says."""
    types = types_of(kernel_types())
    names = ["list_head", "task_struct", "flags", "module", "btf_module", "btf", "operations"]
    text = "#include <stddef.h>\n" + "\n".join(types[name].c() for name in names)
    for name in names:
        for member in types[name].members:
            if member.name and member.bits is None:
                text += f'_Static_assert(offsetof(struct {name}, {member.name}) == {member.offset}, "");\n'
    (tmp_path / "types.c").write_text(text)
    done = subprocess.run(["gcc", "-c", "-o", "/dev/null", tmp_path / "types.c"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_names_are_safe_to_print() -> None:
    made = MadeTypes()
    number = made.integer("int\x1b[2J", 4)
    made.struct("evil\n", 4, [("member\x1b", number, 0)])
    text = types_of(made)["evil\n"].c()
    assert re.search(r"struct evil\\x0a \{\n\tint\\x1b\[2J +member\\x1b;", text)
    assert "\x1b" not in text


def test_what_holds_itself_ends() -> None:
    made = MadeTypes()
    made.add(Kind.TYPEDEF, "name", 1)
    pointers = made.pointer(made.count + 1)
    call = made.add(Kind.FUNC_PROTO, "", 0, 0, made.count + 2, 0, made.count + 2, count=2)
    made.pointer(call)
    both = made.struct("", 8, [("", made.count + 1, 0), ("", made.count + 1, 0)])
    made.struct("outer", 8, [("", both, 0)])
    types = types_of(made)
    for number in (pointers, call, call + 1, both):
        with pytest.raises(BtfError, match=r"does not end|too large to print"):
            _ = Type(types.btf, number).spelled("x") if number != both else Type(types.btf, number).c()
    with pytest.raises(BtfError, match="contains itself"):
        types["outer"].c()
    assert "nothing" not in types["outer"]
