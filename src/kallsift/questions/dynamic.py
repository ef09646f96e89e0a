"""Everything in ``/proc/kallsyms`` behind the built-in table, in the kernel's order (kernel/kallsyms.c).

Modules; functions of theirs that are gone but were traced; trampolines of ftrace; programs and trampolines of BPF;
pages with instructions that kprobes replaced. What cannot be read is named, never left out silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import is_in
from kallsift.errors import KallsiftError, UnmappedError
from kallsift.kallsyms.table import SymbolTable
from kallsift.kernel.lists import MAX_MEMBERS, ListError, Recognition, list_named, members
from kallsift.kernel.model import Kernel, State
from kallsift.kernel.pointers import AFTER, BEFORE, pointers_between
from kallsift.kernel.strings import places_of
from kallsift.kernel.virtual import VirtualMemory, virtual_memory
from kallsift.memory.model import Segment
from kallsift.modules.equations import region_places
from kallsift.modules.module_list import Module, modules
from kallsift.modules.regions import bounds
from kallsift.modules.structures import STATES, name_of, state_of, structures_at

MAX_NAME = 512

NAME_SIZES = (512, 128)
"""KSYM_NAME_LEN, in bytes, since 6.1 and before."""

BPF_NAMES = (b"bpf_", b"__cfi_", b"__bpf_")
"""How names of what BPF compiled begin."""

BPF_SETTINGS = {"bpf_jit_harden": 0, "bpf_jit_kallsyms": 1}
"""Variables behind net.core.bpf_jit_*, 32 bits, and with what values of theirs BPF's symbols are printed."""

MAX_TRAMPOLINE = 1 << 16
"""Bytes of a trampoline of ftrace at most."""

MAX_OPERATIONS = 1 << 10
"""Bytes of ``struct ftrace_ops`` at most."""

INSTRUCTION_PAGES = {b"kprobe_insn_page": "kprobe_insn_slots", b"kprobe_optinsn_page": "kprobe_optinsn_slots"}
"""Names of kprobes' caches, in the order in which their pages are printed, and the variables that these are."""

MAX_CACHE = 1 << 9
"""Bytes of ``struct kprobe_insn_cache`` at most, whatever its mutex is built with."""

MAX_PLACES = 64
"""Places of such a name, and words that point at it, that are followed at most."""

LEAST_ADDRESS = 1 << 12

Line = tuple[int, str, bytes]
"""Address, letter and name."""


@dataclass(frozen=True, eq=False)
class Group:
    """Symbols of one owner.

    Attributes:
        owner: what ``/proc/kallsyms`` writes in brackets.
        symbols: in the order in which it prints them.
        regions: a module's memory, its code first; where that is all that is known, its data lie anywhere.
        sizes: of each symbol in bytes, shape (n,), uint64; None where the kernel keeps none.
    """

    owner: str
    symbols: SymbolTable
    regions: tuple[range, ...] = ()
    sizes: NDArray[np.uint64] | None = None


@dataclass(frozen=True, eq=False)
class Dynamic:
    """All symbols but the built-in ones.

    Attributes:
        groups: in the kernel's order.
        missing: what could not be read, one line each.
    """

    groups: tuple[Group, ...] = ()
    missing: tuple[str, ...] = ()


def dynamic_symbols(kernel: Kernel) -> Dynamic:
    """What a running kernel has beside its built-in symbols; nothing for images and copies, where nothing runs."""
    if kernel.memory.image is not None or kernel.state not in (State.RUNNING, State.GUEST):
        return Dynamic()
    groups: list[Group] = []
    missing: list[str] = []
    try:
        memory = virtual_memory(kernel)
    except KallsiftError as error:
        return Dynamic((), (f"all but the built-in symbols: {error}",))
    found: tuple[Module, ...] = ()
    try:
        listed = modules(kernel)
    except KallsiftError as error:
        missing.append(f"modules: {error}")
    else:
        found = listed.modules
        missing += (f"modules: {line}" for line in listed.missing)
    groups += _of_modules(kernel, memory, found)
    sources: tuple[tuple[str, Callable[[], Iterator[Group | str]]], ...] = (
        ("functions of modules that were traced", lambda: _traced(kernel, memory, found)),
        ("trampolines of ftrace", lambda: _trampolines(kernel, memory)),
        ("BPF programs", lambda: _bpf(kernel, memory)),
        ("pages of kprobes", lambda: _kprobes(kernel, memory)),
    )
    for name, source in sources:
        try:
            for part in source():
                if isinstance(part, Group):
                    groups.append(part)
                else:
                    missing.append(f"{name}: {part}")
        except KallsiftError as error:
            missing.append(f"{name}: {error}")
    return Dynamic(tuple(groups), tuple(missing))


def _of_modules(kernel: Kernel, memory: VirtualMemory, found: Sequence[Module]) -> Iterator[Group]:
    """The symbols of those modules whose symbols are known."""
    known = [(module, module.symbols) for module in found if module.symbols is not None]
    structures = structures_at(memory, np.array([module.address for module, _ in known], np.uint64))
    places = region_places(kernel, memory, structures)
    for module, symbols in known:
        yield Group(module.name, symbols, bounds(memory, module.address, places))


