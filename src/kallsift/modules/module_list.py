"""Loaded modules: the kernel's list of them.

Its links agree both ways, and behind those of each member stands the module's name (include/linux/module.h).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import KallsiftError, UnmappedError
from kallsift.kallsyms.table import SymbolTable
from kallsift.kernel.lists import Found, Recognition, reachable, recognised
from kallsift.kernel.model import Kernel
from kallsift.kernel.virtual import VirtualMemory, virtual_memory
from kallsift.memory.model import printable
from kallsift.modules.structures import (
    MAX_NAME,
    STATES,
    ModulesError,
    Structures,
    name_of,
    state_of,
    structures_at,
)
from kallsift.modules.symbols import has_symbol_tables, symbol_reader

UNFORMED = STATES[-1]
"""The state of a module that ``/proc/kallsyms`` does not show yet, or no more."""

MAX_MODULES = 1 << 14
"""Modules that are followed at most; a machine has some hundreds."""

MAX_CHARACTERS = 1 << 28
"""Bytes of the names of all modules' symbols at most; a machine has some 10 MB of them."""

NAME = re.compile(rb"\w{2,}", re.ASCII)
"""A module's name; its build makes all else an underscore."""

NAME_CHARACTERS = np.array([byte < 0x80 and bool(re.match(r"\w", chr(byte), re.ASCII)) for byte in range(256)])
"""Which bytes can be characters of a module's name."""


@dataclass(frozen=True, eq=False)
class Module:
    """One loaded module.

    Attributes:
        name: as ``/proc/modules`` prints it.
        address: of its ``struct module``.
        state: one of `module_structures.STATES`.
        symbols: as ``/proc/kallsyms`` prints them: in the module's own order, upper-case where exported; None where
            they cannot be read, were not asked for, or are never printed, since it is yet to be formed.
    """

    name: str
    address: int
    state: str
    symbols: SymbolTable | None


@dataclass(frozen=True)
class Modules:
    """The modules that the kernel's list has.

    Attributes:
        modules: in the list's order: the last one that was loaded first.
        missing: what could not be read, one line each.
    """

    modules: tuple[Module, ...]
    missing: tuple[str, ...] = ()


def modules(kernel: Kernel, *, symbols: bool = True) -> Modules:
    """The modules that the kernel's list has, with their symbols if these are wanted.

    Raises:
        KallsiftError: if the list cannot be found, or the kernel does not run.
    """
    memory = virtual_memory(kernel)
    listed = listed_structures(kernel, memory)
    missing = list(listed.missing)
    reader = None
    if symbols and len(listed):
        try:
            reader = symbol_reader(memory, listed)
        except KallsiftError as error:
            missing.append(str(error))
    found, room = [], MAX_CHARACTERS
    for number, address in enumerate(listed.addresses.tolist()):
        table = None
        try:
            name, state = name_of(memory, address), state_of(memory, address)
        except UnmappedError as error:
            missing.append(f"the module at {address:#x}: {error}")
            continue
        if not NAME.fullmatch(name.encode("latin-1")):
            missing.append(f"what stands for the name of the module at {address:#x} is none: {printable(name)!r}")
        if reader is not None and state != UNFORMED:
            try:
                read = reader.symbols(listed, number, room)
                table = read.table
                room -= len(table.characters)
                missing += (f"the symbols of {printable(name)} at {address:#x}: {remark}" for remark in read.remarks)
            except KallsiftError as error:
                missing.append(f"the symbols of {printable(name)} at {address:#x} cannot be read: {error}")
        found.append(Module(name, address, state, table))
    return Modules(tuple(found), tuple(missing))


def listed_structures(kernel: Kernel, memory: VirtualMemory) -> Structures:
    """The structures of the modules that the kernel's list has, in its order; of a broken list, those it leads to.

    Raises:
        ModulesError: if the list cannot be found.
        ListError: if it has more members than any machine has modules.
    """
    if "load_module" not in kernel.symbols:
        return structures_at(memory, np.empty(0, np.uint64))  # built without support for modules
    found = _list(kernel, memory)
    return replace(_structures(memory, found.nodes), missing=found.problems)


def _structures(memory: VirtualMemory, nodes: NDArray[np.uint64]) -> Structures:
    """What the members of the list of modules are: before the links is a module's state."""
    return structures_at(memory, nodes - np.uint64(memory.words.size))


def _list(kernel: Kernel, memory: VirtualMemory) -> Found:
    """The list that ``modules`` names, or, where only text is listed, the one that looks like it."""
    index = kernel.symbols.find("modules")
    if index is not None:
        return reachable(memory, kernel.symbols.symbol(index).address, MAX_MODULES)
    recognition = Recognition(
        lambda nodes: _named(memory, nodes),
        lambda node: _has_name(memory, node),
        lambda nodes: _are_modules(memory, nodes),
    )
    found = recognised(kernel, memory, recognition, MAX_MODULES)
    if found is None:
        raise ModulesError(
            "the list of modules was not found: no symbol 'modules' names it, and no list's members prove to be modules"
        )
    return found


def _are_modules(memory: VirtualMemory, nodes: NDArray[np.uint64]) -> bool:
    """Whether members have more of modules than a name: most lead back to themselves, or to tables of symbols.

    Only ``mkobj.mod`` leads to where a structure begins, and all modules have it at one place.
    """
    listed = _structures(memory, nodes)
    back = int(np.count_nonzero(listed.words == listed.addresses[:, None], axis=0).max())
    return 2 * back > len(listed) or has_symbol_tables(memory, listed)


def _has_name(memory: VirtualMemory, node: int) -> bool:
    """Whether a name like a module's stands behind the links of a member of a list."""
    try:
        return NAME.fullmatch(memory.string(node + 2 * memory.words.size, MAX_NAME)) is not None
    except UnmappedError:
        return False


def _named(memory: VirtualMemory, nodes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which members of lists stand between a module's state and the characters of its name."""
    size = np.uint64(memory.words.size)
    states, held = memory.values(nodes - size, memory.words.int_dtype)
    good = held & (states < len(STATES))
    for character in range(2):
        values, there = memory.values(nodes + size + size + np.uint64(character), np.dtype("u1"))
        good &= there & NAME_CHARACTERS[values]
    return good
