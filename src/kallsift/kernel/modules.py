"""Loaded modules: the kernel's list of them.

Its links agree both ways, and behind those of each member stands the module's name (include/linux/module.h).
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import UnmappedError
from kallsift.kernel.lists import ListError, heads_of_image, members
from kallsift.kernel.model import Kernel
from kallsift.kernel.module_structures import MAX_NAME, STATES, ModulesError, Structures, structures_at
from kallsift.kernel.module_symbols import Module, symbol_reader
from kallsift.kernel.virtual import VirtualMemory, virtual_memory

MAX_MODULES = 1 << 14
"""Modules that are followed at most; a machine has some hundreds."""

NAME = re.compile(rb"\w{2,}", re.ASCII)

NAME_CHARACTERS = np.isin(
    np.arange(256), np.frombuffer(b"0123456789_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", np.uint8)
)
"""Which bytes can be characters of a module's name."""


def modules(kernel: Kernel) -> tuple[Module, ...]:
    """The modules that the kernel's list has, in its order: the last one that was loaded first.

    Raises:
        ModulesError: if the list or what its members keep cannot be found or read; says why.
        KallsiftError: if the list is broken, or the kernel does not run.
    """
    memory = virtual_memory(kernel)
    listed = listed_structures(kernel, memory)
    if not len(listed):
        return ()
    reader = symbol_reader(memory, listed)
    return tuple(reader.module(listed, number) for number in range(len(listed)))


def listed_structures(kernel: Kernel, memory: VirtualMemory) -> Structures:
    """The structures of the modules that the kernel's list has, in its order.

    Raises:
        ModulesError: if the list cannot be found.
        ListError: if it is broken.
    """
    if "load_module" not in kernel.symbols:
        return structures_at(memory, np.empty(0, np.uint64))  # built without support for modules
    # before the links is a module's state
    return structures_at(memory, _members(kernel, memory) - np.uint64(memory.words.size))


def _members(kernel: Kernel, memory: VirtualMemory) -> NDArray[np.uint64]:
    """The members of the list that ``modules`` names, or, where only text is listed, of the one that looks like it."""
    index = kernel.symbols.find("modules")
    if index is not None:
        return members(memory, kernel.symbols.symbol(index).address, MAX_MODULES)
    for heads, firsts in heads_of_image(kernel, memory):
        for head in heads[_named(memory, firsts)].tolist():
            try:
                nodes = members(memory, head, MAX_MODULES)
                names = [memory.string(node + 2 * memory.words.size, MAX_NAME) for node in nodes.tolist()]
            except (ListError, UnmappedError):
                continue
            if all(NAME.fullmatch(name) for name in names):
                return nodes
    raise ModulesError("the kernel's table does not list the symbol 'modules', and no list looks like that of modules")


def _named(memory: VirtualMemory, nodes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which members of lists stand between a module's state and the characters of its name."""
    size = np.uint64(memory.words.size)
    states, held = memory.values(nodes - size, memory.words.int_dtype)
    good = held & (states < len(STATES))
    for character in range(2):
        values, there = memory.values(nodes + size + size + np.uint64(character), np.dtype("u1"))
        good &= there & NAME_CHARACTERS[values]
    return good
