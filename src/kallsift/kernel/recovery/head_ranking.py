"""Rank token tables by the empty list heads around them, of which a kernel's image has many in more than one place.

An empty head points at itself, so all of an image have the same distance from where they lie to where they are mapped.
Whoever writes memory knows what he writes, but not where it lies: his heads agree in what is contiguous for certain, a
large page, and from one to the next by chance. Heads of what the kernel allocates agree as well, but all over memory.
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
from kallsift.memory.memory import Memory, Segment

FRAME = 2 << 20
"""Bytes of a large page."""

MIN_HEADS = 8
"""Empty heads in a frame that show a distance."""

FRAME_PASSES = 8
"""How often the bytes of a frame are passed over."""

FORMS = tuple(Words(size, byte_order) for size in WORD_SIZES for byte_order in "<>")

Distance = tuple[Words, int]

HeadRank = tuple[int, int]
"""Frames around an address whose heads have one distance, and, less than zero, how far the nearest of them is."""

NO_HEADS = (0, 0)


def head_ranks(memory: Memory, addresses: Sequence[int], budget: WorkBudget) -> list[HeadRank]:
    """Return the rank of each of some addresses by heads around it that have one distance, as memory elsewhere has not.

    Args:
        memory: the source.
        addresses: of token tables.
        budget: what it may cost; frames that are not looked at have no heads.
    """
    frames: dict[Distance, list[int]] = defaultdict(list)
    for number in sorted({number for address in addresses for number in _around(address)}):
        for stretch in memory.between(number * FRAME, (number + 1) * FRAME):
            low, high = max(0, number * FRAME - stretch.start), min(stretch.size, (number + 1) * FRAME - stretch.start)
            if stretch.blank(low, high) or not budget.take("token tables", FRAME_PASSES * (high - low), count=0):
                continue
            segment = Segment(stretch.start + low, stretch.read(low, high))
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
    """Rank an address by the numbers of frames, ascending, in which heads have one distance."""
    around = _around(address)
    low, high = np.searchsorted(numbers, [around.start, around.stop]).tolist()
    if low == high:
        return NO_HEADS
    return high - low, -int(np.abs(numbers[low:high] - address // FRAME).min())
