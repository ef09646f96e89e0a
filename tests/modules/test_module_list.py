"""Modules with structures as no kernel has them: what must be true finds the fields; nonsense ends in errors."""

from __future__ import annotations

from dataclasses import fields as fields_of
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kallsift.errors import KallsiftError
from kallsift.kernel.placement.pointers import Words
from kallsift.modules.field_inference import infer_layout
from kallsift.modules.hidden_modules import CROSS_VIEWS, found_elsewhere
from kallsift.modules.memory_regions import REGION_FORMS, ModuleRegion
from kallsift.modules.module_reader import FactReader
from kallsift.modules.parameters import ModuleParameter, parameters
from tests.modules.made_modules import BASE, BUILD_ID, INITIAL, STRUCTURE, Arena, Made, made_modules, without

pytestmark = pytest.mark.sampled(8)

ALL_WORDS = [Words(8, "<"), Words(8, ">"), Words(4, "<"), Words(4, ">")]

FACTS = (
    *("name", "state", "regions", "refcount", "users", "permanent", "taints", "version", "srcversion", "arguments"),
    *("sections", "build_id", "parameters", "symbols"),
)
"""What is read of a module."""

WITHOUT_SYMBOLS: Any = SimpleNamespace(symbols=SimpleNamespace(find=lambda _name: None))
"""A kernel whose table names no data."""


def reader(made: Made) -> FactReader:
    memory = made.arena.memory
    return FactReader(memory, infer_layout(memory, made.structures), made.structures, {})


@pytest.mark.parametrize("words", ALL_WORDS, ids=str)
@pytest.mark.parametrize("parts", [2, 3, 7])
@pytest.mark.parametrize("seed", range(5))
def test_fields_in_any_order(words: Words, parts: int, seed: int) -> None:
    forms = REGION_FORMS[words.size]
    form = forms[seed % len(forms)]
    made = made_modules(seed, words, parts=parts, form=form)
    assert infer_layout(made.arena.memory, made.structures) == made.fields


@pytest.mark.parametrize("words", ALL_WORDS, ids=str)
def test_facts(words: Words) -> None:
    made = made_modules(11, words, parts=2, form=REGION_FORMS[words.size][0])
    facts, address = reader(made), made.addresses[3]
    start = address - STRUCTURE
    assert facts.name(address) == "module_d"
    assert facts.state(address) == "Live"
    assert facts.regions(address) == (ModuleRegion("core", start, 0x2000), ModuleRegion("init", start + 0x2000, 0x2000))
    assert (facts.refcount(address), facts.users(address)) == (1, ("module_e",))
    assert [facts.permanent(one) for one in made.addresses] == [False, False, False, True, False]
    assert (facts.taints(address), facts.taints(made.addresses[0])) == ("O", "")
    assert (facts.version(address), facts.srcversion(address)) == ("1.3", f"{3:023X}")
    assert (facts.version(made.addresses[0]), facts.arguments(made.addresses[0])) == ("", "debug=1")
    found = facts.sections(address)
    assert found is not None
    assert (found[1].name, found[1].address) == (".init.text", start + INITIAL)
    assert facts.build_id(address) == BUILD_ID.hex()
    listed = facts.parameters(address)
    assert listed is not None
    assert [parameter.name for parameter in listed] == ["p0", "p1"]


