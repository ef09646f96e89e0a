"""Find the pages with instructions that kprobes replaced.

Sources: include/linux/kprobes.h, kernel/kprobes.c.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.analysis.listings.owned_lines import Line, OwnedLines
from kallsift.arrays import is_in
from kallsift.errors import UnmappedError
from kallsift.kernel.access.generated_code import GeneratedCode, has_function
from kallsift.kernel.access.list_head import MAX_MEMBERS, ListError, members
from kallsift.kernel.access.string_search import places_of
from kallsift.kernel.access.virtual_memory import PAGE, VirtualMemory
from kallsift.kernel.placement.pointers import AFTER, BEFORE, pointers_between
from kallsift.memory.segments import BytesSegment

INSTRUCTION_PAGES = {b"kprobe_insn_page": "kprobe_insn_slots", b"kprobe_optinsn_page": "kprobe_optinsn_slots"}
"""Names of kprobes' caches, and the variables that these caches are.

The order is that in which their pages are printed.
"""

MAX_PLACES = 64
"""Highest number of strings with such a name that are followed.

For each string, at most so many pointers to it are followed.
"""

MAX_CACHE = 512
"""Greatest size in bytes of ``struct kprobe_insn_cache`` before its list.

The list stands behind a mutex, which debugging options make longer.
"""

SLOT = "optinsn_slot"
"""Symbol of the room for slots in PowerPC's own text, which is no page of its own.

Source: arch/powerpc/kernel/optprobes_head.S.
"""

READER = "kprobe_get_kallsym"
"""The function that prints the pages; a kernel without it prints none."""


def kprobe_pages(code: GeneratedCode) -> Iterator[OwnedLines | str]:
    """Yield the pages of instructions that kprobes replaced.

    In ``struct kprobe_insn_cache`` the list of pages stands behind the pointer to the cache's name. Before that pointer
    stand the pointers to the functions that allocate and free pages. Behind the links of each page stand the address of
    its instructions, which is that of a page of code, the address of its cache, and the number of slots in use.

    Yields:
        Lines with the pages, and a message for each cache whose list cannot be read.
    """
    kernel, memory, size = code.kernel, code.memory, code.memory.words.size
    if not has_function(kernel, READER):
        return
    lines: list[Line] = []
    slots = {symbol.address for symbol in kernel.symbols.all(SLOT)}
    for name, variable in INSTRUCTION_PAGES.items():
        problem = None
        # search the whole image only if no symbol names the cache
        heads = _heads_in(code, name, variable)
        if not len(heads):
            window = kernel.memory.around(kernel.tables[0].physical, BEFORE, AFTER)
            heads = np.array(list(_behind_pointers_to(code, window, b"\0" + name + b"\0")), np.uint64)
        # an image that moved itself left a copy behind, with pointers to functions that do not run
        functions = [memory.values(heads - np.uint64(word * size))[0] for word in (3, 2)]
        running = np.logical_and(*(is_in(found, kernel.symbols.addresses) for found in functions))
        for head in heads[running].tolist():
            try:
                nodes = members(memory, head, MAX_MEMBERS).tolist()
                pages = [_page(code, slots, head, node) for node in nodes]
            except (ListError, UnmappedError) as error:
                problem = f"{name.decode()}: {error}"
                continue
            if len({cache for _, cache in pages}) > 1:
                problem = f"{name.decode()}: the pages at {head:#x} belong to several caches"
                continue
            lines += [(address, "t", name) for address, _ in pages]
            problem = None
            break
        if problem is not None:
            yield problem
    if lines:
        yield OwnedLines("__builtin__kprobes", tuple(lines))


def _page(code: GeneratedCode, slots: Collection[int], head: int, node: int) -> tuple[int, int]:
    """Return the address of one page's instructions and the address of its cache.

    Raises:
        ListError: if it is no page of the cache whose list has this head.
        UnmappedError: if it cannot be read.
    """
    memory, size = code.memory, code.memory.words.size
    instructions, cache = (memory.value(node + word * size) for word in (2, 3))
    start = np.array([instructions], np.uint64)
    is_page = instructions in slots or (instructions % PAGE == 0 and bool(code.is_executable(start)[0]))
    if not is_page or not 4 * size <= head - cache <= MAX_CACHE or memory.value(node + 4 * size, 4) > PAGE:
        raise ListError(f"the list member at {node:#x} is not a page of instructions")
    return instructions, cache


def _heads_in(code: GeneratedCode, name: bytes, variable: str) -> NDArray[np.uint64]:
    """Return the addresses behind pointers to ``name`` in a variable, shape (n,).

    All variables with the name ``variable`` are searched.
    """
    memory, words = code.memory, code.memory.words
    starts = np.array([symbol.address for symbol in code.kernel.symbols.all(variable)], np.uint64)
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


def _behind_pointers_to(code: GeneratedCode, window: BytesSegment, wanted: bytes) -> Iterator[int]:
    """Yield the addresses behind words of the image that point at a string in it.

    ``wanted`` is the string with the NULs around it.
    """
    words, distance = code.memory.words, code.kernel.distance
    for place in places_of(window, wanted, MAX_PLACES):
        address = place + 1 + distance & words.mask
        for pointer in pointers_between(window, words, address, address).places[:MAX_PLACES].tolist():
            yield pointer + words.size + distance & words.mask
