"""A made-up kernel that carries types of itself and of a module, and its symbols."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kallsift.kernel.access.btf_blob import Kind
from kallsift.kernel.access.virtual_memory import virtual_memory
from kallsift.kernel.kernel import Kernel
from kallsift.types.btf import Btf
from kallsift.types.types import Types
from tests.kernel.made_types import MadeTypes
from tests.kernel.made_up import IMAGE, LARGE, WORDS, made_up
from tests.kernel.twice import function

FUNCTIONS = 300
TYPES = IMAGE + 0x10_0000
MODULES, ENTRY, BTF, MODULE, MODULE_TYPES = (IMAGE + 0x18_0000 + 0x1000 * number for number in range(5))
TASK, PER_CPU, MASK = IMAGE + 0x20_000, IMAGE + 0x30_000, IMAGE + 0x21_000
"""Places in the image."""

TASK_SIZE, RQ_OFFSET = 40, 0xA40


def kernel_types() -> MadeTypes:
    """Types of some structures that tests ask for, and of all functions."""
    types = MadeTypes()
    number = types.integer("int", 4, signed=True)
    long = types.integer("unsigned long", 8)
    char = types.integer("char", 1, signed=True)
    pointer = types.pointer(0)
    links = types.struct("list_head", 16, [("next", types.count + 2, 0), ("prev", types.count + 2, 8)])
    assert types.pointer(links) == links + 1
    inner = types.struct("", 8, [("low", number, 0), ("high", number, 4)])
    either = types.struct("", 8, [("whole", long, 0), ("", inner, 0)], Kind.UNION)
    comm = types.array(char, 8)
    types.struct(
        "task_struct", TASK_SIZE, [("pid", number, 0), ("", either, 8), ("tasks", links, 16), ("comm", comm, 32)]
    )
    types.fields("flags", 8, [("one", number, 0, 1), ("three", number, 1, 3), ("rest", number, 32, 28)])
    types.struct("rq", 64, [("nr", number, 0)])
    types.add(Kind.VAR, "runqueues", types.count, 1)
    types.add(Kind.DATASEC, ".data..percpu", 0x1000, types.count, RQ_OFFSET, 64, count=1)
    types.enum("pid_type", {"PIDTYPE_PID": 0, "PIDTYPE_MAX": 4})
    name = types.array(char, 56)
    types.struct("module", 128, [("state", number, 0), ("list", links, 8), ("name", name, 24)])
    types.struct("btf_module", 48, [("list", links, 0), ("module", pointer, 16), ("btf", pointer, 24)])
    words = [("data", pointer, 0), ("data_size", number, 8), ("start_id", number, 12), ("start_str_off", number, 16)]
    types.struct("btf", 64, words)
    callback = types.add(Kind.FUNC_PROTO, "", number, 0, pointer, 0, 0, count=2)
    types.struct("operations", 8, [("call", types.pointer(callback), 0)])
    types.add(Kind.TYPEDEF, "task_t", types.count)
    for index in range(FUNCTIONS):
        types.function(function(index), number, [("task", pointer)])
    return types


def module_types(base: MadeTypes) -> MadeTypes:
    """Types of a module, which name some of the kernel's."""
    types = MadeTypes(base)
    types.struct("module_private", 24, [("links", 5, 0), ("count", 1, 16)])
    return types


def typed_kernel(
    types: bytes | None = None, *, text_only: bool = False, changes: Mapping[int, int] | None = None
) -> Kernel:
    """The kernel; with these bytes where its types are, or symbols of functions alone, or some words changed."""
    made = kernel_types()
    data, private = made.data() if types is None else types, module_types(made)
    words = {
        **WORDS,
        **words_of(TYPES, data),
        **words_of(MODULE_TYPES, private.data()),
        MODULES: ENTRY,
        MODULES + 8: ENTRY,
        ENTRY: MODULES,
        ENTRY + 8: MODULES,
        ENTRY + 16: MODULE,
        ENTRY + 24: BTF,
        **words_of(MODULE + 24, b"made\0"),
        BTF: MODULE_TYPES,
        BTF + 8: made.count + 1 << 32 | len(private.data()),
        BTF + 16: len(made.strings),
        **(changes or {}),
    }
    rows = [(IMAGE, "T", "_text"), *((IMAGE + 0x100 * number, "T", function(number)) for number in range(FUNCTIONS))]
    if not text_only:
        rows += [
            (TASK, "D", "init_task"),
            (TASK + TASK_SIZE, "D", "behind_task"),
            (MASK, "D", "modules"),
            (MASK + 16, "D", "prog_idr"),
            (PER_CPU, "A", "__per_cpu_start"),
            (PER_CPU + RQ_OFFSET, "A", "runqueues"),
            (PER_CPU + 0x1000, "A", "__per_cpu_end"),
            (TYPES, "R", "__start_BTF"),
            (TYPES + len(data), "R", "__stop_BTF"),
            (MODULES, "D", "btf_modules"),
            (IMAGE + LARGE, "B", "_end"),
        ]
    return made_up(words, rows=rows)


def without_names(data: bytes, *names: bytes) -> bytes:
    """Types with blank bytes where some names were, as if their page were lost."""
    for name in names:
        assert data.count(b"\0" + name + b"\0") == 1
        data = data.replace(b"\0" + name + b"\0", bytes(len(name) + 2))
    return data


def words_of(address: int, data: bytes) -> dict[int, int]:
    """The words that bytes are in memory, by their addresses."""
    padded = data + bytes(-len(data) % 8)
    return {address + at: int.from_bytes(padded[at : at + 8], "little") for at in range(0, len(padded), 8)}


def types_of(made: MadeTypes | Btf) -> Types:
    """Types by themselves, of a kernel without any symbol that is named here."""
    kernel = made_up()
    return Types(made.btf() if isinstance(made, MadeTypes) else made, "made up", kernel, virtual_memory(kernel))


def array_of(data: bytes) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Bytes as an array."""
    return np.frombuffer(data, np.uint8)
