"""Assign indices to entries that walks leave uncertain, as far as other tables confirm them.

The other tables are the order of names, and the targets of pointers that are named after what they point to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.damaged.ksymtab_pointers import NamedPointers, SymbolNames, name_pointers
from kallsift.kallsyms.damaged.marker_resync import Entries
from kallsift.kallsyms.damaged.name_expansion import texts
from kallsift.kallsyms.damaged.page_map import pages_in_segment
from kallsift.kallsyms.damaged.partial_tables import PartialTables
from kallsift.kallsyms.damaged.seqs_of_names import Ranks
from kallsift.kallsyms.damaged.sort_order import LEAST_RANKED, NameOrder
from kallsift.kallsyms.damaged.stream_walk import UNTRUSTED_OF_ANY
from kallsift.kallsyms.damaged.unverified_pages import halves, ranks_in_order
from kallsift.kallsyms.format.markers import GROUP

CONFIRMED = 2
"""Number of names of a walk that must lie between their neighbours in the order of names before the rest is trusted."""

UNEVEN = 3
"""Highest ratio, in either direction, of the entry size in one part of a stream to that in the whole stream."""

MOST_READ = 1 << 30
"""Highest number of ranks that are read to place walks: some seconds' worth."""

ROUNDS = 4
"""Highest number of rounds in which walks are tried again, once others are placed."""

MANY = 4
"""A page is taken to be overwritten if one of this many of its names contradicts the order of names."""


