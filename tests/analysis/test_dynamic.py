"""Symbols of modules, ftrace, BPF and kprobes in memory made by hand: what is damaged costs nothing but itself."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from kallsift.addresses import PhysicalAddress, VirtualAddress
from kallsift.analysis.dynamic import kprobes as kprobe_caches
from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols, dynamic_symbols
from kallsift.kernel.access.string_search import places_of
from kallsift.kernel.kernel import Kernel, TableLocation
from kallsift.kernel.placement.pointers import Words
from kallsift.memory.segments import BytesSegment
from kallsift.modules.inventory import inventory
from kallsift.modules.module_list import modules
from tests.modules.made_modules import BASE, Arena
from tests.output.sample import kernel, table

pytestmark = pytest.mark.sampled(4)

WORDS = Words(8, "<")
COUNT = 6
KALLSYMS = 40
"""Where in a module's structure its ``struct mod_kallsyms`` is, in words; the pointer to it stands before that."""

NOWHERE = 0xDEAD_0000_0000_0100
END = (1 << 64) - 8
"""The last word of the address space."""

READERS = ("ftrace_mod_get_kallsym", "arch_ftrace_update_trampoline", "bpf_get_kallsym", "kprobe_get_kallsym")
"""Functions of the kernel without which there are no such symbols."""

CODE = BASE + 0x20_0000
"""Memory where what the kernel compiled can be."""

HEADS = ("modules", "ftrace_mod_maps", "ftrace_ops_trampoline_list", "bpf_kallsyms")


@dataclass
class Made:
    """A kernel with all of it.

    Attributes:
        arena: its memory.
        heads: of its lists, by name.
        modules: addresses of the structures.
        maps: of what ftrace keeps of modules.
        programs: of BPF's links.
    """

    arena: Arena
    heads: dict[str, int]
    modules: list[int]
    maps: list[int]
    programs: list[int]

    @property
    def kernel(self) -> Kernel:
        rows = [(address, "d", name) for name, address in self.heads.items()]
        rows += [(BASE + 0x10, "T", "load_module"), (BASE + 0x20, "D", "init_task")]
        rows += [(BASE + 0x30 + 8 * number, "T", name) for number, name in enumerate(READERS)]
        place = TableLocation("names", PhysicalAddress(BASE), VirtualAddress(BASE), 0x100)
        made = kernel(sorted(rows), tables=(place,), memory=self.arena.memory.memory, distance=0)
        return replace(made, architecture=None)

    @property
    def found(self) -> DynamicSymbols:
        return dynamic_symbols(self.kernel)


def made() -> Made:
    arena = Arena(WORDS)
    heads = {name: arena.take(16) for name in HEADS}
    structures = [_module(arena, number) for number in range(COUNT)]
    arena.link(heads["modules"], [address + 8 for address in structures])
    maps = [_map(arena, owner, number) for number, owner in enumerate(structures[:3])]
    arena.link(heads["ftrace_mod_maps"], maps)
    programs = [_program(arena, number) for number in range(3)]
    arena.link(heads["bpf_kallsyms"], programs)
    arena.link(heads["ftrace_ops_trampoline_list"], [])
    return Made(arena, heads, structures, maps, programs)


def _module(arena: Arena, number: int) -> int:
    """A module with three symbols."""
    address = arena.take(400 * 8)
    arena.put(address + 24, int.from_bytes(f"mod_{number}".encode(), "little"))
    names = [b"", *(f"mod_{number}_{letter}".encode() for letter in "abc")]
    starts = [sum(len(name) + 1 for name in names[:index]) for index in range(4)]
    text = b"\0".join(names) + b"\0"
    symbols = arena.take(4 * 24 + len(text))
    strings = symbols + 4 * 24
    arena.data[strings - BASE :][: len(text)] = list(text)
    for index in range(1, 4):
        entry = struct.pack("<IBBHQQ", starts[index], 2, 0, 1, address + 0x100 * index, 8)
        arena.data[symbols + 24 * index - BASE :][:24] = list(entry)
    table = address + KALLSYMS * 8
    arena.put(table - 8, table, symbols, 4, strings, arena.text(b"rtTd"))
    return address