def _table(lines: Sequence[Line], word_size: int) -> SymbolTable:
    texts = [letter.encode() + name for _, letter, name in lines]
    bounds = np.concatenate(([0], np.cumsum([len(text) for text in texts]))).astype(np.int64)
    addresses = np.array([address for address, _, _ in lines], np.uint64)
    return SymbolTable(addresses, np.frombuffer(b"".join(texts), np.uint8), bounds, word_size)


def _traced(kernel: Kernel, memory: VirtualMemory, found: Sequence[Module]) -> Iterator[Group | str]:
    """Functions of modules' initial code, which ftrace keeps in lists by module: ``struct ftrace_mod_map``.

    Behind its links stand the module, the bounds of the code and the head of the functions' list; behind the links of
    each of these its name, its address and its size, 32 bits (kernel/trace/ftrace.c). The kernel prints as many lines
    as there are functions, but its loop stays at the first for two of them, and so never comes to the last.

    Yields:
        The functions of each module, or what cannot be read, a line.
    """
    size = memory.words.size
    listed = {module.address for module in found}
    owners = np.array(sorted(listed), np.uint64)

    def first(nodes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        values, held = memory.values(nodes + np.uint64(2 * size))
        return held & is_in(values, owners)

    def member(node: int) -> bool:
        try:
            owner, start, end = (memory.value(node + word * size) for word in range(2, 5))
            functions = members(memory, node + 5 * size, MAX_MEMBERS).tolist()
            return owner in listed and all(start <= memory.value(function + 3 * size) < end for function in functions)
        except (ListError, UnmappedError):
            return False

    maps = list_named(kernel, memory, "ftrace_mod_maps", Recognition(first, member))
    yield from maps.problems
    for entry in maps.nodes.tolist():
        try:
            group = _functions_of_map(memory, entry)
        except KallsiftError as error:
            yield f"the map at {entry:#x}: {error}"
            continue
        if len(group.symbols):
            yield group


def _functions_of_map(memory: VirtualMemory, entry: int) -> Group:
    """What one ``struct ftrace_mod_map`` keeps.

    Raises:
        KallsiftError: if it cannot be read, or is of no module.
    """
    size = memory.words.size
    owner = memory.value(entry + 2 * size)
    if state_of(memory, owner) not in STATES:
        raise ListError("it is of no module")
    functions = members(memory, entry + 5 * size, MAX_MEMBERS).tolist()
    nodes = [*functions[:1], *functions[:-1]]
    lines = [
        (memory.value(node + 3 * size), "T", memory.string(memory.value(node + 2 * size), MAX_NAME)) for node in nodes
    ]
    sizes = np.array([memory.value(node + 4 * size, 4) for node in nodes], np.uint64)
    # a module that hides from the list is named here all the same
    return Group(name_of(memory, owner), _table(lines, size), sizes=sizes)


def _trampolines(kernel: Kernel, memory: VirtualMemory) -> Iterator[Group | str]:
    """In ``struct ftrace_ops`` a trampoline's address and size stand before the links of the list of trampolines.

    The last word of a trampoline is the address of that structure (arch/x86/kernel/ftrace.c), by which it is recognised
    where no symbol names the list.

    Yields:
        All that there is memory of, and for each other a line.
    """
    size = memory.words.size

    def first(nodes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        starts, held = memory.values(nodes - np.uint64(2 * size))
        sizes, there = memory.values(nodes - np.uint64(size))
        good = held & there & (starts >= LEAST_ADDRESS) & (sizes > size) & (sizes < MAX_TRAMPOLINE)
        operations, back = memory.values(np.where(good, starts + sizes - np.uint64(size), nodes))
        return np.asarray(good & back & (nodes - operations < MAX_OPERATIONS))

    def member(node: int) -> bool:
        return bool(first(np.array([node], np.uint64))[0])

    found = list_named(kernel, memory, "ftrace_ops_trampoline_list", Recognition(first, member))
    yield from found.problems
    starts, held = memory.values(found.nodes - np.uint64(2 * size))
    held &= memory.values(starts)[1]
    yield from (f"what is listed at {node:#x} leads to none" for node in found.nodes[~held].tolist())
    lines = [(start, "t", b"ftrace_trampoline") for start in starts[held].tolist()]
    if lines:
        yield Group("__builtin__ftrace", _table(lines, size))


def _bpf(kernel: Kernel, memory: VirtualMemory) -> Iterator[Group | str]:
    """In ``struct bpf_ksym`` the links stand behind start, end and name (include/linux/bpf.h).

    Yields:
        All that have a name, and for each that has none a line.
    """
    size = memory.words.size
    for symbol, shown in BPF_SETTINGS.items():
        index = kernel.symbols.find(symbol)
        if index is not None and memory.value(kernel.symbols.symbol(index).address, 4) != shown:
            return

    def first(nodes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        begins = np.zeros(len(nodes), np.bool_)
        for room in NAME_SIZES:
            characters, held = memory.values(nodes - np.uint64(room), np.dtype("<u4"))
            begins |= held & (characters == int.from_bytes(BPF_NAMES[0], "little"))
        return begins

    def member(node: int) -> bool:
        return any(_is_bpf(memory, node, room) for room in NAME_SIZES)

    found = list_named(kernel, memory, "bpf_kallsyms", Recognition(first, member))
    yield from found.problems
    nodes = found.nodes.tolist()
    named = {room: [node for node in nodes if _is_bpf(memory, node, room)] for room in NAME_SIZES}
    room = max(NAME_SIZES, key=lambda room: len(named[room]))
    yield from (f"at {node:#x} is none, but in their list" for node in nodes if not _is_bpf(memory, node, room))
    nodes = named[room]
    if not nodes:
        return
    lines = [(memory.value(node - room - 2 * size), "t", memory.string(node - room, room)) for node in nodes]
    ends = np.array([memory.value(node - room - size) for node in nodes], np.uint64)
    table = _table(lines, size)
    yield Group("bpf", table, sizes=ends - table.addresses)


def _is_bpf(memory: VirtualMemory, node: int, room: int) -> bool:
    """Whether a member's name stands ``room`` bytes before its links, behind the bounds of some code."""
    size = memory.words.size
    try:
        start, end = memory.value(node - room - 2 * size), memory.value(node - room - size)
        return LEAST_ADDRESS < start < end and memory.string(node - room, room).startswith(BPF_NAMES)
    except UnmappedError:
        return False


def _kprobes(kernel: Kernel, memory: VirtualMemory) -> Iterator[Group | str]:
    """In ``struct kprobe_insn_cache`` the list of pages stands behind the pointer to the cache's name.

    Before that pointer stand those to the functions that allocate and free pages; behind the links of each page stands
    the address of its instructions (include/linux/kprobes.h, kernel/kprobes.c).

    Yields:
        The pages, and a line where a cache's list cannot be read.
    """
    size = memory.words.size
    lines: list[Line] = []
    for name, variable in INSTRUCTION_PAGES.items():
        problem = None
        # only where no symbol tells of it is the whole image searched
        heads = _heads_in(kernel, memory, name, variable)
        if not len(heads):
            window = kernel.memory.around(kernel.tables[0].physical, BEFORE, AFTER)
            heads = np.array(list(_behind_pointers_to(kernel, memory, window, b"\0" + name + b"\0")), np.uint64)
        # an image that moved itself left a copy behind, whose functions are not the running ones
        running = is_in(memory.values(heads - np.uint64(2 * size))[0], kernel.symbols.addresses)
        for head in heads[np.argsort(~running, kind="stable")].tolist():
            try:
                nodes = members(memory, head, MAX_MEMBERS).tolist()
                instructions = [memory.value(node + 2 * size) for node in nodes]
            except (ListError, UnmappedError) as error:
                problem = f"{name.decode()}: {error}"
                continue
            lines += [(address, "t", name) for address in instructions]
            problem = None
            break
        if problem is not None:
            yield problem
    if lines:
        yield Group("__builtin__kprobes", _table(lines, size))


def _heads_in(kernel: Kernel, memory: VirtualMemory, name: bytes, variable: str) -> NDArray[np.uint64]:
    """Return what stands behind a pointer to ``name`` in the variables so called; shape (n,)."""
    words = memory.words
    starts = np.array([symbol.address for symbol in kernel.symbols.all(variable)], np.uint64)
    steps = np.arange(0, MAX_CACHE, words.size).astype(np.uint64)
    places: NDArray[np.uint64] = (starts[:, None] + steps).ravel()
    values, held = memory.values(places)
    beginning = np.dtype(f"{words.byte_order}u4")
    characters, readable = memory.values(values, beginning)
    wanted = int(np.frombuffer(name[:4], beginning)[0])
    likely = np.flatnonzero(held & readable & (characters == wanted)).tolist()
    heads = [int(places[i]) + words.size for i in likely if _reads(memory, int(values[i]), name)]
    return np.array(heads, np.uint64)


def _reads(memory: VirtualMemory, address: int, text: bytes) -> bool:
    """Tell whether a text with a NUL behind it stands at an address."""
    try:
        return memory.string(address, len(text) + 1) == text
    except UnmappedError:
        return False


def _behind_pointers_to(kernel: Kernel, memory: VirtualMemory, window: Segment, wanted: bytes) -> Iterator[int]:
    """Addresses behind words of the image that point at a string of it; ``wanted`` is that with the NULs around it."""
    words = memory.words
    for place in places_of(window, wanted, MAX_PLACES):
        address = place + 1 + kernel.distance & words.mask
        for pointer in pointers_between(window, words, address, address).places[:MAX_PLACES].tolist():
            yield pointer + words.size + kernel.distance & words.mask
