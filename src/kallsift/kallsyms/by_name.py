"""Entries that walks alone leave unsure, or do not tell the index of, as far as the order of names confirms them."""

from __future__ import annotations

from itertools import chain

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.known_names import expand_known, texts
from kallsift.kallsyms.name_order import NameOrder
from kallsift.kallsyms.names import GROUP
from kallsift.kallsyms.reentry import UNSURE_OF_ANY, Entries
from kallsift.kallsyms.sequences import Ranks
from kallsift.kallsyms.tokens import TokenTable

CONFIRMED = 2
"""Names of a walk that must lie between their neighbours in the order of names before the rest of it is believed."""

UNEVEN = 3
"""How much longer or shorter entries of a part of a stream are than those of all."""

MOST_READ = 1 << 30
"""Ranks that are read at most to place walks: some seconds' worth."""

ROUNDS = 4
"""How often walks that could not be placed are tried again, once others are."""


class _Confirming:
    """Heads and ends that grow while names are confirmed."""

    def __init__(
        self,
        data: NDArray[np.uint8],
        entries: Entries,
        two_byte_lengths: bool,
        tokens: TokenTable,
        ranks: Ranks,
        size: int,
    ) -> None:
        self.data, self.two_byte_lengths, self.tokens, self.ranks = data, two_byte_lengths, tokens, ranks
        self.heads, self.ends = entries.heads.copy(), entries.ends.copy()
        self.entry_size = size / max(1, len(self.heads))
        self.left = MOST_READ

    def names(self, heads: NDArray[np.int64], ends: NDArray[np.int64]) -> list[bytes]:
        return texts(*expand_known(self.data, heads, ends, self.two_byte_lengths, self.tokens))

    def order(self, waiting: list[NDArray[np.int64]]) -> NameOrder | None:
        """The order of all names, those of walks included that wait for their place."""
        walks = (self.names(walk[UNSURE_OF_ANY:-1], walk[UNSURE_OF_ANY + 1 :]) for walk in waiting)
        return NameOrder.of(self.ranks, self.names(self.heads, self.ends), chain.from_iterable(walks))

    def place(self, order: NameOrder, walk: NDArray[np.int64]) -> int | None:
        """Finds the index of a walk's first entry that is not unsure, and takes all from that on."""
        places, stops = walk[UNSURE_OF_ANY:-1], walk[UNSURE_OF_ANY + 1 :]
        known = np.flatnonzero(self.heads >= 0)
        after = int(np.searchsorted(self.heads[known], places[0]))
        low = int(known[after - 1]) + 1 if after else 0
        high = int(known[after]) - 1 if after < len(known) else len(self.heads) - 1
        if len(known):
            # from the nearest one known, as many bytes an entry as elsewhere, or up to so many times as many or few
            near = int(known[max(0, after - 1)])
            apart = int((places[0] - self.heads[near]) / self.entry_size)
            least, most = sorted((apart // UNEVEN, apart * UNEVEN))
            low, high = max(low, near + least - GROUP), min(high, near + most + GROUP + len(places))
        first, read = order.first_index(self.names(places, stops), low, high, self.left)
        self.left -= read
        if first is not None:
            own = slice(first, first + len(places))
            self.heads[own], self.ends[own] = places, stops
        return first

    def confirm(self, order: NameOrder, indices: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        """Takes the entries of a walk into a certain one, from where enough of them are confirmed."""
        if not len(indices) or indices[-1] + 1 >= len(self.heads) or self.heads[indices[-1] + 1] < 0:
            return
        stops = np.append(places[1:], self.heads[indices[-1] + 1])
        enough = np.cumsum(order.confirmed(indices, self.names(places, stops))) >= CONFIRMED
        self.heads[indices[enough]], self.ends[indices[enough]] = places[enough], stops[enough]


def with_confirmed(
    data: NDArray[np.uint8],
    entries: Entries,
    two_byte_lengths: bool,
    tokens: TokenTable,
    ranks: Ranks,
    size: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Heads and ends of all entries, with those that the order of names confirms, without those that contradict it.

    Args:
        data: the segment's bytes.
        entries: the certain ones, and the walks that are not.
        two_byte_lengths: whether a length may take two bytes.
        tokens: the token table.
        ranks: what is left of seqs_of_names.
        size: bytes of the stream, more or less.
    """
    confirming = _Confirming(data, entries, two_byte_lengths, tokens, ranks, size)
    waiting, unsure = list(entries.adrift), list(zip(entries.unsure, entries.unsure_heads, strict=True))
    order = confirming.order(waiting)
    for _ in range(ROUNDS):
        if order is None or not waiting:
            break
        still = []
        for walk in waiting:
            first = confirming.place(order, walk)
            if first is None:
                still.append(walk)
                continue
            indices = np.arange(first - UNSURE_OF_ANY, first)
            free = (indices >= 0) & (confirming.heads[np.maximum(indices, 0)] < 0)
            unsure.append((indices[free], walk[:UNSURE_OF_ANY][free]))
        if len(still) == len(waiting):
            break
        waiting = still
        order = confirming.order(waiting)
    if order is not None:
        for indices, places in unsure:
            confirming.confirm(order, indices, places)
        # a page that holds something else, where no marker tells
        confirming.heads[order.contradicting] = confirming.ends[order.contradicting] = -1
    return confirming.heads, confirming.ends
