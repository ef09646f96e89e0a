"""Read ``struct module`` of every module as machine words, and the fields that all releases begin with."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import KallsiftError, UnmappedError
from kallsift.kernel.access.virtual_memory import VirtualMemory

STRUCT_WORDS = 320
"""Number of words of ``struct module`` that are read; the largest structure so far has some 200."""

STATES = ("Live", "Loading", "Unloading", "Unformed")
"""Names that ``/proc/modules`` gives to ``enum module_state``; it never shows the last one."""

NAME = 3
"""Offset of the name in words: behind the state and the list's links."""

MAX_NAME = 64
"""Highest number of bytes of a module's name with its NUL; MODULE_NAME_LEN is this less the size of a word."""


NAME_PATTERN = re.compile(rb"\w{2,}", re.ASCII)
"""Pattern of a module's name; the build replaces every other character by an underscore."""

KOBJECT_WORDS = range(6, 25)
"""Possible sizes of ``struct kobject`` in words, which stands before ``mkobj.mod``; debugging makes it longer."""


class ModulesError(KallsiftError):
    """The modules of a kernel could not be found or read."""


@dataclass(frozen=True, eq=False)
class Structures:
    """The structures of all modules, as words.

    Attributes:
        addresses: address of each structure, shape (n,), uint64, in the list's order.
        words: their first `STRUCT_WORDS` words, shape (n, m), uint64; 0 where not mapped.
        missing: parts of the list that cannot be read, one line each.
    """

    addresses: NDArray[np.uint64]
    words: NDArray[np.uint64]
    missing: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.addresses)


def structures_at(memory: VirtualMemory, addresses: NDArray[np.uint64]) -> Structures:
    """Return the module structures that begin at the given addresses."""
    places = addresses[:, None] + np.arange(STRUCT_WORDS, dtype=np.uint64) * np.uint64(memory.words.size)
    words, _ = memory.values(places.ravel())
    return Structures(addresses, words.reshape(places.shape))


def numbers_at(memory: VirtualMemory, structures: Structures, offset: int) -> NDArray[np.uint64]:
    """Return the 32-bit number at one offset of each structure.

    The shape is (n,), the dtype uint64; 0 stands where nothing is mapped.
    """
    return memory.values(structures.addresses + np.uint64(offset), memory.words.int_dtype)[0]


def name_of(memory: VirtualMemory, address: int) -> str:
    """Return the name in a module's structure.

    Raises:
        UnmappedError: if it cannot be read.
    """
    return memory.string(address + NAME * memory.words.size, MAX_NAME).decode("latin-1")


def has_name(memory: VirtualMemory, address: int) -> bool:
    """Tell whether the structure at an address has a valid module name.

    The rest of the name's array must be zeros.
    """
    size = memory.words.size
    try:
        room = memory.read(address + NAME * size, MAX_NAME - size).tobytes()
    except UnmappedError:
        return False
    return NAME_PATTERN.fullmatch(room.rstrip(b"\0")) is not None


def state_of(memory: VirtualMemory, address: int) -> str:
    """Return the state in a module's structure: one of `STATES`, else the number.

    Raises:
        UnmappedError: if it cannot be read.
    """
    state = memory.value(address, 4)
    return STATES[state] if state < len(STATES) else str(state)