class _Confirming:
    """Heads and ends of entries, which grow while names are confirmed."""

    def __init__(self, tables: PartialTables, ranks: Ranks, entries: Entries, *, has_overwritten: bool) -> None:
        self.tables, self.ranks, self.has_overwritten = tables, ranks, has_overwritten
        self.start = tables.context.segment.start
        self.heads, self.ends, self.proven = entries.heads.copy(), entries.ends.copy(), entries.proven
        self.entry_size = tables.stream.size / max(1, len(self.heads))
        self.left = MOST_READ
        self.pointers: NamedPointers | None = None

    def names(self, heads: NDArray[np.int64], ends: NDArray[np.int64]) -> list[bytes]:
        return texts(*self.tables.expanded(heads, ends))

    def order(self, waiting: list[NDArray[np.int64]]) -> NameOrder | None:
        """Return the order of all names, including those of the waiting walks.

        If names of pointers wait, the pointers are searched too.
        """
        names = self.names(self.heads, self.ends)
        walks = [self.names(walk[UNTRUSTED_OF_ANY:-1], walk[UNTRUSTED_OF_ANY + 1 :]) for walk in waiting]
        if any(name_pointers(walk) for walk in walks):
            left, context = self.tables.addresses, self.tables.context
            addresses = left.array.addresses(self.start + left.array.offset)
            words = left.word_size, context.tokens.byte_order
            self.pointers = NamedPointers.find(context.segment, words, SymbolNames(names), addresses, left.known)
        return NameOrder.of(self.ranks, names, self._others(names, walks))

    def _others(self, names: list[bytes], walks: list[list[bytes]]) -> Iterable[bytes]:
        """Return names of walks of which the index is unknown.

        Overwritten pages may hold no names, or names that are there twice.
        """
        others = chain.from_iterable(walks)
        if not self.has_overwritten:
            return others
        return () if 2 * np.count_nonzero(self.heads >= 0) > len(self.heads) else {*others}.difference(names)

    def place(self, order: NameOrder, walk: NDArray[np.int64]) -> int | None:
        """Find the index of a walk's first certain entry; take the entries from it on."""
        places, stops = walk[UNTRUSTED_OF_ANY:-1], walk[UNTRUSTED_OF_ANY + 1 :]
        known = np.flatnonzero(self.heads >= 0)
        after = int(np.searchsorted(self.heads[known], places[0]))
        low = int(known[after - 1]) + 1 if after else 0
        high = int(known[after]) - 1 if after < len(known) else len(self.heads) - 1
        if len(known):
            # the distance from the nearest known entry bounds the index; entries may be UNEVEN times longer or shorter
            near = int(known[max(0, after - 1)])
            apart = int((places[0] - self.heads[near]) / self.entry_size)
            least, most = sorted((apart // UNEVEN, apart * UNEVEN))
            low, high = max(low, near + least - GROUP), min(high, near + most + GROUP + len(places))
        names = self.names(places, stops)
        first = self.pointers.first_index(names, low, high) if self.pointers else None
        if first is None or order.contradicts(names, first):
            first, read = order.first_index(names, low, high, self.left)
            self.left -= read
        if first is not None:
            indices = first + np.arange(len(places))
            taken = self.is_confirmed(order, indices, names, places, stops)
            self.heads[indices[taken]], self.ends[indices[taken]] = places[taken], stops[taken]
        return first

    def is_confirmed(
        self,
        order: NameOrder,
        indices: NDArray[np.int64],
        names: list[bytes],
        places: NDArray[np.int64],
        stops: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """Tell which entries of a walk to take: those on pages that are confirmed.

        A walk can lead from a true page on to an overwritten one, where no ranks are left to contradict it. A page is
        confirmed by names that other tables confirm, or by ranks that rise and fall as its names do. Ranks that only
        rise, as in a section sorted by name, prove nothing: those of another page of the section rise as well. If
        nothing else shows that pages are overwritten, it is enough that the page has ranks at all, or that the walk
        comes to a page that has.
        """
        begins, ends = (pages_in_segment(self.start, cells) for cells in (places, stops - 1))
        numbers = np.arange(int(ends.max()) + 1)

        def often(which: NDArray[np.int64], least: int) -> NDArray[np.bool_]:
            result: NDArray[np.bool_] = np.bincount(which, minlength=len(numbers)) >= least
            return result

        fine = often(begins[self.are_confirmed(order, indices, names)], CONFIRMED)
        ranks = self.ranks.rank[indices]
        ranked = np.flatnonzero((ranks >= 0) & np.array([bool(name) for name in names], np.bool_))
        falls = ranked[1:][(np.diff(ranks[ranked]) < 0) & (np.diff(begins[ranked]) == 0)]
        fine |= often(begins[falls], LEAST_RANKED)
        if not self.has_overwritten:
            there = np.flatnonzero(fine | often(begins[ranks >= 0], LEAST_RANKED))
            fine = (numbers >= there[0]) & (numbers <= there[-1]) if len(there) else fine
        return fine[begins] & fine[ends]

    def are_confirmed(self, order: NameOrder, indices: NDArray[np.int64], names: list[bytes]) -> NDArray[np.bool_]:
        """Tell which names other tables confirm at their indices."""
        confirmed = order.confirmed(indices, names)
        return confirmed if self.pointers is None else confirmed | self.pointers.holds(indices, names)

    def place_parts(self, order: NameOrder, walk: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], int | None]]:
        """Yield a walk and the index that it is placed at, or its parts.

        A walk that cannot be placed is cut if it can contain overwritten pages.
        """
        first = self.place(order, walk) if len(walk) > UNTRUSTED_OF_ANY + 1 else None
        parts = halves(walk, self.start) if self.has_overwritten and first is None else ()
        if parts:
            yield from chain.from_iterable(self.place_parts(order, part) for part in parts)
        else:
            yield walk, first

    def confirm(self, order: NameOrder, indices: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        """Take the entries of a walk that leads to a certain entry.

        They are taken from where enough of them are confirmed.
        """
        if not len(indices) or indices[-1] + 1 >= len(self.heads) or self.heads[indices[-1] + 1] < 0:
            return
        stops = np.append(places[1:], self.heads[indices[-1] + 1])
        names = self.names(places, stops)
        enough = np.cumsum(self.are_confirmed(order, indices, names)) >= CONFIRMED
        self.heads[indices[enough]], self.ends[indices[enough]] = places[enough], stops[enough]

    def leave_out(self, contradicting: NDArray[np.int64]) -> None:
        """Leave out names that contradict their order, and pages with many of them.

        Such pages are overwritten, although no marker tells so, or a marker pointed to the end of an entry by chance.
        """
        there = np.flatnonzero(self.heads >= 0)
        pages = pages_in_segment(self.start, self.heads[there])
        wrong = np.isin(there, contradicting)
        many = np.bincount(pages[wrong], minlength=int(pages.max(initial=0)) + 1) * MANY >= np.bincount(pages)
        # if a proven name contradicts the order, its rank is wrong
        out = many[pages] | (wrong & ~self.proven[there])
        self.heads[there[out]] = self.ends[there[out]] = -1


def asks_addresses(tables: PartialTables, entries: Entries) -> bool:
    """Tell whether names of pointers wait for their place.

    Only then are pointers searched, so only then do the names depend on the addresses.
    """
    walks = ((walk[UNTRUSTED_OF_ANY:-1], walk[UNTRUSTED_OF_ANY + 1 :]) for walk in entries.unanchored_chains)
    return tables.ranks is not None and any(name_pointers(texts(*tables.expanded(*walk))) for walk in walks)


def with_confirmed(
    tables: PartialTables, entries: Entries, *, has_overwritten: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return the heads and ends of all entries that are certain or confirmed.

    Other tables confirm entries; entries that contradict the order of names are left out.

    Args:
        tables: the surviving parts of the tables; without ranks nothing is confirmed or contradicted.
        entries: the certain entries, and the walks that are uncertain.
        has_overwritten: whether some pages are overwritten, so that walks may lead over them.

    Returns:
        Heads and ends; None where too many of the certain entries contradict the order of names, or, unless
        ``has_overwritten``,
        where any does.
    """
    if tables.ranks is None:
        return entries.heads, entries.ends
    confirming = _Confirming(tables, tables.ranks, entries, has_overwritten=has_overwritten)
    waiting, untrusted = (
        list(entries.unanchored_chains),
        list(zip(entries.untrusted, entries.untrusted_heads, strict=True)),
    )
    if has_overwritten:
        names = confirming.names(confirming.heads, confirming.ends)
        confirming.ranks = ranks_in_order(tables.ranks, names, tables.context.segment.start)
    order = confirming.order(waiting)
    if order is None or (len(order.contradicting) and not has_overwritten):
        return None
    for _ in range(ROUNDS):
        if order is None or not waiting:
            break
        still, placed = [], False
        tried = chain.from_iterable(confirming.place_parts(order, walk) for walk in waiting)
        for walk, first in tried:
            if first is None:
                still.append(walk)
                continue
            placed = True
            indices = np.arange(first - UNTRUSTED_OF_ANY, first)
            free = (indices >= 0) & (confirming.heads[np.maximum(indices, 0)] < 0)
            untrusted.append((indices[free], walk[:UNTRUSTED_OF_ANY][free]))
        if not placed:
            break
        waiting = still
        order = confirming.order(waiting)
    if order is not None:
        for indices, places in untrusted:
            confirming.confirm(order, indices, places)
        confirming.leave_out(order.contradicting)
    return confirming.heads, confirming.ends
