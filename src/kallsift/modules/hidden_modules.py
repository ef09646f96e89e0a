"""Find modules by other structures of the kernel than the list, so that a module taken out of the list is found.

Each search is independent of the list: the trees by address, the set of objects that ``/sys/module`` shows, the list
of BUG() tables, the records of who uses whom, and the memory that is mapped near the modules. A structure that a
search finds is a module only if it begins with a state and has either several pointers back to its beginning, or
one such pointer, links and a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import KallsiftError
from kallsift.kernel.access.list_head import members
from kallsift.kernel.access.virtual_memory import PAGE, VirtualMemory
from kallsift.kernel.kernel import Kernel
from kallsift.modules.field_offsets import ModuleLayout
from kallsift.modules.module_list import MAX_MODULES
from kallsift.modules.struct_module import STATES, Structures, has_name, numbers_at

MAX_NODES = 1 << 17
"""Highest number of tree nodes, objects and records of uses."""

NODE_WORDS = 3
"""Size of ``struct rb_node`` in words: parent and colour, right, left."""

MAX_STEPS = 128
"""Highest number of links from one node of such a tree to any other.

The tree is balanced, so no branch of it has half as many.
"""

AROUND = 64 << 20
"""Distance before and behind the known modules in which memory is searched, in bytes."""

MAX_SEARCHED = 1 << 29
"""Highest number of bytes that are searched."""

MIN_BACK_POINTERS = 3
"""Lowest number of pointers to its own beginning that prove a structure without a name to be a module.

