"""Find seqs_of_names, and so the addresses before it, where the token table's end and the index are lost.

This is the order of tables in 6.4 and later. seqs_of_names is a permutation: only from its true start on are all
entries different numbers below the count.
"""

from __future__ import annotations

import numpy as np

from kallsift.kallsyms.damaged.damage_context import DamageContext
from kallsift.kallsyms.damaged.seqs_of_names import may_be_permuted, ranks_at
from kallsift.kallsyms.format.address_encodings import BEHIND_INDEX
from kallsift.kallsyms.format.seqs_of_names import SEQUENCE
from kallsift.kallsyms.format.token_table import ALIGNMENT, INDEX_SIZE, MAX_TABLE

BETWEEN = 16
"""Highest number of bytes between the addresses and the permutation: the base and padding."""

MOST = 512
"""Highest number of places that are checked closely; on a lost page every third place passes if an end of the
permutation is lost as well."""


def permutation_places(context: DamageContext, count: int) -> list[int]:
    """Return the offsets in the segment's data at which the permutation can begin.

    Args:
        context: the memory with the surviving part of a token table, without an index.
        count: number of symbols.
    """
    data, pages, tokens = context.data, context.pages, context.tokens
    behind = tokens.offset + tokens.size + INDEX_SIZE
    low = behind + count * BEHIND_INDEX
    low += -(context.segment.start + low) % ALIGNMENT
    places = np.arange(low, min(low + MAX_TABLE, len(data) - count * SEQUENCE + 1), ALIGNMENT)
    # the index ends where the addresses begin, and a part of it is lost
    arrays = places - count * BEHIND_INDEX
    places = places[~pages.intact(arrays - BETWEEN - INDEX_SIZE, arrays)]
    places = places[may_be_permuted(data, pages, places, np.full(len(places), count))]
    if len(places) > MOST:
        return []
    found = ((place, ranks_at(data, pages, place, SEQUENCE, count, tokens.byte_order)) for place in places.tolist())
    return [place for place, ranks in found if ranks is not None and not ranks.inconsistent]
