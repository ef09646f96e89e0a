"""Keep track of addresses that are taken already: of ranges that overlap, the first one counts."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class Claimed:
    """A set of addresses, kept as sorted bounds of ranges.

    The ranges never touch, so that no input makes it slow.
    """

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []

    def claim(self, start: int, end: int) -> list[tuple[int, int]]:
        """Add the addresses ``[start, end)``; return the runs of them that are new."""
        first, last = bisect_left(self.ends, start), bisect_right(self.starts, end)
        fresh: list[tuple[int, int]] = []
        position = start
        for run in range(first, last):
            if position < self.starts[run]:
                fresh.append((position, self.starts[run]))
            position = max(position, self.ends[run])
        if position < end:
            fresh.append((position, end))
        lowest, highest = min([start, *self.starts[first:last]]), max([end, *self.ends[first:last]])
        self.starts[first:last], self.ends[first:last] = [lowest], [highest]
        return fresh

    def claim_whole(self, start: int, end: int) -> bool:
        """Add addresses; tell whether none of them was in the set before."""
        return self.claim(start, end) == [(start, end)]
