"""Find the programs and trampolines that BPF compiled (kernel/bpf/core.c)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.analysis.listings.owned_lines import OwnedLines
from kallsift.errors import UnmappedError
from kallsift.kernel.access.generated_code import GeneratedCode, has_function
from kallsift.kernel.access.list_head import ListMatcher, list_named

NAME_SIZES = (512, 128)
"""KSYM_NAME_LEN, in bytes, since 6.1 and before."""

NAME = re.compile(rb"(?:bpf_|__cfi_|__bpf_)[!-~]+")
"""Names of the code that BPF compiles."""

FIRST_NAME = int.from_bytes(b"bpf_", "little")
"""The first four bytes of the name of the list's first member."""

TREE_NODE_WORDS = 6
"""Number of words of ``struct latch_tree_node``: two nodes of three words."""

SETTINGS = {"bpf_jit_harden": 0, "bpf_jit_kallsyms": 1}
"""Variables behind net.core.bpf_jit_*, 32 bits each.

BPF's symbols are printed if each variable has the value given here.
"""

READER = "bpf_get_kallsym"
"""The function that prints the list; a kernel without it has no such list."""


def bpf_programs(code: GeneratedCode) -> Iterator[OwnedLines | str]:
    """Yield the members of BPF's list of symbols: programs and trampolines.

    In ``struct bpf_ksym`` the links stand behind start, end and name (include/linux/bpf.h). Behind the links are the
    node of a tree by address and a flag, 0 or 1, which marks a program. The range from start to end is code, and no two
    of these ranges overlap.

    Yields:
        Lines for all members that have a name, and a message for each member that has none.
    """
    kernel, memory, size = code.kernel, code.memory, code.memory.words.size
    if not has_function(kernel, READER) and kernel.symbols.find("bpf_kallsyms") is None:
        return
    for symbol, shown in SETTINGS.items():
        index = kernel.symbols.find(symbol)
        if index is not None and memory.value(kernel.symbols.symbol(index).address, 4) != shown:
            return

    def first(nodes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        begins = np.zeros(len(nodes), np.bool_)
        for room in NAME_SIZES:
            characters, held = memory.values(nodes - np.uint64(room), np.dtype("<u4"))
            begins |= held & (characters == FIRST_NAME)
        return begins

    def member(node: int) -> bool:
        return any(_is_program(code, node, room) for room in NAME_SIZES)

    def together(nodes: NDArray[np.uint64]) -> bool:
        room = max(NAME_SIZES, key=lambda room: sum(_is_program(code, node, room) for node in nodes.tolist()))
        programs = nodes[[_is_program(code, node, room) for node in nodes.tolist()]] - np.uint64(room)
        starts, ends = (memory.values(programs - np.uint64(word * size))[0] for word in (2, 1))
        order = np.argsort(starts)
        return bool((starts[order][1:] >= ends[order][:-1]).all())

    found = list_named(kernel, memory, "bpf_kallsyms", ListMatcher(first, member, together))
    yield from found.problems
    nodes = found.nodes.tolist()
    named = {room: [node for node in nodes if _is_program(code, node, room)] for room in NAME_SIZES}
    room = max(NAME_SIZES, key=lambda room: len(named[room]))
    programs = set(named[room])
    yield from (f"the list member at {node:#x} is not a BPF program" for node in nodes if node not in programs)
    nodes = named[room]
    if not nodes:
        return
    lines = [(memory.value(node - room - 2 * size), "t", memory.string(node - room, room)) for node in nodes]
    ends = np.array([memory.value(node - room - size) for node in nodes], np.uint64)
    yield OwnedLines("bpf", tuple(lines), ends - np.array([address for address, _, _ in lines], np.uint64))


def _is_program(code: GeneratedCode, node: int, room: int) -> bool:
    """Tell whether a list member is a BPF program.

    Its name must stand ``room`` bytes before its links, behind the bounds of some code.
    """
    memory, size = code.memory, code.memory.words.size
    try:
        start, end = memory.value(node - room - 2 * size), memory.value(node - room - size)
        is_named = NAME.fullmatch(memory.string(node - room, room)) is not None
        if not is_named or memory.value(node + (2 + TREE_NODE_WORDS) * size, 1) > 1:
            return False
    except UnmappedError:
        return False
    return bool(code.is_code(np.array([start], np.uint64), np.array([end], np.uint64))[0])
