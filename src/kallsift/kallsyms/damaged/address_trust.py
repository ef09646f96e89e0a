"""Which addresses are sure where pages hold something else: pages in a row, and those that exports bear out.

Where pages are lost around it, a page of addresses that is a copy of another is in order. Pages in a row are what they
were if there are enough of them, or if pointers agree with any: exports whose own addresses are there lead to known
symbols, or known exports to symbols whose addresses are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kallsift.kallsyms.damaged.address_table import Left
from kallsift.kallsyms.damaged.ksymtab_pointers import AGREEING, NamedPointers
from kallsift.kallsyms.damaged.page_map import Pages
from kallsift.memory.memory import Segment

ROW = 3
"""Pages in a row that need no other proof: two can be copies of two neighbours."""

LEAST = 2
"""Pointers at least that must lead from pages in a row, or to them, as their names say: none does by chance."""

PER_CPU = 1 << 31
"""What lies below that in the address space can be an offset into the per-CPU area."""


def in_long_rows(left: Left, pages: Pages) -> Left:
    """The addresses on pages that are enough in a row."""
    rows = left.rows(pages)
    _, first = np.unique(left.pages(pages)[left.known], return_index=True)
    return left.less(np.bincount(rows[left.known][first])[rows] < ROW)


def borne_out_by_pointers(
    segment: Segment, byte_order: str, pages: Pages, left: Left, sure: Left, names: Sequence[bytes], *, doubtful: bool
) -> Left:
    """What is sure of an array, and what else of it lies in rows of pages with which pointers agree.

    If nothing else shows that pages hold something else, those too that no pointers contradict.

    Args:
        segment: the memory that holds the symbols.
        byte_order: ``"<"`` or ``">"``.
        pages: those of it that are lost.
        left: the array.
        sure: what is sure of it.
        names: of all symbols; empty where unknown.
        doubtful: whether pages are seen to hold something else.
    """
    doubted = left.known & ~sure.known
    if not doubted.any():
        return sure
    addresses = left.array.addresses(segment.start + left.array.offset)
    pointers = NamedPointers.find(segment, byte_order, left.word_size, names, addresses, sure.known, left.known)
    if pointers is None:
        return sure if doubtful else left
    rows = left.rows(pages)
    exports, symbols = pointers.pairs(names)
    if not doubtful:
        # those of the per-CPU area have another address as well
        counted = addresses[symbols] >= PER_CPU
        exports, symbols = exports[counted], symbols[counted]
    right = pointers.leads_to[exports] == addresses[symbols].astype(pointers.leads_to.dtype)
    agree, told = np.zeros(int(rows.max()) + 1, np.int64), np.zeros(int(rows.max()) + 1, np.int64)
    for one, other in ((exports, symbols), (symbols, exports)):
        useful = doubted[one] & sure.known[other]
        np.add.at(told, rows[one[useful]], 1)
        np.add.at(agree, rows[one[useful & right]], 1)
    fine = (agree >= AGREEING * told) & ((agree >= LEAST) | (not doubtful))
    return left.less(doubted & ~fine[rows])
