"""Pages that a source has but cannot give: they do not unpack, or reading them fails. They are holes.

It turns out when they are read. A pass over all bytes then sees zeros; who asks for one of these bytes by its address
is told that it is not mapped.
"""

from __future__ import annotations

from threading import Lock

import numpy as np
from numpy.typing import NDArray

PAGE = 4096

DAMAGED, UNREADABLE, MISSING = "did not unpack", "could not be read", "are not in the stream"
"""Why pages are holes, as messages say it."""


class UnreadablePages:
    """Collect the pages that turned out to be unreadable; many threads may do so at once.

    Attributes:
        page: bytes of a page: what is lost at once.
        problem: why they are lost, `DAMAGED` or `UNREADABLE`.
    """

    def __init__(self, page: int = PAGE, problem: str = DAMAGED) -> None:
        """Nothing is lost yet."""
        self.page, self.problem = page, problem
        self._lost: dict[int, NDArray[np.bool_]] = {}
        self._lock = Lock()

    def __bool__(self) -> bool:
        return bool(self._lost)

    def add(self, owner: int, low: int, high: int) -> None:
        """Note that the bytes from offset ``low`` to ``high`` of the segment ``owner`` cannot be read."""
        first, last = low // self.page, -(-high // self.page)
        with self._lock:
            lost = self._lost.get(owner, np.zeros(1, np.bool_))
            if len(lost) <= last:
                lost = np.append(lost, np.zeros(max(len(lost), last + 1 - len(lost)), np.bool_))
            lost[first:last] = True
            self._lost[owner] = lost

    def mask(self, owner: int, offsets: NDArray[np.int64], width: int) -> NDArray[np.bool_]:
        """Tell which of some values, each of ``width`` bytes at an offset in a segment, touch an unreadable page.

        Args:
            owner: number of the segment.
            offsets: shape (n,).
            width: bytes of each value.
        """
        lost = self._lost.get(owner)
        if lost is None:
            return np.zeros(len(offsets), np.bool_)
        # the last element stands for all pages behind those that are known to be lost
        first, last = (np.minimum(ends // self.page, len(lost) - 1) for ends in (offsets, offsets + (width - 1)))
        if width <= self.page:
            return lost[first] | lost[last]
        return np.array([lost[low : high + 1].any() for low, high in zip(first, last, strict=True)], np.bool_)

    def remark(self, size: int) -> str | None:
        """Return the line that says how many pages of a memory of ``size`` bytes are holes; None if none is."""
        with self._lock:
            count = sum(int(np.count_nonzero(lost)) for lost in self._lost.values())
        if not count:
            return None
        total = max(count, -(-size // self.page))
        return f"{count:,} of {total:,} pages {self.problem}; they are read as holes"
