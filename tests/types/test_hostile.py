"""Types that nobody would write: what is asked of them ends, with an answer or a line that says why not."""

from __future__ import annotations

import time

import numpy as np
import pytest

from kallsift.kernel.access.btf_blob import BtfBlob, BtfError, Kind
from kallsift.kernel.access.virtual_memory import virtual_memory
from kallsift.types.btf import Btf
from kallsift.types.type import Type
from kallsift.types.types import Types
from tests.kernel.made_types import FLAG, MadeTypes
from tests.types.typed_kernel import kernel_types, typed_kernel, types_of


def test_a_structure_in_itself_ends() -> None:
    """Each of some without a name has all of them, several times."""
    made = MadeTypes()
    numbers = range(1, 31)
    for _ in numbers:
        made.struct("", 8, [("", number, 0) for number in numbers] * 4)
    made.struct("module", 8, [("", number, 0) for number in numbers])
    types = types_of(made)
    assert types["module"].get("nothing") is None
    with pytest.raises(BtfError, match="too large to print"):
        types["module"].c()


def test_names_that_lead_in_circles() -> None:
    made = MadeTypes()
    made.add(Kind.TYPEDEF, "module", 1)
    circle = Type(made.btf(), 1)
    for ask in (lambda: circle.size, lambda: circle.members, lambda: circle.get("pid"), lambda: circle.parameters):
        with pytest.raises(BtfError, match="does not end"):
            ask()


def test_one_name_again_and_again() -> None:
    """Bounded by how often a name is looked for; without that it would take minutes."""
    words = np.array([9, Kind.STRUCT << 24, 8] * 60_000, np.uint32)
    started = time.process_time()
    assert types_of(Btf(BtfBlob(words, b"\0" + b"module\0" * 400_000), 8)).get("module") is None
    assert time.process_time() - started < 10


def test_arrays_of_arrays_are_too_large() -> None:
    made = MadeTypes()
    number = made.integer("int", 4)
    for _ in range(20):
        number = made.array(number, 0xFFFF_FFFF)
    with pytest.raises(BtfError, match="larger than any"):
        _ = Type(made.btf(), number).size


def test_arrays_of_pointers_are_too_large_as_well() -> None:
    made = MadeTypes()
    number = made.pointer(0)
    for _ in range(2):
        number = made.array(number, 0xFFFF_FFFF)
    with pytest.raises(BtfError, match="larger than any"):
        _ = Type(made.btf(), number).size


def test_as_many_members_as_a_count_can_have() -> None:
    """A count past the end is no type; one that is there is read."""
    with pytest.raises(BtfError, match="are not contiguous"):
        _ = BtfBlob(np.array([0, Kind.STRUCT << 24 | 0xFF_FFFF, 8], np.uint32), b"\0").starts
    made = MadeTypes()
    number, name = made.integer("int", 4), made.name("same")
    made.add(Kind.STRUCT, "wide", 4, *[name, number, 0] * 70_000, count=70_000)
    wide = types_of(made)["wide"]
    assert len(wide.members) == 70_000
    assert wide["same"].offset == 0
    with pytest.raises(BtfError, match="too large to print"):
        wide.c()


def test_names_without_an_end_and_outside() -> None:
    words = np.array([1, Kind.INT << 24, 4, 32, 0xFFFF_FFFF, Kind.INT << 24, 4, 32], np.uint32)
    btf = Btf(BtfBlob(words, b"\0" + b"x" * 5000 + b"\0"), 8)
    for number in (1, 2):
        with pytest.raises(BtfError, match="is missing or does not end"):
            btf.name(number)


def test_numbers_that_no_type_has() -> None:
    btf = kernel_types().btf()
    for number in (-1, len(btf), 1 << 40):
        with pytest.raises(BtfError, match="there is no type"):
            _ = Type(btf, number).size


def test_a_kind_that_is_newer_is_left_out() -> None:
    made = MadeTypes()
    made.integer("int", 4)
    blob = made.blob()
    blob.sizes.known[30] = True
    words = np.array([*made.words, 1, 30 << 24, 0], np.uint32)
    types = types_of(Btf(BtfBlob(words, made.strings, blob.sizes), 8))
    assert [found.kind for found in types.all("int")] == [Kind.INT]
    assert types.function("int") is None
    with pytest.raises(BtfError, match="the unknown kind 30"):
        _ = Type(types.btf, 2).kind


def test_damaged_types_have_a_repr() -> None:
    made = MadeTypes()
    made.add(Kind.TYPEDEF, "circle", 1)
    made.struct("wide", 8, [("far", 9999, 0)])
    made.function("call", 9999, [("circle", 1)])
    types = types_of(made)
    function = types.function("call")
    assert function is not None
    for each in (*types, Type(types.btf, 9999), types["wide"]["far"], types["wide"]["far"].type, *function.parameters):
        assert repr(each).isprintable()
    assert repr(types["wide"]["far"].type) == "<Type 9999: there is no type 9999>"


def test_any_words() -> None:
    random, whole = np.random.default_rng(3), kernel_types()
    names = ["task_struct", "flags", "module", "operations", "pid_type", "task_t", "int", "read_0_thing0"]
    answered = 0
    for _ in range(300):
        words = np.array(whole.words, np.uint32)
        for place in random.integers(0, 400, 3).tolist():
            few = int(random.integers(0, 20))
            words[place] = random.choice([few, few << 24, few << 24 | FLAG | few, int(random.integers(0, 1 << 32))])
        try:
            types = types_of(Btf(BtfBlob(words, whole.strings), 8))
            for name in names:
                for type_ in types.all(name):
                    assert type_.c()
                    assert type_.get("nothing") is None
                    answered += 1
        except BtfError:
            continue
    assert answered > 300


def test_a_variable_without_a_size_has_no_type() -> None:
    kernel, made = typed_kernel(), kernel_types()
    at = next(at for at, word in enumerate(made.words) if word == Kind.VAR << 24)
    made.words[at + 1] = 0
    types = Types(made.btf(), "made up", kernel, virtual_memory(kernel))
    assert types["rq"].size == 64
    found = types.of_symbol("runqueues")
    assert found is not None
    assert found.spelled() == "struct rq", "as the table of names says"
