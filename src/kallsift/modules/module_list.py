"""Read the kernel's own list of loaded modules.

Its links agree in both directions, and the module's name stands behind those of each member (include/linux/module.h).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import KallsiftError, UnmappedError
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.access.generated_code import GeneratedCode
from kallsift.kernel.access.list_head import ListMatcher, ListMembers, reachable, recognised
from kallsift.kernel.access.virtual_memory import VirtualMemory, virtual_memory
from kallsift.kernel.kernel import Kernel
from kallsift.memory.memory import printable
from kallsift.modules.struct_module import (
    KOBJECT_WORDS,
    MAX_NAME,
    NAME,
    NAME_PATTERN,
    STATES,
    ModulesError,
    Structures,
    has_name,
    name_of,
    state_of,
    structures_at,
)
from kallsift.modules.symbol_tables import has_symbol_tables, symbol_reader

UNFORMED = STATES[-1]
"""State of a module that ``/proc/kallsyms`` does not show: it is not complete yet, or is already taken apart."""

MAX_MODULES = 1 << 14
"""Highest number of modules that are followed; a machine has some hundreds."""

MAX_CHARACTERS = 1 << 28
"""Highest number of bytes of the names of all modules' symbols; a machine has some 10 MB of them."""

NAME_CHARACTERS = np.array([re.match(rb"\w", bytes([byte]), re.ASCII) is not None for byte in range(256)])
"""Bytes that can be characters of a module's name, as a mask of shape (256,)."""


@dataclass(frozen=True, eq=False)
class Module:
    """One loaded module.

    Attributes:
        name: name as ``/proc/modules`` prints it.
        address: address of its ``struct module``.
        state: one of `struct_module.STATES`, or a number that is none of them.
        symbols: symbols as ``/proc/kallsyms`` prints them: in the module's own order, upper-case where exported; None
            where they cannot be read, were not asked for, or are never printed because the module is unformed.
    """

    name: str
    address: int
    state: str
    symbols: SymbolTable | None


@dataclass(frozen=True)
class Modules:
    """The modules in the kernel's list.

    Attributes:
        modules: the modules in the list's order; the module that was loaded last comes first.
        missing: parts that could not be read, one line each.
    """

    modules: tuple[Module, ...]
    missing: tuple[str, ...] = ()


def modules(kernel: Kernel, *, symbols: bool = True) -> Modules:
    """Return the modules in the kernel's list, with their symbols if wanted.

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
        if not NAME_PATTERN.fullmatch(name.encode("latin-1")):
            missing.append(f"the module at {address:#x} has an invalid name: {printable(name)!r}")
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
    """Return the structures of the modules in the kernel's list, in its order.

    If the list is broken, the modules that its links still reach are returned.

    Raises:
        ModulesError: if the list cannot be found.
        ListError: if it has more members than any machine has modules.
    """
    if "load_module" not in kernel.symbols:
        return structures_at(memory, np.empty(0, np.uint64))  # built without support for modules
    found = _list(kernel, memory)
    return replace(_structures(memory, found.nodes), missing=found.problems)


def _structures(memory: VirtualMemory, nodes: NDArray[np.uint64]) -> Structures:
    """Return the structures of list members; a module's state precedes its links."""
    return structures_at(memory, nodes - np.uint64(memory.words.size))


def _list(kernel: Kernel, memory: VirtualMemory) -> ListMembers:
    """Return the list that the symbol ``modules`` names, or one that looks like it.

    The second way serves kernels whose table has symbols of code only.
    """
    index = kernel.symbols.find("modules")
    if index is not None:
        return reachable(memory, kernel.symbols.symbol(index).address, MAX_MODULES)
    recognition = ListMatcher(
        lambda nodes: _named(memory, nodes),
        lambda node: has_name(memory, node - memory.words.size),
        lambda nodes: _are_modules(kernel, memory, nodes),
    )
    found = recognised(kernel, memory, recognition, MAX_MODULES)
    if found is None:
        raise ModulesError(
            "the list of modules was not found: there is no symbol 'modules', and no list has members that are modules"
        )
    return found


def _are_modules(kernel: Kernel, memory: VirtualMemory, nodes: NDArray[np.uint64]) -> bool:
    """Tell whether a list's members have more features of modules than a name.

    Most of them lie outside of the image, no two have the same name, and most lead to tables of symbols. Where these
    tables are lost, most have at the same offset the object that ``/sys/module`` shows (``mkobj``).
    """
    listed = _structures(memory, nodes)
    image = GeneratedCode(kernel, memory, np.empty(0, np.uint64)).image
    outside = np.count_nonzero(listed.addresses - np.uint64(image.start) >= np.uint64(len(image)))
    addresses = [address for address in listed.addresses.tolist() if has_name(memory, address)]
    if 2 * int(outside) <= len(listed) or len({name_of(memory, address) for address in addresses}) < len(addresses):
        return False
    return has_symbol_tables(memory, listed) or _have_objects(memory, listed)


def _have_objects(memory: VirtualMemory, listed: Structures) -> bool:
    """Tell whether most structures have ``mkobj.mod`` and the name in ``mkobj.kobj``.

    ``mkobj.mod`` points to the beginning of the structure.
    """
    size = memory.words.size
    back = listed.words == listed.addresses[:, None]
    for owner in np.flatnonzero(2 * np.count_nonzero(back, axis=0) > len(listed)).tolist():
        for column in (owner - words for words in KOBJECT_WORDS if owner - words > NAME):
            # the first character already excludes most other columns
            first = memory.values(listed.words[:, column], np.dtype("u1"))[0]
            own = memory.values(listed.addresses + np.uint64(NAME * size), np.dtype("u1"))[0]
            if 2 * int(np.count_nonzero((first == own) & (own != 0))) <= len(listed):
                continue
            pairs = zip(listed.addresses.tolist(), listed.words[:, column].tolist(), strict=True)
            if 2 * sum(_is_name_of(memory, address, name) for address, name in pairs) > len(listed):
                return True
    return False


def _is_name_of(memory: VirtualMemory, address: int, name: int) -> bool:
    """Tell whether a pointer leads to the name in the structure at an address."""
    try:
        return has_name(memory, address) and memory.string(name, MAX_NAME).decode("latin-1") == name_of(memory, address)
    except UnmappedError:
        return False


def _named(memory: VirtualMemory, nodes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return which list members have a module's state before and a name behind them."""
    size = np.uint64(memory.words.size)
    states, held = memory.values(nodes - size, memory.words.int_dtype)
    good = held & (states < len(STATES))
    for character in range(2):
        values, there = memory.values(nodes + size + size + np.uint64(character), np.dtype("u1"))
        good &= there & NAME_CHARACTERS[values]
    return good
