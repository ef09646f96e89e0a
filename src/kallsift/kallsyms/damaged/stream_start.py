"""Where a name stream begins of which neither the first page nor any marker survives.

From the page lost at its end on, walks lead from each lost page down to the one before it. Where no walk does, what
lies there is none of the stream, which then begins on the lost page above; as many entries must fit between.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.damaged.page_map import PAGE, Pages
from kallsift.kallsyms.damaged.stream_by_count import ENTRY_SIZES
from kallsift.kallsyms.damaged.stream_walk import FIRST_WHOLE, following_entries, walks_adrift

UNLIKE = 0.1
"""How far the lost entries' size may be from that of the others, all in all."""


def stream_begin(
    data: NDArray[np.uint8],
    pages: Pages,
    end: int,
    count: int,
    firsts: NDArray[np.uint8],
    letters: NDArray[np.bool_],
) -> int | None:
    """Offset of the lost page on which the first entry lies; None if nothing shows it.

    Args:
        data: the segment's bytes.
        pages: the lost ones.
        end: offset that the stream does not reach beyond.
        count: its entries.
        firsts: shape (256,), the first character of each token.
        letters: shape (256,), whether an entry can begin with a character.
    """
    low = max(0, pages.first, end - count * ENTRY_SIZES.stop)
    region = data[low : end + 1]
    following = following_entries(region, pages, low, letters[firsts], two_byte_lengths=True)
    walks = [walk + low for walk in walks_adrift(following, pages, low, np.empty(0, np.int64), len(region))]
    above, entries, size = end, 0, 0
    for walk in reversed(walks):
        # between two walks of a stream all is lost but parts of entries
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
    """Whether all pages are lost from the one of an offset on, to the one before another's."""
    first, last = pages.number(np.array([low, high]))
    return bool(pages.lost[first] and pages.lost[first:last].all())
