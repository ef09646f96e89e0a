"""Rank token tables by the empty list heads around them, of which a kernel's image has many in several large pages.

An empty head points at itself, so all heads of an image have the same distance from address in the source to virtual
address. Somebody who forges heads knows what he writes, but not at which physical address it will lie: his heads agree
within a large page, which is contiguous for certain, but from one page to the next only by chance. Heads in memory that
the kernel allocates agree as well, but are spread over all memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct
from kallsift.budget import WorkBudget
from kallsift.kernel.placement.distances import MAX_EMPTY_HEADS
from kallsift.kernel.placement.pointers import AFTER, BEFORE, Words, list_head_distances
from kallsift.kernel.placement.word_size import WORD_SIZES
from kallsift.memory.memory import Memory
from kallsift.memory.segments import BytesSegment

FRAME = 2 << 20
"""Bytes of a large page."""

MIN_HEADS = 8
"""Number of empty heads in a frame that show a distance."""

FRAME_PASSES = 8
"""Number of passes over the bytes of a frame, for the budget."""

FORMS = tuple(Words(size, byte_order) for size in WORD_SIZES for byte_order in "<>")

Distance = tuple[Words, int]

HeadRank = tuple[int, int]
"""Number of frames around an address whose heads have one distance, and the distance to the nearest of them,
negated."""

NO_HEADS = (0, 0)


def head_ranks(memory: Memory, addresses: Sequence[int], budget: WorkBudget) -> list[HeadRank]:
    """Return the rank of each address by the list heads around it.

    The heads must have one distance, and it must not occur over more memory than an image takes.

    Args:
        memory: the source.
        addresses: addresses of token tables.
        budget: the work that this may cost; frames that are not searched have no heads.
    """
    frames: dict[Distance, list[int]] = defaultdict(list)
    for number in sorted({number for address in addresses for number in _around(address)}):
        for stretch in memory.between(number * FRAME, (number + 1) * FRAME):
            low, high = max(0, number * FRAME - stretch.start), min(stretch.size, (number + 1) * FRAME - stretch.start)
            if stretch.blank(low, high) or not budget.take("token tables", FRAME_PASSES * (high - low), count=0):
                continue
            segment = BytesSegment(stretch.start + low, stretch.read(low, high))
            for words in FORMS if segment.data.any() else ():
                for distance, _ in list_head_distances(segment, words, MIN_HEADS).most_frequent(MAX_EMPTY_HEADS):
                    frames[words, distance].append(number)
    most = (BEFORE + AFTER) // FRAME
    images = [distinct(np.array(numbers)) for numbers in frames.values() if numbers[-1] - numbers[0] <= most]
    return [max((_rank(numbers, address) for numbers in images), default=NO_HEADS) for address in addresses]


def _around(address: int) -> range:
    """Return the frames that an image around an address can touch."""
    return range(max(0, address - BEFORE) // FRAME, (address + AFTER) // FRAME + 1)


def _rank(numbers: NDArray[np.int64], address: int) -> HeadRank:
    """Rank an address by the frames in which heads have one distance.

    ``numbers`` are the numbers of these frames, ascending.
    """
    around = _around(address)
    low, high = np.searchsorted(numbers, [around.start, around.stop]).tolist()
    if low == high:
        return NO_HEADS
    return high - low, -int(np.abs(numbers[low:high] - address // FRAME).min())
