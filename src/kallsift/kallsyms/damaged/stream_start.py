"""Find the start of a name stream of which neither the first page nor any marker survives.

The search goes from the lost page at the stream's end towards lower offsets, from one walk between two lost pages to
the walk before it. Bytes that no walk covers do not belong to the stream, which then begins on the lost page behind
them. The size of the lost entries must fit the number of entries.
"""

from __future__ import annotations

import numpy as np

from kallsift.kallsyms.damaged.damage_context import DamageContext
from kallsift.kallsyms.damaged.page_map import PAGE, Pages
from kallsift.kallsyms.damaged.stream_by_count import ENTRY_SIZES
from kallsift.kallsyms.damaged.stream_walk import FIRST_WHOLE, following_entries, walks_adrift

UNLIKE = 0.1
"""Highest deviation of the entries' average size, over all of the stream, from that of the surviving entries."""


def stream_begin(context: DamageContext, end: int, count: int) -> int | None:
    """Return the offset of the lost page with the first entry, or None.

    None if nothing shows it.

    Args:
        context: the memory with the stream.
        end: offset that the stream does not reach beyond.
        count: number of entries of the stream.
    """
    pages = context.pages
    low = max(0, pages.first, end - count * ENTRY_SIZES.stop)
    region = context.data[low : end + 1]
    following = following_entries(region, pages, low, context.can_begin, two_byte_lengths=True)
    walks = [walk + low for walk in walks_adrift(following, pages, low, np.empty(0, np.int64), len(region))]
    above, entries, size = end, 0, 0
    for walk in reversed(walks):
        # between two walks of a stream all pages are lost; only parts of entries survive there
        if not _all_lost(pages, int(walk[-1]) + FIRST_WHOLE, above):
            break
        above, entries, size = int(walk[0]), entries + len(walk) - 1, size + int(walk[-1] - walk[0])
    begin = int(pages.number(np.array([above]))[0])
    while begin and pages.lost[begin - 1]:
        begin -= 1
    offset = begin * PAGE + pages.first
    if not entries or abs((end - offset) * entries / (size * count) - 1) > UNLIKE:
        return None
    return offset


def _all_lost(pages: Pages, low: int, high: int) -> bool:
    """Tell whether all pages from that of ``low`` up to that of ``high`` are lost.

    The page of ``high`` itself need not be lost. The page of ``low`` must be.
    """
    first, last = pages.number(np.array([low, high]))
    return bool(pages.lost[first] and pages.lost[first:last].all())