All modules have that of ``mkobj.mod`` and one in each part of their memory, of which there are two at least.
"""

POISONS = np.array([0x100, 0x122, 0x200], np.uint64)
"""Lowest bits of LIST_POISON1, of LIST_POISON2 since 4.17, and of LIST_POISON2 before (include/linux/poison.h)."""

PART = 1 << 24
"""Number of bytes that are searched at once."""

Addresses = NDArray[np.uint64]
Finder = Callable[[Kernel, VirtualMemory, ModuleLayout, Structures], Addresses]


def found_elsewhere(
    kernel: Kernel, memory: VirtualMemory, fields: ModuleLayout, listed: Structures
) -> tuple[dict[int, tuple[str, ...]], tuple[str, ...]]:
    """Return the modules to which data besides the list refer.

    Returns:
        The names in `CROSS_VIEWS` of the data that refer to a module, by the address of its structure; and for each
        search that failed a line with the reason.
    """
    found: dict[int, tuple[str, ...]] = {}
    missing = []
    for name, finder in CROSS_VIEWS.items():
        try:
            candidates = np.unique(memory.words.wrap(finder(kernel, memory, fields, listed)))
        except KallsiftError as error:
            missing.append(f"{name}: {error}")
            continue
        for address in candidates[_are_modules(memory, fields, candidates)][:MAX_MODULES].tolist():
            found[address] = (*found.get(address, ()), name)
    return found, tuple(missing)


def _are_modules(memory: VirtualMemory, fields: ModuleLayout, candidates: Addresses) -> NDArray[np.bool_]:
    """Tell which candidates are module structures.

    They begin with a state, and have a pointer back to their beginning, links and a name, or many such pointers. A
    search often came to a candidate by one of these pointers, so that one alone proves little.
    """
    states, held = memory.values(candidates, memory.words.int_dtype)
    back = np.zeros(len(candidates), np.int64)
    for offset in fields.back_pointers:
        values, there = memory.values(candidates + np.uint64(offset))
        back += there & (values == candidates)
    good = held & (states < len(STATES)) & (candidates != 0) & (back > 0)
    for index in np.flatnonzero(good & (back < MIN_BACK_POINTERS)).tolist():
        address = int(candidates[index])
        good[index] = has_name(memory, address) and _has_links(memory, address) and _is_padded(memory, address)
    return np.asarray(good)


def _is_padded(memory: VirtualMemory, address: int) -> bool:
    """Tell whether the padding between a 32-bit state and the links is zero.

    The structure is all zeros in the module's file.
    """
    padding, _ = memory.values(np.array([address + 4], np.uint64), memory.words.int_dtype)
    return memory.words.size == 4 or not padding[0]


def _has_links(memory: VirtualMemory, address: int) -> bool:
    """Tell whether a structure's links lead to memory, or are list poison.

    The kernel writes the poison when it takes the structure out of its list.
    """
    size = memory.words.size
    links, held = memory.values(np.array([address + size, address + 2 * size], np.uint64))
    left = (links[0] & np.uint64(0xFFF) == POISONS[0]) & np.isin(links[1] & np.uint64(0xFFF), POISONS[1:])
    mapped = memory.values(links)[1] & (links != 0) & (links % np.uint64(size) == 0)
    return bool(held.all() and (left or mapped.all()))


def _symbol(kernel: Kernel, name: str) -> int | None:
    index = kernel.symbols.find(name)
    return None if index is None else kernel.symbols.symbol(index).address


def _in_trees(kernel: Kernel, memory: VirtualMemory, fields: ModuleLayout, listed: Structures) -> Addresses:
    """Return the modules of all nodes in both trees by address (``mod_tree``).

    The nodes are reached by links from the nodes of known modules. Where a symbol names the trees, their roots stand
    behind a counter there (include/linux/rbtree_latch.h). A node of freed memory has left the trees but keeps its old
    links; such a region has size 0 and is left out.
    """
    size, root = memory.words.size, _symbol(kernel, "mod_tree")
    places = [(region.node, region.size) for region in fields.regions if region.node is not None]
    nodes = [
        listed.addresses[numbers_at(memory, listed, region_size) != 0] + np.uint64(node) for node, region_size in places
    ]
    owners = []
    for tree in range(2):
        # the pointer to the module stands before the two nodes, one for each tree
        behind = np.uint64((1 + tree * NODE_WORDS) * size)
        known = [node + behind for node in nodes]
        roots = [] if root is None else [memory.values(np.array([root + (1 + tree) * size], np.uint64))[0]]
        reached = _connected(memory, np.concatenate([*known, *roots, np.empty(0, np.uint64)]))
        owners.append(memory.values(reached - behind)[0])
    return np.concatenate(owners)


def _connected(memory: VirtualMemory, nodes: Addresses) -> Addresses:
    """Return these nodes of red-black trees and all nodes that their links lead to."""
    size = np.uint64(memory.words.size)
    reached = np.empty(0, np.uint64)
    for _ in range(MAX_STEPS):
        if not len(nodes) or len(reached) + len(nodes) > MAX_NODES:
            break
        reached = np.union1d(reached, nodes)
        links = [memory.values(nodes + np.uint64(word) * size)[0] for word in range(NODE_WORDS)]
        links[0] &= ~np.uint64(3)  # the lowest bits of the parent's address are the colour
        nodes = np.setdiff1d(np.concatenate(links), np.append(reached, np.uint64(0)))
    return reached


def _in_objects(kernel: Kernel, memory: VirtualMemory, fields: ModuleLayout, listed: Structures) -> Addresses:
    """Return the modules of the objects that ``/sys/module`` shows.

    The pointer to the module stands behind the object, where the object belongs to a module. A set begins with the head
    of its list. An object's links stand behind its name; its set stands behind links and parent.
    """
    if fields.kobject is None or fields.owner is None:
        return np.empty(0, np.uint64)
    size, symbol = memory.words.size, _symbol(kernel, "module_kset")
    sets = memory.values(listed.addresses + np.uint64(fields.kobject + 4 * size))[0]
    if symbol is not None:
        sets = np.append(memory.values(np.array([symbol], np.uint64))[0], sets)
    heads = sets[sets != 0][:1].tolist()
    if not heads:
        return np.empty(0, np.uint64)
    objects = members(memory, heads[0], MAX_NODES) - np.uint64(size)
    return memory.values(objects + np.uint64(fields.owner - fields.kobject))[0]


def _with_bugs(kernel: Kernel, memory: VirtualMemory, fields: ModuleLayout, listed: Structures) -> Addresses:
    """Return the members of the list of BUG() tables, in which all modules are.

    The list's head is among the results; it is no module, but a later check drops it.
    """
    symbol = _symbol(kernel, "module_bug_list")
    if fields.bug_list is None or (symbol is None and not len(listed)):
        return np.empty(0, np.uint64)
    head = int(listed.addresses[0]) + fields.bug_list if symbol is None else symbol
    return np.append(members(memory, head, MAX_MODULES), np.uint64(head)) - np.uint64(fields.bug_list)


def _in_uses(kernel: Kernel, memory: VirtualMemory, fields: ModuleLayout, listed: Structures) -> Addresses:
    """Return both ends of the records of who uses whom, ``struct module_use``.

    Only records in which a listed module takes part can be reached.
    """
    if fields.users is None or fields.uses is None:
        return np.empty(0, np.uint64)
    size = memory.words.size
    ends = np.empty(0, np.uint64)
    # in a record, the links of the two lists stand before the pointers to the two modules
    for offset, before in ((fields.users, 0), (fields.uses, 2)):
        for address in listed.addresses.tolist():
            records = members(memory, address + offset, MAX_NODES - len(ends)) - np.uint64(before * size)
            ends = np.append(ends, records)
    return np.concatenate([memory.values(ends + np.uint64((4 + end) * size))[0] for end in range(2)])


def _in_memory(kernel: Kernel, memory: VirtualMemory, fields: ModuleLayout, listed: Structures) -> Addresses:
    """Return the structures that words near the known modules point back to.

    Such a word stands at the offset of a back pointer, and its value is the beginning of the structure around it. One
    word can do that by chance: where a structure has several back pointers, a second one must confirm it.
    """
    back = fields.back_pointers
    if not len(listed) or not back:
        return np.empty(0, np.uint64)
    found = [np.empty(0, np.uint64)]
    size = memory.words.size
    for start, data in _mapped(memory, int(listed.addresses.min()) - AROUND, int(listed.addresses.max()) + AROUND):
        values = data.view(memory.words.dtype).astype(np.uint64)
        places = np.uint64(start) + np.arange(len(values), dtype=np.uint64) * np.uint64(size)
        distances = memory.words.wrap(places - values)
        found += [values[distances == np.uint64(offset)] for offset in back]
    candidates, times = np.unique(np.concatenate(found), return_counts=True)
    return candidates[times >= min(2, len(back))]


def _mapped(memory: VirtualMemory, low: int, high: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the mapped and readable bytes between two addresses, in whole pages.

    Yields:
        The address of a run of pages, and its bytes.
    """
    first, last = max(0, low) // PAGE, min(high, memory.words.mask - PAGE) // PAGE
    pages = np.arange(first, min(last, first + MAX_SEARCHED // PAGE), dtype=np.uint64) * np.uint64(PAGE)
    _, held = memory.values(pages)
    pages = pages[held]
    breaks = np.flatnonzero(np.diff(pages) != PAGE) + 1
    for run in np.split(pages, breaks):
        for part in range(0, len(run), PART // PAGE):
            chunk = run[part : part + PART // PAGE]
            try:
                yield int(chunk[0]), memory.read(int(chunk[0]), len(chunk) * PAGE)
            except KallsiftError:
                continue  # only a part of a page is readable


CROSS_VIEWS: Mapping[str, Finder] = {
    "tree": _in_trees,
    "kobject": _in_objects,
    "bug list": _with_bugs,
    "uses": _in_uses,
    "memory": _in_memory,
}
"""Functions that find modules by other means than the list, by their names."""
