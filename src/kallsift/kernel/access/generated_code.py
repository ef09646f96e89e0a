"""Tell which addresses are code that a running kernel generated: executable pages outside of its image."""

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
"""Highest size of one piece of code in bytes."""

IMAGE_BEGINS, IMAGE_ENDS = ("_text", "_stext"), "_end"

TEXT = b"tT"

Addresses = NDArray[np.uint64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class GeneratedCode:
    """The code that a running kernel generated outside of its image, and the starts of functions.

    Attributes:
        kernel: the running kernel.
        memory: its virtual memory.
        functions: starts of functions that the kernel's own table does not have (modules'), shape (n,), uint64.
    """

    kernel: Kernel
    memory: VirtualMemory
    functions: Addresses

    @cached_property
    def image(self) -> range:
        """The addresses of the kernel's image.

        They are those of its text if the table has no other names.
        """
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
        """Tell which addresses, shape (n,), are mapped as code outside of the image."""
        memory = self.memory
        addresses = memory.words.wrap(addresses)
        inside = addresses - np.uint64(self.image.start) < np.uint64(len(self.image))
        if memory.mapping is None:
            mapped = memory.values(addresses, np.dtype("u1"))[1]
        else:
            mapped = granted(memory.memory, memory.mapping, memory.root, addresses) & EXECUTE != 0
        return np.asarray(mapped & ~inside)

    def is_code(self, starts: Addresses, ends: Addresses) -> Mask:
        """Tell which ranges of addresses are code outside of the image.

        Args:
            starts: first addresses, shape (n,).
            ends: the addresses behind the last bytes, shape (n,).
        """
        sizes = self.memory.words.wrap(ends - starts)
        good = (sizes > 0) & (sizes <= np.uint64(MAX_CODE)) & (ends > starts)
        indices = np.flatnonzero(good)
        good[indices] = self.is_executable(starts[indices]) & self.is_executable(ends[indices] - np.uint64(1))
        return np.asarray(good)

    def is_function(self, addresses: Addresses) -> Mask:
        """Tell which addresses, shape (n,), are those of symbols of the kernel or modules."""
        return np.asarray(is_in(addresses, self.kernel.symbols.addresses) | is_in(addresses, self.functions))


def has_function(kernel: Kernel, name: str, *, is_weak: bool = False) -> bool:
    """Tell whether a kernel has a function, by its table.

    For a table that lost names the answer is always True, because the kernel may have it.

    Args:
        kernel: the kernel with the table.
        name: name of the function.
        is_weak: whether a default that an architecture can replace counts as well.
    """
    if kernel.damage:
        return True
    letters = "tTwW" if is_weak else "tT"
    return any(symbol.type in letters for symbol in kernel.symbols.all(name))
