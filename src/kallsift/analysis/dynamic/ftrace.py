"""Find the symbols that ftrace lists (kernel/trace/ftrace.c).

These are the traced functions in the initial code of modules, and its own trampolines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.analysis.listings.owned_lines import OwnedLines
from kallsift.arrays import is_in
from kallsift.errors import KallsiftError, UnmappedError
from kallsift.kernel.access.generated_code import GeneratedCode, has_function
from kallsift.kernel.access.list_head import MAX_MEMBERS, ListError, ListMatcher, list_named, members
from kallsift.kernel.access.virtual_memory import PAGE, VirtualMemory
from kallsift.modules.struct_module import STATES, name_of, state_of

MAX_NAME = 512
"""Greatest length of a function's name, in bytes."""

FUNCTION_NAME = re.compile(rb"[!-~]+")

MAX_TRAMPOLINE = 1 << 16
"""Greatest size of a trampoline of ftrace, in bytes."""

MAX_OPERATIONS = 1 << 10
"""Greatest size of ``struct ftrace_ops``, in bytes."""

MAPS_READER = "ftrace_mod_get_kallsym"
"""The function that prints the list of maps; a kernel without it has no such list."""

TRAMPOLINE_MAKER = "arch_ftrace_update_trampoline"
"""The function that makes trampolines.

On architectures without trampolines only its weak default exists.
"""


def traced_functions(code: GeneratedCode, owners: NDArray[np.uint64]) -> Iterator[OwnedLines | str]:
    """Yield the traced functions in the initial code of modules.

    ftrace keeps them in lists by module: ``struct ftrace_mod_map``. Behind its links stand the module, the bounds of
    the code, the head of the list of functions, and their number. Behind the links of each function stand its name, its
    address and its size, 32 bits. The kernel prints as many lines as there are functions, but its loop prints the first
    function twice and never comes to the last.

    Args:
        code: generated code of the kernel.
        owners: addresses of its modules' structures, shape (n,), uint64, ascending.

    Yields:
        Lines with the functions of each module, or a message for what cannot be read.
    """
    memory, size = code.memory, code.memory.words.size
    if not has_function(code.kernel, MAPS_READER):
        return

    def first(nodes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        values, held = memory.values(nodes + np.uint64(2 * size))
        return held & is_in(values, owners)

    def member(node: int) -> bool:
        try:
            owner, start, end = (memory.value(node + word * size) for word in range(2, 5))
            functions = members(memory, node + 5 * size, MAX_MEMBERS).tolist()
            counted = memory.value(node + 7 * size, 4) == len(functions)
            is_map = owner in owners and start < end and start % PAGE == 0
            return is_map and counted and all(_is_traced(memory, function, start, end) for function in functions)
        except (ListError, UnmappedError):
            return False

    maps = list_named(code.kernel, memory, "ftrace_mod_maps", ListMatcher(first, member))
    yield from maps.problems
    for entry in maps.nodes.tolist():
        try:
            group = _functions_of_map(memory, entry)
        except KallsiftError as error:
            yield f"the ftrace map at {entry:#x}: {error}"
            continue
        if group.lines:
            yield group


def _is_traced(memory: VirtualMemory, function: int, start: int, end: int) -> bool:
    """Tell whether links belong to a named function that lies between the bounds.

    Raises:
        UnmappedError: if it cannot be read.
    """
    size = memory.words.size
    # in some releases the end is the address of the last byte
    inside = (
        start <= memory.value(function + 3 * size) < end and memory.value(function + 4 * size, 4) <= end + 1 - start
    )
    return inside and FUNCTION_NAME.fullmatch(memory.string(memory.value(function + 2 * size), MAX_NAME)) is not None


def _functions_of_map(memory: VirtualMemory, entry: int) -> OwnedLines:
    """Return the lines of one ``struct ftrace_mod_map``.

    Raises:
        KallsiftError: if it cannot be read, or belongs to no module.
    """
    size = memory.words.size
    owner = memory.value(entry + 2 * size)
    if state_of(memory, owner) not in STATES:
        raise ListError("it belongs to no module")
    functions = members(memory, entry + 5 * size, MAX_MEMBERS).tolist()
    nodes = [*functions[:1], *functions[:-1]]
    lines = [
        (memory.value(node + 3 * size), "T", memory.string(memory.value(node + 2 * size), MAX_NAME)) for node in nodes
    ]
    sizes = np.array([memory.value(node + 4 * size, 4) for node in nodes], np.uint64)
    # this names also a module that hides from the list of modules
    return OwnedLines(name_of(memory, owner), tuple(lines), sizes)


def trampolines(code: GeneratedCode) -> Iterator[OwnedLines | str]:
    """Yield the trampolines of ftrace.

    In ``struct ftrace_ops`` the address and the size of the trampoline stand before the links of the list. The last
    word of a trampoline is the address of that structure (arch/x86/kernel/ftrace.c), which begins with the address of
    the function that it calls. The trampoline lies in memory for code.

    Yields:
        Lines with all trampolines that can be read, and a message for each other list member.
    """
    memory, size = code.memory, code.memory.words.size
    named = code.kernel.symbols.find("ftrace_ops_trampoline_list") is not None
    if not named and not has_function(code.kernel, TRAMPOLINE_MAKER):
        return

    def first(nodes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        starts, held = memory.values(nodes - np.uint64(2 * size))
        sizes, there = memory.values(nodes - np.uint64(size))
        good = np.flatnonzero(held & there & (sizes > size) & (sizes < MAX_TRAMPOLINE) & (starts != 0))
        nodes_left, starts, sizes = nodes[good], starts[good], sizes[good]
        operations, back = memory.values(starts + sizes - np.uint64(size))
        back &= memory.words.wrap(nodes_left - operations) < MAX_OPERATIONS
        functions, callable_ = memory.values(operations)
        back &= callable_ & code.is_function(functions) & code.is_code(starts, starts + sizes)
        found = np.zeros(len(nodes), np.bool_)
        found[good] = back
        return found

    def member(node: int) -> bool:
        return bool(first(np.array([node], np.uint64))[0])

    found = list_named(code.kernel, memory, "ftrace_ops_trampoline_list", ListMatcher(first, member))
    yield from found.problems
    good = first(found.nodes)
    yield from (f"the list member at {node:#x} has no trampoline" for node in found.nodes[~good].tolist())
    starts, _ = memory.values(found.nodes[good] - np.uint64(2 * size))
    lines = tuple((start, "t", b"ftrace_trampoline") for start in starts.tolist())
    if lines:
        yield OwnedLines("__builtin__ftrace", lines)
