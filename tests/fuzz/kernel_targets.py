"""Where the questions to a running kernel read: the places in its memory that are worth damaging."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kallsift import Kernel
from kallsift.arch.paging import LEAF, PRESENT, PagingMode
from kallsift.errors import KallsiftError
from kallsift.kernel.access.list_head import ListError, members
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.modules.exports.exports import exports
from kallsift.modules.exports.kernel import kernel_arrays
from kallsift.modules.exports.modules import module_arrays
from kallsift.modules.inventory import Inventory
from kallsift.modules.struct_module import structures_at
from kallsift.modules.symbol_tables import symbol_reader

STRUCTURE_WORDS = 200
PAGE = 4096
MOST_TABLES = 64
BTF_HEADER, BTF_RECORD, BTF_STRUCT = 24, 12, 4
NODE_WORDS = 32
"""Words of a list's member that are damaged, half of them before its links."""

LISTS = ("modules", "module_bug_list", "bpf_kallsyms", "ftrace_ops_trampoline_list", "ftrace_mod_maps")

ARRAYS = ("sys_call_table", "ia32_sys_call_table", "idt_table", "vectors", "mod_tree", "__per_cpu_offset", "modules")

VARIABLES = (
    *("module_kset", "page_offset_base", "vmalloc_base", "vmemmap_base", "memstart_addr", "phys_base", "high_memory"),
    *("max_low_pfn", "max_pfn", "vabits_actual", "pcpu_base_addr", "pcpu_unit_size", "pcpu_nr_units", "mem_section"),
    *("bpf_jit_harden", "bpf_jit_kallsyms", "kprobe_insn_slots", "kprobe_optinsn_slots", "vermagic", "sig_enforce"),
    *("modules_disabled", "module_blacklist", "kernel_locked_down", "iomem_resource", "__vmalloc_start", "ident_map"),
)


@dataclass(frozen=True)
class Target:
    """Something that is read.

    Attributes:
        kind: what it is.
        start: its address, virtual unless ``physical``.
        size: bytes.
        owner: address of the structure of the one module that it belongs to; None where others depend on it too.
        physical: what kind of address this is.
    """

    kind: str
    start: int
    size: int
    owner: int | None = None
    physical: bool = False


def targets(kernel: Kernel, memory: VirtualMemory, loaded: Inventory) -> dict[str, list[Target]]:
    """All places, by kind, at least one of each."""
    found: dict[str, list[Target]] = {}
    for target in _all(kernel, memory, loaded):
        if target.size >= memory.words.size:
            found.setdefault(target.kind, []).append(target)
    return found


def _all(kernel: Kernel, memory: VirtualMemory, loaded: Inventory) -> Iterator[Target]:
    yield from _modules(memory, loaded)
    yield from _facts(memory, loaded)
    yield from _exports(kernel, memory, loaded)
    yield from _named(kernel, memory)
    yield from _types(kernel, memory)
    yield from _page_tables(kernel, memory)


def _modules(memory: VirtualMemory, loaded: Inventory) -> Iterator[Target]:
    size = memory.words.size
    structures = structures_at(memory, np.array([one.address for one in loaded.modules], np.uint64))
    reader = symbol_reader(memory, structures)
    for module, words in zip(loaded.modules, structures.words, strict=True):
        start = module.address
        yield Target("links", start + size, 2 * size)
        yield Target("name", start + 3 * size, 7 * size, start)
        yield Target("structure", start + 10 * size, (STRUCTURE_WORDS - 10) * size, start)
        table = start + reader.place * size if reader.pointer is None else int(words[reader.pointer])
        if reader.pointer is not None:
            yield Target("pointer to kallsyms", start + reader.pointer * size, size, start)
        count = memory.value(table + reader.form.count * size, 4)
        entry = 24 if size == 8 else 16
        yield Target("kallsyms", table, 5 * size, start)
        yield Target("symbols", memory.value(table), count * entry, start)
        yield Target("strings", memory.value(table + reader.form.strings * size), 12 * count, start)
        if reader.form.letters is not None:
            yield Target("letters", memory.value(table + reader.form.letters * size), count, start)


