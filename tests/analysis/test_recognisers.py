"""What must be true of each list that no symbol names: where one equation alone is broken, nothing is answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from kallsift.addresses import PhysicalAddress, VirtualAddress
from kallsift.analysis.dynamic.dynamic_symbols import dynamic_symbols
from kallsift.kernel.access.generated_code import GeneratedCode
from kallsift.kernel.access.virtual_memory import virtual_memory
from kallsift.kernel.kernel import Kernel, TableLocation
from kallsift.kernel.placement.pointers import Words
from kallsift.memory.segments import BytesSegment
from tests.analysis.soup import ALL_READERS
from tests.kernel.made_up import DIRECT, IMAGE, LARGE, VMALLOC, made_up
from tests.modules.made_modules import BASE, Arena
from tests.output.sample import kernel, table

pytestmark = pytest.mark.sampled(5)

IMAGE_END = BASE + 0x10_0000
CODE = BASE + 0x20_0000
"""Where memory may be code: behind the image."""

FUNCTION = BASE + 0x800

NO_EXECUTION = 1 << 63
"""The bit of x86's entries (Intel SDM 3A, "Paging")."""

Change = Callable[["Made"], None]


@dataclass
class Made:
    """A kernel whose table names text alone.

    Attributes:
        arena: its memory.
        readers: the functions that it has, with their letters.
        parts: addresses of what was made.
    """

    arena: Arena
    readers: dict[str, str]
    parts: dict[str, int]

    @property
    def kernel(self) -> Kernel:
        rows = [(BASE, "T", "_stext"), (FUNCTION, "t", "a_function"), (IMAGE_END - 0x100, "T", "_etext")]
        rows += [(BASE + 0x100 * number, kind, name) for number, (name, kind) in enumerate(self.readers.items(), 1)]
        place = TableLocation("names", PhysicalAddress(BASE), VirtualAddress(BASE), 0x100)
        made = kernel(sorted(rows), tables=(place,), memory=self.arena.memory.memory, distance=0)
        return replace(made, architecture=None)

    @property
    def owners(self) -> list[str]:
        return [group.owner for group in dynamic_symbols(self.kernel).groups]

    def put(self, part: str, word: int, *values: int) -> None:
        self.arena.put(self.parts[part] + 8 * word, *values)


def empty() -> Made:
    return Made(Arena(Words(8, "<")), dict.fromkeys(ALL_READERS, "T"), {})


def trampoline() -> Made:
    made = empty()
    operations, head = made.arena.take(256), made.arena.take(16)
    node = operations + 0x90
    made.arena.put(operations, FUNCTION)
    made.arena.put(node - 16, CODE, 0x100)
    made.arena.put(CODE + 0xF8, operations)
    made.arena.link(head, [node])
    made.parts |= {"operations": operations, "node": node}
    return made


def program() -> Made:
    """Two of BPF's, side by side."""
    made = empty()
    head, nodes = made.arena.take(16), []
    for number in range(2):
        start = made.arena.take(16 + 512 + 80)
        made.arena.put(start, CODE + 0x40 * number, CODE + 0x40 * number + 0x40)
        name = b"bpf_prog_%d" % number
        made.arena.data[start + 16 - BASE :][: len(name)] = list(name)
        nodes.append(start + 16 + 512)
    made.arena.link(head, nodes)
    made.parts |= {"start": nodes[0] - 528, "name": nodes[0] - 512, "node": nodes[0]}
    return made


def page() -> Made:
    """A page of kprobes."""
    made = empty()
    start, name, page = made.arena.take(96), made.arena.text(b"\0kprobe_insn_page") + 1, made.arena.take(64)
    made.arena.put(start + 32, FUNCTION, FUNCTION, name)
    made.arena.link(start + 56, [page])
    made.arena.put(page + 16, CODE, start, 1)
    made.parts |= {"cache": start, "page": page, "name": name}
    return made