def test_what_the_kernel_does_not_keep_is_unknown() -> None:
    """Nothing in the structures is alike, so no field can be told."""
    made = made_modules(3)
    made.arena.data[: made.arena.top // 2] = 0
    for address in made.addresses:
        made.arena.put(address, 0, width=4)
    facts = reader(made)
    assert facts.fields.unknown == tuple(field.name for field in fields_of(facts.fields))
    assert facts.refcount(made.addresses[0]) is None
    assert facts.regions(made.addresses[0]) is None
    assert facts.sections(made.addresses[0]) is None


def test_two_places_that_fit_are_none() -> None:
    made = made_modules(3)
    sections = made.fields.sections
    assert sections is not None
    for address in made.addresses:
        made.arena.put(address + 300 * 8, made.arena.memory.value(address + sections))
    found = infer_layout(made.arena.memory, made.structures)
    assert (found.sections, found.arguments, found.init) == (None, None, None)
    assert found.users == made.fields.users


@pytest.mark.parametrize("words", ALL_WORDS, ids=str)
@pytest.mark.parametrize("number", range(5))
def test_witnesses(words: Words, number: int) -> None:
    made = made_modules(7, words, form=REGION_FORMS[words.size][0])
    part, memory = without(made, number), made.arena.memory
    # which fields there are is learned from what is listed
    fields = infer_layout(memory, part.structures)
    assert fields == made.fields
    found, missing = found_elsewhere(WITHOUT_SYMBOLS, memory, fields, part.structures)
    assert missing == ()
    assert found == {address: tuple(CROSS_VIEWS) for address in made.addresses}


def test_a_broken_list_is_no_witness() -> None:
    made = made_modules(7)
    assert made.fields.bug_list is not None
    made.arena.put(made.addresses[2] + made.fields.bug_list, made.addresses[2])
    found, missing = found_elsewhere(WITHOUT_SYMBOLS, made.arena.memory, made.fields, made.structures)
    assert [line.partition(":")[0] for line in missing] == ["bug list"]
    assert found[made.addresses[2]] == ("tree", "kobject", "uses", "memory")


def test_a_tree_that_runs_in_circles_ends() -> None:
    made = made_modules(7)
    node = made.fields.regions[0].node
    assert node is not None
    for address in made.addresses:
        made.arena.put(address + node + 8, address + node + 8, made.addresses[0] + node + 8, BASE + 8)
    found, _ = found_elsewhere(WITHOUT_SYMBOLS, made.arena.memory, made.fields, made.structures)
    assert found.keys() == set(made.addresses)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("seed", range(12))
def test_random_words(seed: int) -> None:
    """A structure full of anything leads to errors of ours or to answers, in bounded time."""
    made, random = made_modules(seed), np.random.default_rng(seed)
    used = made.arena.data[: made.arena.top]
    for _ in range(6):
        places = random.integers(0, len(used) // 8, 400) * 8
        for place in places.tolist():
            value = BASE + int(random.integers(0, len(used))) if random.random() < 0.5 else int(random.integers(0, 99))
            made.arena.put(BASE + place, value)
        for solved in (made.fields, infer_layout(made.arena.memory, made.structures)):
            facts = FactReader(made.arena.memory, solved, made.structures, {BASE + 8: "array", BASE + 16: "int"})
            found_elsewhere(WITHOUT_SYMBOLS, made.arena.memory, solved, made.structures)
            for address in made.addresses:
                for name in FACTS:
                    try:
                        getattr(facts, name)(address)
                    except KallsiftError:
                        continue


@pytest.mark.parametrize("words", ALL_WORDS, ids=str)
def test_values_of_parameters(words: Words) -> None:
    """As the kernel's own functions would print them (kernel/params.c)."""
    arena, size = Arena(words), words.size
    getters = {
        arena.take(size): kind for kind in ("int", "byte", "hexint", "bool", "invbool", "charp", "string", "array")
    }
    operations = {kind: arena.take(4 * size) for kind in getters.values()}
    for address, kind in getters.items():
        arena.put(operations[kind] + 2 * size, address)
    own = arena.take(4 * size)
    number, byte, flag, text, string = (arena.take(16) for _ in range(5))
    arena.put(number, (1 << 32) - 5, 7, 9, width=4)
    arena.put(byte, 200, 1, width=1)
    arena.put(flag, 1, width=1)
    arena.put(text, arena.text("eth0"))
    arena.put(string, 8, arena.text("bond"))
    array = arena.take(8 + 3 * size)
    arena.put(array, 8, 4, width=4)
    arena.put(array + 8, arena.take(16), operations["int"], number)
    arena.put(arena.memory.value(array + 8), 3, width=4)
    empty = arena.take(size)
    made = [
        ("a", operations["int"], number, "int", "-5"),
        ("b", operations["byte"], byte, "byte", "200"),
        ("c", operations["hexint"], number + 4, "hexint", "0x000007"),
        ("d", operations["bool"], flag, "bool", "Y"),
        ("e", operations["invbool"], flag, "invbool", "N"),
        ("f", operations["charp"], text, "charp", "eth0"),
        ("g", operations["charp"], empty, "charp", "(null)"),
        ("h", operations["string"], string, "string", "bond"),
        ("i", operations["array"], array, "array", "-5,7,9"),
        ("j", own, number, None, None),
        ("k", operations["int"], BASE - 8, "int", None),
    ]
    start = arena.take(5 * size * len(made))
    for index, (name, operation, argument, _, _) in enumerate(made):
        place = start + 5 * index * size
        arena.put(place, arena.text(name), 0, operation)
        arena.put(place + 3 * size, 0o644, width=2)
        arena.put(place + 4 * size, argument)
    found = parameters(arena.memory, start, len(made), getters.get)
    assert found == tuple(ModuleParameter(name, kind, value, 0o644) for name, _, _, kind, value in made)
    with pytest.raises(KallsiftError):
        parameters(arena.memory, start, 1 << 30, getters.get)


POISONED = (0xDEAD_0000_0000_0100, 0xDEAD_0000_0000_0122)


@pytest.mark.parametrize(
    ("links", "name", "state", "is_known"),
    [
        (POISONED, b"module_d", 0, True),
        ((BASE + 0x100, BASE + 0x200), b"module_d", 0, True),
        ((0, 0), b"module_d", 0, False),
        ((0xDEAD_0000_0000_0100, 0xDEAD_0000_0000_0100), b"module_d", 0, False),
        (POISONED, b"mod le_d", 0, False),
        (POISONED, b"\0odule_d", 0, False),
        (POISONED, b"module_d", 4, False),
        (POISONED, b"module_d", 1 << 32, False),
    ],
)
def test_one_pointer_makes_no_module(links: tuple[int, int], name: bytes, state: int, is_known: bool) -> None:
    """Where structures have but one pointer back, a module that left the list has its name and links as well."""
    made = made_modules(7)
    part, address = without(made, 3), made.addresses[3]
    fields = replace(made.fields, regions=(), kobject=None, bug_list=None, users=None, uses=None)
    made.arena.put(address + 8, *links)
    made.arena.data[address + 24 - BASE :][: len(name)] = list(name)
    made.arena.put(address, state)
    found, _ = found_elsewhere(WITHOUT_SYMBOLS, made.arena.memory, fields, part.structures)
    assert (address in found) is is_known


def test_three_pointers_make_a_module_without_a_name() -> None:
    made = made_modules(7)
    address = made.addresses[3]
    made.arena.put(address + 8, 0, 0, 0)
    found, _ = found_elsewhere(WITHOUT_SYMBOLS, made.arena.memory, made.fields, without(made, 3).structures)
    assert address in found
