"""Where seqs_of_names lies, and so the addresses before it, where the end of the token table and the index are lost, as
in 6.4 and later: it is a permutation, and from no other place are all its entries different numbers below the count."""

from __future__ import annotations

import numpy as np

from kallsift.kallsyms.damaged.page_map import Pages
from kallsift.kallsyms.format.address_table import BEHIND_INDEX
from kallsift.kallsyms.format.seqs_of_names import SEQUENCE, may_be_permuted, ranks_at
from kallsift.kallsyms.format.token_table import ALIGNMENT, INDEX_SIZE, MAX_TABLE, TokenTable
from kallsift.memory.memory import Segment

BETWEEN = 16
"""Bytes of the base and of padding between the addresses and the permutation at most."""

MOST = 512
"""Places that are looked at closely: of a lost page each third one, where an end of the permutation is lost as well."""


def permutation_places(segment: Segment, pages: Pages, tokens: TokenTable, count: int) -> list[int]:
    """Where the permutation can begin, in the segment's data.

    Args:
        segment: the memory that the tables lie in.
        pages: those of it that are lost.
        tokens: what is left of the token table, and no index.
        count: number of symbols.
    """
    data = segment.data
    behind = tokens.offset + tokens.size + INDEX_SIZE
    low = behind + count * BEHIND_INDEX
    low += -(segment.start + low) % ALIGNMENT
    places = np.arange(low, min(low + MAX_TABLE, len(data) - count * SEQUENCE + 1), ALIGNMENT)
    # the index ends where the addresses begin, and something of it is lost
    arrays = places - count * BEHIND_INDEX
    places = places[~pages.intact(arrays - BETWEEN - INDEX_SIZE, arrays)]
    places = places[may_be_permuted(data, pages, places, np.full(len(places), count))]
    if len(places) > MOST:
        return []
    found = ((place, ranks_at(data, pages, place, SEQUENCE, count, tokens.byte_order)) for place in places.tolist())
    return [place for place, ranks in found if ranks is not None and not ranks.strange]
