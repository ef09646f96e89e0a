"""Record which pages of a source are lost: blank ones, and those that turn out to be overwritten."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kallsift.memory.segments import BytesSegment

PAGE_BITS = 12
PAGE = 1 << PAGE_BITS
"""Bytes in which memory is lost; of larger pages several of these are lost at once."""


def pages_in_segment(start: int, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the page of each offset in the data of a segment.

    The segment begins at address ``start``. Pages are counted from the first that it touches.
    """
    numbers: NDArray[np.int64] = (offsets + start % PAGE) >> PAGE_BITS
    return numbers


def page_begin(offset: int, first: int) -> int:
    """Return the start of the page of an offset, if one page begins at ``first``."""
    return offset - (offset - first) % PAGE


@dataclass(frozen=True, eq=False)
class Pages:
    """The lost pages of a part of a segment.

    Attributes:
        first: offset in the segment's data of the first page, at most a page below 0 (a page can begin before the
            data).
        lost: shape (n,), bool, whether each page is lost.
    """

    first: int
    lost: NDArray[np.bool_]

    @classmethod
    def blank(cls, segment: BytesSegment, low: int, high: int) -> Pages:
        """Return the pages that touch ``data[low:high]``; blank ones are lost."""
        first = low - (segment.start + low) % PAGE
        count = -(-(high - first) // PAGE)
        lost = np.zeros(count, np.bool_)
        inner = -(first // PAGE) if first < 0 else 0
        whole = segment.data[max(0, first) : min(high, len(segment.data))]
        if first < 0:
            lost[:inner] = not segment.data[: min(first + PAGE, high)].any()
            whole = segment.data[first + PAGE : min(high, len(segment.data))]
        pages = len(whole) // PAGE
        lost[inner : inner + pages] = ~whole[: pages * PAGE].reshape(-1, PAGE).any(axis=1)
        if inner + pages < count:
            lost[inner + pages :] = not whole[pages * PAGE :].any()
        return cls(first, lost)

    def without(self, more: NDArray[np.int64]) -> Pages:
        """Return the pages with the pages ``more``, counted from the first, lost too."""
        lost = self.lost.copy()
        lost[more] = True
        return Pages(self.first, lost)

    def number(self, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the page of each offset, counted from the first page."""
        numbers: NDArray[np.int64] = (offsets - self.first) >> PAGE_BITS
        return np.minimum(np.maximum(numbers, 0), len(self.lost) - 1)

    def intact(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell of each ``data[low:high]`` whether none of its pages is lost; shapes (n,)."""
        before = self._lost_before
        result: NDArray[np.bool_] = before[self.number(high - 1) + 1] == before[self.number(low)]
        return result

    def count_left(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of intact pages of each ``data[low:high]``; shapes (n,)."""
        before, first, end = self._lost_before, self.number(low), self.number(high - 1) + 1
        result: NDArray[np.int64] = end - first - (before[end] - before[first])
        return result

    @cached_property
    def _lost_before(self) -> NDArray[np.int64]:
        """Number of lost pages before each page, and before the end, shape (n + 1,)."""
        return np.concatenate(([0], np.cumsum(self.lost)))
