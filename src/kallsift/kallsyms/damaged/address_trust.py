"""Choose the addresses that can be trusted where some pages are overwritten, by long rows of pages and by exports.

Where pages around it are lost, a page of addresses that is a copy of another page is in order too. Pages in a row hold
what they did if the row is long enough, or if pointers agree with an entry in it: exports with trusted addresses that
lead to symbols in the row, or exports in the row that lead to symbols with trusted addresses.
"""

from __future__ import annotations

import numpy as np

from kallsift.kallsyms.damaged.address_table import PartialAddressTable
from kallsift.kallsyms.damaged.damage_context import DamageContext
from kallsift.kallsyms.damaged.ksymtab_pointers import AGREEING, NamedPointers, SymbolNames
from kallsift.kallsyms.damaged.page_map import Pages

ROW = 3
"""Number of pages in a row that need no other proof: two pages can be copies of two neighbours."""

LEAST = 2
"""Lowest number of pointers that must lead from pages in a row, or to them, as their names say: none does by chance."""

PER_CPU = 1 << 31
"""Addresses below this can be offsets into the per-CPU area."""


def in_long_rows(left: PartialAddressTable, pages: Pages) -> PartialAddressTable:
    """Return the array with only the addresses on pages that are in long rows."""
    rows = left.rows(pages)
    _, first = np.unique(left.pages(pages)[left.known], return_index=True)
    return left.less(np.bincount(rows[left.known][first])[rows] < ROW)


def confirmed_by_pointers(
    context: DamageContext,
    left: PartialAddressTable,
    trusted: PartialAddressTable,
    names: SymbolNames,
    *,
    has_overwritten: bool,
) -> PartialAddressTable:
    """Return the array with its trusted addresses and those that pointers confirm.

    Pointers confirm or contradict whole rows of pages. If nothing else shows that pages are overwritten, addresses are
    also kept where no pointers contradict them.

    Args:
        context: the memory with the symbols, and all of its lost pages.
        left: the array.
        trusted: the array with only its trusted addresses.
        names: names of all symbols; empty where unknown.
        has_overwritten: whether some pages are seen to be overwritten.
    """
    untrusted = left.known & ~trusted.known
    if not untrusted.any():
        return trusted
    segment, words = context.segment, (left.word_size, context.tokens.byte_order)
    addresses = left.array.addresses(segment.start + left.array.offset)
    pointers = NamedPointers.find(segment, words, names, addresses, trusted.known, left.known)
    if pointers is None:
        return trusted if has_overwritten else left
    rows = left.rows(context.pages)
    exports, symbols = pointers.pairs(names)
    if not has_overwritten:
        # symbols of the per-CPU area have other addresses as well, so pointers to them say nothing
        counted = addresses[symbols] >= PER_CPU
        exports, symbols = exports[counted], symbols[counted]
    right = pointers.leads_to[exports] == addresses[symbols].astype(pointers.leads_to.dtype)
    agree, asked = np.zeros(int(rows.max()) + 1, np.int64), np.zeros(int(rows.max()) + 1, np.int64)
    for one, other in ((exports, symbols), (symbols, exports)):
        useful = untrusted[one] & trusted.known[other]
        np.add.at(asked, rows[one[useful]], 1)
        np.add.at(agree, rows[one[useful & right]], 1)
    fine = (agree >= AGREEING * asked) & ((agree >= LEAST) | (not has_overwritten))
    return left.less(untrusted & ~fine[rows])