def _facts(memory: VirtualMemory, loaded: Inventory) -> Iterator[Target]:
    size = memory.words.size
    for module in loaded.modules:
        fields, start = module.facts.fields, module.address
        if fields.kobject is not None:
            yield Target("kobject", start + fields.kobject, 12 * size)
        if fields.bug_list is not None:
            yield Target("bug list", start + fields.bug_list, 2 * size)
        if fields.users is not None:
            yield Target("users", start + fields.users, 4 * size)
            for record in members(memory, start + fields.users, PAGE).tolist():
                yield Target("use", record, 6 * size)
        for region in fields.regions:
            if region.node is not None:
                yield Target("tree", start + region.node, 7 * size)
        if fields.sections is not None and (group := memory.value(start + fields.sections)):
            yield Target("sections", group, 1024)
            pointers, held = memory.values(np.uint64(group) + np.arange(0, 1024, size, dtype=np.uint64))
            # the pointers to attributes, and these, stand in what the group was allocated with, or beside it
            for place in np.unique(pointers[held & (pointers > PAGE)])[:8].tolist():
                if memory.values(np.array([place], np.uint64))[1][0]:
                    yield Target("attributes", place, 128)
        if fields.parameters is not None and fields.parameter_count is not None:
            array = memory.value(start + fields.parameters)
            count = memory.value(start + fields.parameter_count, 4)
            yield Target("parameters", array, count * 5 * size, start)


def _exports(kernel: Kernel, memory: VirtualMemory, loaded: Inventory) -> Iterator[Target]:
    found = exports(kernel)
    for array in kernel_arrays(kernel, memory).arrays:
        width = array.form.fields * (4 if array.form.relative else memory.words.size)
        yield Target("exports", array.start, array.count * width)
        if array.crcs is not None:
            yield Target("checksums", array.crcs, array.count * 4)
    names = [export.address for export in found.of("vmlinux") if export.address]
    yield Target("exported", min(names), PAGE)
    listed = loaded.listed
    structures = structures_at(memory, np.array([one.address for one in listed], np.uint64))
    for module, arrays in zip(listed, module_arrays(memory, structures), strict=True):
        for array in arrays.arrays:
            yield Target("module's exports", array.start, array.count * 12, module.address)


def _named(kernel: Kernel, memory: VirtualMemory) -> Iterator[Target]:
    size = memory.words.size
    for name in VARIABLES:
        for symbol in kernel.symbols.all(name)[:1]:
            yield Target("variables", symbol.address, size)
    for name in ARRAYS:
        for symbol in kernel.symbols.all(name)[:1]:
            yield Target(name, symbol.address, 2 * PAGE if "table" in name else 8 * size)
    for name in LISTS:
        for symbol in kernel.symbols.all(name)[:1]:
            yield Target("heads", symbol.address, 2 * size)
            try:
                nodes = members(memory, symbol.address, PAGE).tolist()
            except ListError:
                continue
            if name != "modules":
                half = NODE_WORDS // 2 * size
                yield from (Target(name, node - half, 2 * half) for node in nodes)


def _types(kernel: Kernel, memory: VirtualMemory) -> Iterator[Target]:
    """The kernel's BTF, its header, and what of it is about ``struct module``."""
    start, stop = kernel.symbols.find("__start_BTF"), kernel.symbols.find("__stop_BTF")
    if start is None or stop is None:
        return
    low, high = kernel.symbols.symbol(start).address, kernel.symbols.symbol(stop).address
    text = memory.read(low, high - low).tobytes()
    yield Target("BTF header", low, BTF_HEADER)
    yield Target("BTF", low, high - low)
    words = np.frombuffer(text[: len(text) // 4 * 4], f"{kernel.byte_order}u4")
    strings = BTF_HEADER + int(words[4])
    name = text.find(b"\0module\0") + 1 - strings
    kinds = words[1:] >> 24 & 0x1F
    for place in np.flatnonzero((words[:-1] == name) & (kinds == BTF_STRUCT))[:1].tolist():
        yield Target("BTF of struct module", low + 4 * place, BTF_RECORD * 64)


def _page_tables(kernel: Kernel, memory: VirtualMemory) -> Iterator[Target]:
    mode, root = memory.mapping, memory.root
    if not isinstance(mode, PagingMode) or root is None:
        return
    tables = [root]
    for level in range(len(mode.shifts)):
        below: list[int] = []
        for place in tables[:MOST_TABLES]:
            try:
                entries = kernel.memory.read(place, PAGE).view(mode.entry).astype(np.uint64)
            except KallsiftError:
                continue
            yield Target(f"page table {level}", place, PAGE, physical=True)
            flags = mode.classify(entries, level)
            chosen = entries[(flags & PRESENT != 0) & (flags & LEAF == 0)]
            below += mode.target(chosen, level).tolist()
        tables = below[:: max(1, len(below) // MOST_TABLES)]
