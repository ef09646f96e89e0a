"""Which pages of addresses pointers bear out where no pages beside them do: an export leads to its symbol.

Exports whose own addresses are on such a page lead to known symbols, and known exports to symbols whose addresses are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kallsift.kallsyms.arrays_left import Left
from kallsift.kallsyms.named_pointers import AGREEING, NamedPointers
from kallsift.kallsyms.pages import Pages
from kallsift.memory.model import Segment

LEAST = 2
"""Pointers at least that must lead from a page, or to it, as their names say: none does by chance."""


def borne_out_by_pointers(
    segment: Segment, byte_order: str, pages: Pages, left: Left, sure: Left, names: Sequence[bytes]
) -> Left:
    """What is sure of an array, and what else of it lies on pages to whose addresses pointers lead.

    Args:
        segment: the memory that holds the symbols.
        byte_order: ``"<"`` or ``">"``.
        pages: those of it that are lost.
        left: the array.
        sure: what others of its pages bear out.
        names: of all symbols; empty where unknown.
    """
    addresses = left.array.addresses(segment.start + left.array.offset)
    doubted = left.known & ~sure.known
    if not doubted.any():
        return sure
    pointers = NamedPointers.find(segment, byte_order, left.word_size, names, addresses, sure.known, left.known)
    if pointers is None:
        return sure
    agree, told = np.zeros(len(pages.lost), np.int64), np.zeros(len(pages.lost), np.int64)
    own = left.pages(pages)
    exports, symbols = pointers.pairs(names)
    right = pointers.leads_to[exports] == addresses[symbols].astype(pointers.leads_to.dtype)
    for one, other in ((exports, symbols), (symbols, exports)):
        useful = doubted[one] & sure.known[other]
        np.add.at(told, own[one[useful]], 1)
        np.add.at(agree, own[one[useful & right]], 1)
    fine = (agree >= LEAST) & (agree >= AGREEING * told)
    return left.less(doubted & ~fine[own])