def _map(arena: Arena, owner: int, number: int) -> int:
    """A function of a module's initial code that was traced, twice."""
    entry, functions = arena.take(64), [arena.take(48) for _ in range(2)]
    arena.put(entry + 16, owner, 0x1000, 0x9000)
    arena.put(entry + 56, len(functions), width=4)
    arena.link(entry + 40, functions)
    for function in functions:
        arena.put(function + 16, arena.text(f"traced_{number}"), 0x2000, 16)
    return entry


def _program(arena: Arena, number: int) -> int:
    """The links behind start, end and name of what BPF compiled."""
    start = arena.take(16 + 512 + 80)
    arena.put(start, CODE + 0x10000 * number, CODE + 0x10000 * number + 64)
    name = f"bpf_prog_{number}".encode()
    arena.data[start + 16 - BASE :][: len(name)] = list(name)
    return start + 16 + 512


def owners(found: DynamicSymbols) -> list[str]:
    return [group.owner for group in found.groups]


MODULES = [f"mod_{number}" for number in range(COUNT)]
WHOLE = [*MODULES, *MODULES[:3], "bpf"]


def test_all_of_it() -> None:
    found = made().found
    assert found.missing == ()
    assert owners(found) == WHOLE
    assert [list(group.symbols.names()) for group in found.groups[:1]] == [["mod_0_a", "mod_0_b", "mod_0_c"]]
    assert found.groups[0].symbols.types().tobytes() == b"tTd"


@pytest.mark.parametrize(
    ("word", "value"),
    [
        *((0, value) for value in (NOWHERE, END, 0, BASE + 8)),
        (-1, BASE + 0x8000),
        *((1, value) for value in (0, 1, 3, 5, 1 << 21, 0xFFFF_FFFF)),
        *((2, value) for value in (NOWHERE, END, BASE + 0x7FFF)),
        *((3, value) for value in (NOWHERE, END, BASE)),
    ],
)
@pytest.mark.parametrize("damaged", [1, 2])
def test_tables_that_lead_elsewhere(word: int, value: int, damaged: int) -> None:
    """The other modules have their symbols, with their own types, and the damaged ones are named."""
    one = made()
    one.arena.data[0x7FFF] = 7
    lost = MODULES[2 : 2 + damaged]
    for address in one.modules[2 : 2 + damaged]:
        one.arena.put(address + (KALLSYMS + word) * 8, value)
    found = one.found
    assert owners(found) == [owner for owner in WHOLE[:COUNT] if owner not in lost] + WHOLE[COUNT:]
    assert found.groups[0].symbols.types().tobytes() == b"tTd"
    assert len(found.missing) == damaged
    assert all(f"the symbols of {name}" in line for name, line in zip(lost, found.missing, strict=True))


def test_names_that_are_lost() -> None:
    """Zeros among the strings of a module cost the names that they stand on; where most names are lost, all are."""
    for filling, kept in ((0, ["mod_1_a", "mod_1_c"]), (0x41, [])):
        one = made()
        (strings,) = (one.arena.memory.value(one.modules[1] + (KALLSYMS + 2) * 8),)
        one.arena.data[strings + 9 - BASE :][:8] = filling
        names = [list(group.symbols.names()) for group in one.found.groups[:COUNT] if group.owner == "mod_1"]
        assert [name for group in names for name in group if name.startswith("mod_1_")] == kept
        assert "the symbols of mod_1" in one.found.missing[0]


def test_names_that_would_fill_memory() -> None:
    """Symbols that all have the same long name."""
    one = made()
    arena, size, count = one.arena, 1 << 22, 5000
    text = count * 24
    arena.data[text + 1 : size - 1] = 0x41
    for index in range(1, count):
        arena.put(BASE + 24 * index, 1 if index < count - 1 else size - text - 2, width=4)
    arena.put(one.modules[0] + KALLSYMS * 8, BASE, count, BASE + text, BASE + size)
    arena.data[size : size + count] = ord("t")
    found = one.found
    assert owners(found)[:2] == ["mod_1", "mod_2"]
    assert "the symbols of mod_0 at" in found.missing[0]


