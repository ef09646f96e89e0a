"""The structures that the kernel keeps of its modules, as words, and what every one begins with."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import KallsiftError, UnmappedError
from kallsift.kernel.access.virtual_memory import VirtualMemory

STRUCT_WORDS = 320
"""Words of ``struct module`` that are looked at; the largest so far has some 200."""

STATES = ("Live", "Loading", "Unloading", "Unformed")
"""As ``/proc/modules`` calls ``enum module_state``; the last is never shown there."""

NAME = 3
"""Where the name stands, in words: behind the state and the links."""

MAX_NAME = 64
"""Bytes of a module's name at most, the NUL included: MODULE_NAME_LEN is less by the size of a word."""


NAME_PATTERN = re.compile(rb"\w{2,}", re.ASCII)
"""A module's name; its build makes all else an underscore."""

KOBJECT_WORDS = range(6, 25)
"""Words of ``struct kobject``, which stands before ``mkobj.mod``; with debugging it is longer."""


class ModulesError(KallsiftError):
    """The modules of a kernel could not be found or read."""


@dataclass(frozen=True, eq=False)
class Structures:
    """The structures of all modules, as words.

    Attributes:
        addresses: of each structure, shape (n,), uint64, in the list's order.
        words: their first `STRUCT_WORDS` words, shape (n, m), uint64; 0 where not mapped.
        missing: what of the list cannot be read, one line each.
    """

    addresses: NDArray[np.uint64]
    words: NDArray[np.uint64]
    missing: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.addresses)


def structures_at(memory: VirtualMemory, addresses: NDArray[np.uint64]) -> Structures:
    """The structures of modules that begin at the addresses."""
    places = addresses[:, None] + np.arange(STRUCT_WORDS, dtype=np.uint64) * np.uint64(memory.words.size)
    words, _ = memory.values(places.ravel())
    return Structures(addresses, words.reshape(places.shape))


def numbers_at(memory: VirtualMemory, structures: Structures, offset: int) -> NDArray[np.uint64]:
    """The numbers of 32 bits at an offset of each structure, shape (n,), uint64; 0 where not mapped."""
    return memory.values(structures.addresses + np.uint64(offset), memory.words.int_dtype)[0]


def name_of(memory: VirtualMemory, address: int) -> str:
    """The name in the structure of a module.

    Raises:
        UnmappedError: if it cannot be read.
    """
    return memory.string(address + NAME * memory.words.size, MAX_NAME).decode("latin-1")


def has_name(memory: VirtualMemory, address: int) -> bool:
    """Whether the structure at an address has a name like a module's, and nothing behind it in the room for that."""
    size = memory.words.size
    try:
        room = memory.read(address + NAME * size, MAX_NAME - size).tobytes()
    except UnmappedError:
        return False
    return NAME_PATTERN.fullmatch(room.rstrip(b"\0")) is not None


def state_of(memory: VirtualMemory, address: int) -> str:
    """The state in the structure of a module, one of `STATES`, or a number that is none.

    Raises:
        UnmappedError: if it cannot be read.
    """
    state = memory.value(address, 4)
    return STATES[state] if state < len(STATES) else str(state)
