"""Read a virtual machine's memory inside its host's, by extended page tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.arch import x86
from kallsift.arch.paging import PagingMode, translate, walk
from kallsift.memory.memory import Memory

MODES = tuple(mode for mode in x86.MODES if mode.architecture == "x86-64")


@dataclass(frozen=True)
class GuestMemory:
    """The physical memory of a virtual machine.

    Attributes:
        host: physical memory of the machine that it runs on.
        paging: the mode that translates guest physical addresses into host physical ones.
        root: host physical address of the top table of that translation.
    """

    host: Memory
    paging: PagingMode
    root: int

    def words(
        self, addresses: NDArray[np.uint64], dtype: np.dtype[np.unsignedinteger]
    ) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Read words at guest physical addresses, as `Memory.words` does."""
        physical, mapped = translate(self.host, self.paging, self.root, addresses)
        values, held = self.host.words(physical, dtype)
        values[~mapped] = 0
        return values, held & mapped

    def mapped(self, roots: NDArray[np.uint64], addresses: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Tell which virtual addresses of the guest each page table maps.

        Only addresses that lead to memory that exists count.

        Args:
            roots: guest physical addresses of top tables, shape (m,).
            addresses: virtual addresses of the guest, shape (n,).

        Returns:
            Shape (m, n), bool; by four levels or by five, whichever maps more.
        """
        found = np.zeros((len(roots), len(addresses)), np.bool_)
        for mode in MODES:
            physical, there = walk(self, mode, np.repeat(roots, len(addresses)), np.tile(addresses, len(roots)))
            held = (there & self.words(physical, np.dtype(np.uint8))[1]).reshape(found.shape)
            more = held.sum(axis=1) > found.sum(axis=1)
            found[more] = held[more]
        return found

    def virtual_words(self, root: int, addresses: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Return the 64-bit words at virtual addresses of the guest, shape (n,).

        The second array, shape (n,), bool, tells which words exist.
        """
        for mode in MODES:
            physical, there = translate(self, mode, root, addresses)
            values, held = self.words(physical, np.dtype("<u8"))
            if (there & held).any():
                return values, there & held
        return np.zeros(len(addresses), np.uint64), np.zeros(len(addresses), np.bool_)