@pytest.mark.parametrize("value", [0, NOWHERE, END, "own"])
@pytest.mark.parametrize("link", [0, 8])
def test_a_broken_list_of_modules(value: int | str, link: int) -> None:
    """The others are found from both ends; everything that reads modules says that the list is broken."""
    one = made()
    node = one.modules[3] + 8
    one.arena.put(node + link, node if value == "own" else int(value))
    found = one.found
    assert set(owners(found)) >= {*WHOLE} - {"mod_3"}
    assert "list" in found.missing[0]
    assert len(found.missing) == 1
    assert any("list" in line for line in inventory(one.kernel).missing)
    assert {module.name for module in modules(one.kernel, symbols=False).modules} >= {*MODULES} - {"mod_3"}


def test_a_list_that_leads_nowhere_costs_modules_alone() -> None:
    one = made()
    one.arena.put(one.heads["modules"], NOWHERE, NOWHERE)
    found = one.found
    assert owners(found) == WHOLE[COUNT:]
    assert "modules" in found.missing[0]


@pytest.mark.parametrize(("word", "value"), [(2, NOWHERE), (2, BASE), (5, NOWHERE), (6, 0), (2, END)])
def test_a_damaged_map_of_traced_functions(word: int, value: int) -> None:
    one = made()
    one.arena.data[:8] = 0xFF
    one.arena.put(one.maps[1] + 8 * word, value)
    found = one.found
    assert owners(found) == [*MODULES, "mod_0", "mod_2", "bpf"]
    assert f"the ftrace map at {one.maps[1]:#x}" in found.missing[0]


def test_a_damaged_program() -> None:
    one = made()
    one.arena.data[one.programs[1] - 512 - BASE :][:4] = 0
    found = one.found
    assert list(found.groups[-1].symbols.names()) == ["bpf_prog_0", "bpf_prog_2"]
    assert f"at {one.programs[1]:#x}" in found.missing[0]


def test_modules_without_symbols() -> None:
    """What modules are loaded is known though no symbol table can be read."""
    one = made()
    for address in one.modules:
        one.arena.put(address + KALLSYMS * 8, NOWHERE)
    assert [module.name for module in modules(one.kernel, symbols=False).modules] == MODULES
    assert "modules" in one.found.missing[0]


def test_taints_of_a_kernel_that_lists_no_tables_of_bugs() -> None:
    """They stand before what tells of the symbols; where modules with such tables are listed, a pointer does."""
    one = made()
    for number, address in enumerate(one.modules):
        one.arena.put(address + (KALLSYMS - 2) * 8, number % 2 << 12)
    assert [module.taints for module in inventory(one.kernel).modules] == ["", "O"] * 3
    assert "bug_list" not in inventory(one.kernel).unknown
    one.arena.link(one.arena.take(16), [address + (KALLSYMS - 4) * 8 for address in one.modules])
    assert {module.taints for module in inventory(one.kernel).modules} == {None}
    for address in one.modules:
        one.arena.put(address + (KALLSYMS - 4) * 8, 0, 0, BASE)
    assert {"taints", "bug_list"} <= {*inventory(one.kernel).unknown}


def unnamed(one: Made) -> Kernel:
    """The kernel as one whose table names no data; an array of its heads is all that its image has."""
    made = one.kernel
    kept = [symbol for symbol in made.symbols if symbol.type == "T"]
    return replace(made, symbols=table([(symbol.address, symbol.type, symbol.name) for symbol in kept]))


@pytest.mark.parametrize("word", [1, 2, 3])
def test_a_list_that_no_symbol_names(word: int) -> None:
    """A link or a name that is damaged does not hide the list."""
    one = made()
    assert [module.name for module in modules(unnamed(one)).modules] == MODULES
    one.arena.put(one.modules[3] + 8 * word, NOWHERE)
    found = modules(unnamed(one))
    assert {module.name for module in found.modules} >= {*MODULES} - {"mod_3"}
    assert found.missing


def test_a_name_that_is_none() -> None:
    one = made()
    one.arena.put(one.modules[3] + 24, 0x1B5B)
    assert any("has an invalid name" in line for line in one.found.missing)


