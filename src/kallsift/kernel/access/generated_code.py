"""Code that a running kernel made: it lies outside of the image, where the page table lets it be executed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.granted import granted
from kallsift.arch.paging import EXECUTE
from kallsift.arrays import is_in
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.kernel import Kernel

MAX_CODE = 1 << 26
"""Bytes of one piece of code at most."""

IMAGE_BEGINS, IMAGE_ENDS = ("_text", "_stext"), "_end"

TEXT = b"tT"

Addresses = NDArray[np.uint64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class GeneratedCode:
    """Tells what may be such code, and what functions are.

    Attributes:
        kernel: that runs.
        memory: its virtual memory.
        functions: starts of functions that the kernel's own table does not have (modules'), shape (n,), uint64.
    """

    kernel: Kernel
    memory: VirtualMemory
    functions: Addresses

    @cached_property
    def image(self) -> range:
        """The addresses of the kernel's image, or of its text where the table names nothing else."""
        symbols = self.kernel.symbols
        tables = self.kernel.tables
        letters = symbols.types()
        own = symbols.addresses[(letters == TEXT[0]) | (letters == TEXT[1])]
        begins = [symbols.symbol(index).address for name in IMAGE_BEGINS if (index := symbols.find(name)) is not None]
        end = symbols.find(IMAGE_ENDS)
        tables_end = max((int(place.virtual) + place.size for place in tables), default=0)
        last = int(own.max(initial=0)) + 1 if end is None else symbols.symbol(end).address
        return range(min(begins, default=int(own.min(initial=tables_end))), max(last, tables_end))

    def is_executable(self, addresses: Addresses) -> Mask:
        """Which addresses, shape (n,), are mapped as code outside of the image."""
        memory = self.memory
        addresses = memory.words.wrap(addresses)
        inside = addresses - np.uint64(self.image.start) < np.uint64(len(self.image))
        if memory.mapping is None:
            mapped = memory.values(addresses, np.dtype("u1"))[1]
        else:
            mapped = granted(memory.memory, memory.mapping, memory.root, addresses) & EXECUTE != 0
        return np.asarray(mapped & ~inside)

    def is_code(self, starts: Addresses, ends: Addresses) -> Mask:
        """Which stretches, each from a start to behind its last byte, shapes (n,), are code outside of the image."""
        sizes = self.memory.words.wrap(ends - starts)
        good = (sizes > 0) & (sizes <= np.uint64(MAX_CODE)) & (ends > starts)
        indices = np.flatnonzero(good)
        good[indices] = self.is_executable(starts[indices]) & self.is_executable(ends[indices] - np.uint64(1))
        return np.asarray(good)

    def is_function(self, addresses: Addresses) -> Mask:
        """Which addresses, shape (n,), are where a symbol of the kernel's or of a module's is."""
        return np.asarray(is_in(addresses, self.kernel.symbols.addresses) | is_in(addresses, self.functions))


def has_function(kernel: Kernel, name: str, *, is_weak: bool = False) -> bool:
    """Whether a kernel has a function, by its table; of one that lost names, whether it may have.

    Args:
        kernel: whose table is asked.
        name: of the function.
        is_weak: whether the default that an architecture can replace counts as well.
    """
    if kernel.damage:
        return True
    letters = "tTwW" if is_weak else "tT"
    return any(symbol.type in letters for symbol in kernel.symbols.all(name))
