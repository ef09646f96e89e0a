"""Match a listing's symbols with those that a damaged table has lost.

Lost symbols are those whose name or address is unknown. A table is in the order of its addresses, so a symbol whose
address is lost lies between its neighbours' addresses.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.symbol_table import SymbolTable

LAST = np.uint64(2**64 - 1)

MAX_IMAGE = np.uint64(1 << 30)
"""Greatest distance in bytes within which symbols move alike.

Bounds that are further away from all known symbols are no part of the image.
"""

UNNAMED = -1
"""Stands for a name's number if the name is lost."""


@dataclass(frozen=True, eq=False)
class LostSymbols:
    """Symbols whose name or address is unknown, shape (n,) each.

    Attributes:
        names: numbers of their names, int64; `UNNAMED` if the name is lost.
        lows: the lowest address that each can have, uint64.
        highs: the highest address that each can have, uint64.
    """

    names: NDArray[np.int64]
    lows: NDArray[np.uint64]
    highs: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def none(cls) -> LostSymbols:
        """Return no symbols."""
        empty = np.empty(0, np.uint64)
        return cls(np.empty(0, np.int64), empty, empty)

    @classmethod
    def of(cls, table: SymbolTable, names: NDArray[np.int64]) -> LostSymbols:
        """Return the lost symbols of a table.

        Args:
            table: in the order of its addresses.
            names: number of each symbol's name, shape (len(table),).
        """
        lost = np.flatnonzero(~table.whole)
        if not len(lost):
            return cls.none()
        known = np.ones(len(table), np.bool_) if table.known_addresses is None else table.known_addresses
        places = np.append(np.flatnonzero(known), len(table))
        following = np.append(table.addresses, LAST)
        lows, highs = table.addresses[lost], following[places[np.searchsorted(places, lost)]]
        lows[lost < places[0]] = 0
        return cls(np.where(table.named[lost], names[lost], UNNAMED), lows, highs)

    def moved(self, addresses: NDArray[np.uint64], expected: NDArray[np.uint64]) -> LostSymbols:
        """Return the lost symbols with the bounds expected in another listing.

        Each bound moves as the nearest known symbol does.

        Args:
            addresses: addresses of the symbols of which all is known, in the table's order.
            expected: their expected addresses in the other listing.
        """
        if not len(self) or not len(addresses):
            return self

        def move(bounds: NDArray[np.uint64]) -> NDArray[np.uint64]:
            above = np.minimum(np.searchsorted(addresses, bounds), len(addresses) - 1)
            below = np.maximum(above - 1, 0)
            far = [np.minimum(bounds - addresses[rows], addresses[rows] - bounds) for rows in (below, above)]
            nearest = np.where(far[0] < far[1], below, above)
            return np.where(np.minimum(*far) < MAX_IMAGE, bounds + (expected[nearest] - addresses[nearest]), bounds)

        return replace(self, lows=move(self.lows), highs=move(self.highs))

    def can_be(self, names: NDArray[np.int64], addresses: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Tell which of some symbols can be lost ones, shape (n,), bool.

        Each lost symbol stands for one of them at most.
        """
        mask = np.zeros(len(names), np.bool_)
        if not len(self):
            return mask
        open_named: dict[int, list[int]] = {}
        for index in np.flatnonzero(self.names != UNNAMED).tolist():
            open_named.setdefault(int(self.names[index]), []).append(index)
        unnamed = np.flatnonzero(self.names == UNNAMED)
        starting = unnamed[np.argsort(self.lows[unnamed], kind="stable")].tolist()
        lows, highs, waiting, begun = self.lows.tolist(), self.highs.tolist(), list[int](), 0
        order = np.argsort(addresses, kind="stable")
        for row, name, address in zip(order.tolist(), names[order].tolist(), addresses[order].tolist(), strict=True):
            own = open_named.get(name, [])
            fitting = next((index for index in own if lows[index] <= address <= highs[index]), None)
            if fitting is not None:
                own.remove(fitting)
                mask[row] = True
                continue
            # of those that can lie here, take the one with the lowest upper bound
            while begun < len(starting) and lows[starting[begun]] <= address:
                heapq.heappush(waiting, highs[starting[begun]])
                begun += 1
            while waiting and waiting[0] < address:
                heapq.heappop(waiting)
            if waiting:
                heapq.heappop(waiting)
                mask[row] = True
        return mask