def quirks(one: Made, odd: int) -> list[int]:
    """Links of what a driver knows of devices: a number, links, a name, some of which no module could have."""
    found = [one.arena.take(96) for _ in range(20)]
    for number, address in enumerate(found):
        name = b"REM RIO\0" if number < odd else b"MATSHITA"
        one.arena.put(address, number % 3, 0, 0, int.from_bytes(name, "little"))
    return [address + 8 for address in found]


@pytest.mark.parametrize("odd", [0, 3])
def test_a_list_that_only_looks_like_that_of_modules(odd: int) -> None:
    """It is passed over, whether the true one is behind it or nowhere; then one line says that there is none."""
    one = made()
    one.arena.link(one.heads["modules"], quirks(one, odd))
    for address in one.modules:
        one.arena.link(address + 8, [])
    found = dynamic_symbols(unnamed(one))
    (line,) = (line for line in found.missing if "module" in line)
    assert line.startswith("modules: the list of modules was not found: ")
    assert not {*owners(found)} & {*MODULES}
    one.arena.link(one.arena.take(16), [address + 8 for address in one.modules])
    assert [module.name for module in modules(unnamed(one)).modules] == MODULES


def cache(arena: Arena, functions: tuple[int, int], codes: list[int]) -> list[int]:
    """A cache of kprobes with pages of instructions; the addresses of the pages' links."""
    start, name = arena.take(96), arena.text(b"\0kprobe_insn_page") + 1
    arena.put(start + 32, *functions, name)
    pages = [arena.take(64) for _ in codes]
    arena.link(start + 56, pages)
    for page, code in zip(pages, codes, strict=True):
        arena.put(page + 16, code, start, 1)
    return pages


def test_the_copy_that_an_image_left_behind() -> None:
    """It lies before the image that runs, with the same name of a cache of kprobes, and never had a page."""
    one = made()
    arena = one.arena
    cache(arena, (0x5000, 0x5040), [])
    cache(arena, (BASE + 0x10, BASE + 0x10), [CODE])
    (group,) = (group for group in one.found.groups if group.owner == "__builtin__kprobes")
    assert [(symbol.address, symbol.name) for symbol in group.symbols] == [(CODE, "kprobe_insn_page")]


def kprobes(listed: bool) -> tuple[Made, list[int]]:
    """Memory with a cache of kprobes, and the addresses of the instructions in its pages."""
    whole = made()
    instructions = [CODE, CODE + 0x1000]
    pages = cache(whole.arena, (BASE + 0x10, BASE + 0x10), instructions)
    if listed:
        whole.heads["kprobe_insn_slots"] = whole.arena.memory.value(pages[0] + 24)
    return whole, instructions


@pytest.mark.parametrize("listed", [True, False])
def test_pages_of_kprobes(listed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a symbol names the cache, the image is not searched for it; the other cache has no symbol, and is."""
    searched: list[bytes] = []

    def search(window: BytesSegment, wanted: bytes, most: int) -> Iterator[int]:
        searched.append(wanted.strip(b"\0"))
        return places_of(window, wanted, most)

    monkeypatch.setattr(kprobe_caches, "places_of", search)
    whole, instructions = kprobes(listed)
    found = whole.found
    assert owners(found)[-1] == "__builtin__kprobes"
    assert found.groups[-1].symbols.addresses.tolist() == instructions
    assert searched == ([b"kprobe_optinsn_page"] if listed else [b"kprobe_insn_page", b"kprobe_optinsn_page"])


def test_powerpcs_slot_for_optimised_kprobes_is_no_page() -> None:
    """It lies in the kernel's own text, wherever the code before it ends."""
    one, slot = made(), BASE + 0x104
    cache(one.arena, (BASE + 0x10, BASE + 0x10), [slot])
    assert any("is not a page of instructions" in line for line in one.found.missing)
    one.heads["optinsn_slot"] = slot
    assert one.found.missing == ()
    (group,) = (group for group in one.found.groups if group.owner == "__builtin__kprobes")
    assert group.symbols.addresses.tolist() == [slot]
