"""A virtual machine's memory inside of its host's, through extended page tables."""

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
        host: that of the machine it runs on.
        paging: how its addresses are translated into the host's.
        root: address of the top table of that.
    """

    host: Memory
    paging: PagingMode
    root: int

    def words(
        self, addresses: NDArray[np.uint64], dtype: np.dtype[np.unsignedinteger]
    ) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """As `Memory.words`."""
        physical, mapped = translate(self.host, self.paging, self.root, addresses)
        values, held = self.host.words(physical, dtype)
        values[~mapped] = 0
        return values, held & mapped

    def mapped(self, roots: NDArray[np.uint64], addresses: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which virtual addresses of the guest each of its page tables maps to memory that there is.

        Args:
            roots: addresses of top tables, shape (m,).
            addresses: virtual addresses, shape (n,).

        Returns:
            Shape (m, n); by four levels or by five, whichever maps more.
        """
        found = np.zeros((len(roots), len(addresses)), np.bool_)
        for mode in MODES:
            physical, there = walk(self, mode, np.repeat(roots, len(addresses)), np.tile(addresses, len(roots)))
            held = (there & self.words(physical, np.dtype(np.uint8))[1]).reshape(found.shape)
            more = held.sum(axis=1) > found.sum(axis=1)
            found[more] = held[more]
        return found

    def virtual_words(self, root: int, addresses: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """The 64-bit words at virtual addresses of the guest, shape (n,), and which of them there are."""
        for mode in MODES:
            physical, there = translate(self, mode, root, addresses)
            values, held = self.words(physical, np.dtype("<u8"))
            if (there & held).any():
                return values, there & held
        return np.zeros(len(addresses), np.uint64), np.zeros(len(addresses), np.bool_)