def modules(count: int = 3) -> Made:
    """Modules with an object each, and without any symbol table."""
    made = empty()
    structures = [made.arena.take(400 * 8) for _ in range(count)]
    for number, address in enumerate(structures):
        name = f"module_{number}"
        made.arena.put(address + 24, *np.frombuffer(name.encode().ljust(16, b"\0"), "<u8").tolist())
        made.arena.put(address + 20 * 8, made.arena.text(name))
        made.arena.put(address + 29 * 8, address)
        made.parts[f"module {number}"] = address
    made.arena.link(made.arena.take(16), [address + 8 for address in structures])
    return made


def traced() -> Made:
    """Modules, of which one has functions that were traced."""
    made = modules()
    head, entry, function = made.arena.take(16), made.arena.take(80), made.arena.take(48)
    made.arena.put(entry + 16, made.parts["module 0"], CODE, CODE + 0x1000)
    made.arena.put(entry + 56, 1, width=4)
    made.arena.link(entry + 40, [function])
    made.arena.put(function + 16, made.arena.text("traced_function"), CODE + 0x40, 0x40)
    made.arena.link(head, [entry])
    made.parts |= {"map": entry, "function": function}
    return made


def put(part: str, word: int, *values: int) -> Change:
    return lambda made: made.put(part, word, *values)


def letter(name: str, kind: str | None) -> Change:
    """The function has another letter, or is not there."""

    def change(made: Made) -> None:
        del made.readers[name]
        made.readers |= {name: kind} if kind else {}

    return change


def text(part: str, value: bytes) -> Change:
    def change(made: Made) -> None:
        made.arena.data[made.parts[part] - BASE :][: len(value)] = list(value)

    return change


def nothing(_: Made) -> None:
    pass


def trampoline_in_the_image(made: Made) -> None:
    made.put("node", -2, BASE + 0x1000)
    made.arena.put(BASE + 0x10F8, made.parts["operations"])


TRAMPOLINE = "arch_ftrace_update_trampoline"

CASES: dict[str, tuple[Callable[[], Made], str, dict[str, Change]]] = {
    "trampoline": (
        trampoline,
        "__builtin__ftrace",
        {
            "weak default": letter(TRAMPOLINE, "W"),
            "no such function": letter(TRAMPOLINE, None),
            "in the image": trampoline_in_the_image,
            "nowhere": put("node", -2, 0xDEAD_0000),
            "too large": put("node", -1, 1 << 20),
            "no size": put("node", -1, 0),
            "last word": lambda made: made.arena.put(CODE + 0xF8, CODE),
            "function": put("operations", 0, FUNCTION + 1),
        },
    ),
    "bpf": (
        program,
        "bpf",
        {
            "no such function": letter("bpf_get_kallsym", None),
            "in the image": put("start", 0, BASE + 0x1000, BASE + 0x1040),
            "nowhere": put("start", 0, 0xDEAD_0000, 0xDEAD_0040),
            "begins in the image": put("start", 0, BASE + 0x1000, CODE),
            "no size": put("start", 1, CODE),
            "backwards": put("start", 0, CODE + 0x40, CODE),
            "overlapping": put("start", 1, CODE + 0x44),
            "name": text("name", b"bpx_"),
            "blank": text("name", b"bpf_prog 0"),
            "nothing behind": text("name", b"bpf_\0"),
            "no flag": put("node", 8, 2),
        },
    ),
    "kprobes": (
        page,
        "__builtin__kprobes",
        {
            "no such function": letter("kprobe_get_kallsym", None),
            "in the image": put("page", 2, BASE + 0x1000),
            "nowhere": put("page", 2, 0xDEAD_0000),
            "no page": put("page", 2, CODE + 0x10),
            "other cache": put("page", 3, CODE),
            "its own cache": lambda made: made.put("page", 3, made.parts["page"]),
            "slots": put("page", 4, 0x1001),
            "allocates": put("cache", 4, FUNCTION + 1),
            "frees": put("cache", 5, FUNCTION + 1),
            "name": text("name", b"k\0"),
        },
    ),
    "traced": (
        traced,
        "module_0",
        {
            "no such function": letter("ftrace_mod_get_kallsym", None),
            "number": put("map", 7, 2),
            "no module": lambda made: made.put("map", 2, made.parts["map"]),
            "bounds": put("map", 3, CODE + 0x1000),
            "no page": put("map", 3, CODE + 0x10),
            "elsewhere": put("function", 3, CODE + 0x1040),
            "too large": put("function", 4, 0x2000),
            "name": lambda made: made.put("function", 2, made.arena.text("a name")),
            "no name": lambda made: made.put("function", 2, made.arena.text("")),
        },
    ),
}

