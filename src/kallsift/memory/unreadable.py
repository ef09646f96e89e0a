"""Collect pages that a source has but cannot give: they do not unpack, or reading them fails. They are holes.

This shows only when they are read. A pass over all bytes then sees zeros; a request for one of these bytes by its
address fails as unmapped.
"""

from __future__ import annotations

from threading import Lock

import numpy as np
from numpy.typing import NDArray

PAGE = 4096

DAMAGED, UNREADABLE, MISSING = "did not unpack", "could not be read", "are not in the stream"
"""Reasons why pages are holes, in the words of messages."""


class UnreadablePages:
    """The unreadable pages of a source; threads may add to it at the same time.

    Attributes:
        page: size of a page in bytes: the unit that is lost.
        problem: reason why they are lost: `DAMAGED`, `UNREADABLE` or `MISSING`.
    """

    def __init__(self, page: int = PAGE, problem: str = DAMAGED) -> None:
        """Create an empty collection."""
        self.page, self.problem = page, problem
        self._lost: dict[int, NDArray[np.bool_]] = {}
        self._lock = Lock()

    def __bool__(self) -> bool:
        return bool(self._lost)

    def add(self, owner: int, low: int, high: int) -> None:
        """Note that bytes of a segment cannot be read.

        They are those from offset ``low`` to ``high`` of the segment ``owner``.
        """
        first, last = low // self.page, -(-high // self.page)
        with self._lock:
            lost = self._lost.get(owner, np.zeros(1, np.bool_))
            if len(lost) <= last:
                lost = np.append(lost, np.zeros(max(len(lost), last + 1 - len(lost)), np.bool_))
            lost[first:last] = True
            self._lost[owner] = lost

    def mask(self, owner: int, offsets: NDArray[np.int64], width: int) -> NDArray[np.bool_]:
        """Tell which values touch an unreadable page.

        Args:
            owner: number of the segment.
            offsets: offset of each value in the segment, shape (n,).
            width: size of each value in bytes.
        """
        lost = self._lost.get(owner)
        if lost is None:
            return np.zeros(len(offsets), np.bool_)
        # the last element, False, stands for all pages behind the last lost one
        first, last = (np.minimum(ends // self.page, len(lost) - 1) for ends in (offsets, offsets + (width - 1)))
        if width <= self.page:
            return lost[first] | lost[last]
        return np.array([lost[low : high + 1].any() for low, high in zip(first, last, strict=True)], np.bool_)

    def remark(self, size: int) -> str | None:
        """Return a line with the number of holes in a memory; None if there is none.

        Args:
            size: size of the memory in bytes.
        """
        with self._lock:
            count = sum(int(np.count_nonzero(lost)) for lost in self._lost.values())
        if not count:
            return None
        total = max(count, -(-size // self.page))
        return f"{count:,} of {total:,} pages {self.problem}; they are read as holes"