MUTATIONS = [(name, mutation) for name, (_, _, mutations) in CASES.items() for mutation in mutations]


@pytest.mark.parametrize("name", CASES)
def test_whole(name: str) -> None:
    make, owner, _ = CASES[name]
    assert make().owners == [owner]


@pytest.mark.parametrize(("name", "mutation"), MUTATIONS, ids=lambda value: value.replace(" ", "_"))
def test_one_equation_is_broken(name: str, mutation: str) -> None:
    make, owner, mutations = CASES[name]
    made = make()
    mutations[mutation](made)
    assert owner not in made.owners


def listed(made: Made) -> bool:
    """Whether the modules' list was found."""
    return not any("was not found" in line for line in dynamic_symbols(made.kernel).missing)


@pytest.mark.parametrize("count", [1, 3])
def test_modules_without_symbol_tables(count: int) -> None:
    assert listed(modules(count))


@pytest.mark.parametrize(
    "change",
    {
        "two of a name": lambda made: made.arena.put(
            made.parts["module 1"] + 24, made.arena.memory.value(made.parts["module 0"] + 24)
        ),
        "names of objects": lambda made: [
            made.put(f"module {number}", 20, made.arena.text(f"other_{number}")) for number in range(3)
        ],
        "back to themselves": lambda made: [made.put(f"module {number}", 29, CODE) for number in range(3)],
        "states": lambda made: [made.put(f"module {number}", 0, 4) for number in range(3)],
        "behind the name": lambda made: [made.put(f"module {number}", 6, 1) for number in range(3)],
        "no loader": letter("load_module", None),
    }.items(),
    ids=lambda change: change[0].replace(" ", "_"),
)
def test_what_is_no_list_of_modules(change: tuple[str, Callable[[Made], object]]) -> None:
    name, happen = change
    made = modules()
    happen(made)
    if name == "no loader":
        assert dynamic_symbols(made.kernel).missing == ()
    else:
        assert not listed(made)


def test_modules_in_the_image() -> None:
    """What lies there was linked, not loaded."""
    made = modules()
    made.readers |= {"far": "T"}
    kernel = made.kernel
    assert listed(made)
    places = [(BASE + (1 << 24) if symbol.name == "far" else symbol.address, symbol) for symbol in kernel.symbols]
    grown = replace(kernel, symbols=table([(place, symbol.type, symbol.name) for place, symbol in places]))
    assert any("was not found" in line for line in dynamic_symbols(grown).missing)


def test_code_is_what_may_be_executed() -> None:
    """Pages without execution, the image and what nothing maps are none."""
    made = made_up()
    places = np.array([IMAGE, DIRECT, VMALLOC, 0x1000], np.uint64)
    data, *tables = made.memory.segments
    assert code_of(made).is_executable(places).tolist() == [False] * 4
    granting = []
    for segment in tables:
        entries = made.memory.read(segment.start, segment.end - segment.start).view("<u8") & np.uint64(NO_EXECUTION - 1)
        granting.append(BytesSegment(segment.start, entries.view(np.uint8)))
    made = replace(made, memory=replace(made.memory, segments=(data, *granting)))
    assert code_of(made).is_executable(places).tolist() == [False, True, True, False]
    starts = np.array([VMALLOC, VMALLOC, VMALLOC + LARGE - 8], np.uint64)
    ends = np.array([VMALLOC + LARGE, VMALLOC, VMALLOC + LARGE + 8], np.uint64)
    assert code_of(made).is_code(starts, ends).tolist() == [True, False, False]


def code_of(made: Kernel) -> GeneratedCode:
    return GeneratedCode(made, virtual_memory(made), np.empty(0, np.uint64))
