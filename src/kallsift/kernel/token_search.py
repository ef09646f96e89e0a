"""Search a memory for token tables, those first that are cheap to test and hard to fake.

Anybody on a machine can write token tables into memory, but no more of what stands around a kernel's than memory has
room for: markers of as many names. So digits that many markers stand before are followed as soon as they are found, for
a part of the budget; the others wait until all memory is searched, those with the most markers first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.kallsyms.markers import longest_markers
from kallsift.kallsyms.recover import MARKERS_WITHIN
from kallsift.kallsyms.run_filter import may_be_cut, may_be_tables
from kallsift.kallsyms.scan import digit_runs
from kallsift.kallsyms.tokens import MAX_TABLE, TokenTable, token_tables
from kallsift.memory.model import Memory, Segment, Stretch

NEAR = 2 * MAX_TABLE
"""Bytes below and above its digits that hold a token table with the index behind it."""

ENOUGH_MARKERS = 16
"""Markers before a token table from which on it does not wait; chance makes runs of three or four."""

TOKEN_TABLE_COST = 2 * NEAR
"""Bytes that are passed over for one token table."""

ATTEMPT_COST = 1 << 23
"""Bytes that could be passed over while markers are looked for before a token table; names cost more by themselves."""

EAGER_PARTS = 8
"""What part of the budget is for token tables that are followed as soon as they are found, as 1 of so many."""

PASSES = 16
"""How often all bytes of a small memory could be passed over meanwhile."""

BLOCK = MARKERS_WITHIN
"""Bytes whose markers are counted together."""

MAX_WAITING = 1 << 12
"""Token tables that wait at most, those with the most markers."""


@dataclass(eq=False)
class TokenSearch:
    """The token tables of a memory.

    Attributes:
        memory: what is searched.
        budget: what that may cost.
        scanned: told how many bytes of how many are searched.
        first: parts of the memory that are searched before all of it.
        lone: addresses of digits with a token table's strings, but no index that fits them.
        cut: addresses of digits behind whose page nothing stands.
    """

    memory: Memory
    budget: WorkBudget
    scanned: Callable[[int, int], None] | None = None
    first: Iterable[tuple[int, int]] = ()
    lone: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)
    _blocks: dict[tuple[int, str], int] = field(default_factory=dict)

    def tables(self) -> Iterator[tuple[Segment, TokenTable]]:
        """Yield the token tables with their index, each with what is near it; as many as the budget allows."""
        waiting: list[tuple[int, int]] = []
        cost = min(ATTEMPT_COST, PASSES * self.memory.size)
        eager = self.budget.share(EAGER_PARTS)
        for stretch, runs in digit_runs(self.memory, self.scanned, self.first):
            likely = may_be_tables(stretch, runs, self.budget)
            is_cut = may_be_cut(stretch, runs, self.budget)
            self.cut += [stretch.start + run for run in runs[is_cut].tolist()]
            for address in (stretch.start + run for run in runs[likely].tolist()):
                markers = self._markers_before(address)
                if markers >= ENOUGH_MARKERS and eager.take("token tables", TOKEN_TABLE_COST + cost):
                    yield from self._tables_at(address)
                else:
                    waiting.append((-markers, address))
            if len(waiting) > MAX_WAITING:
                self.budget.leave_out("token tables", len(waiting) - MAX_WAITING)
                waiting = sorted(waiting)[:MAX_WAITING]
        for _, address in sorted(waiting):
            if self.budget.take("token tables", TOKEN_TABLE_COST + cost):
                yield from self._tables_at(address)

    def _tables_at(self, address: int) -> Iterator[tuple[Segment, TokenTable]]:
        """Yield the token tables whose digits lie at an address."""
        near = self.memory.around(address, NEAR, NEAR)
        found = list(token_tables(near, address - near.start))
        if not found:
            self.lone.append(address)
        yield from ((near, tokens) for tokens in found)

    def _markers_before(self, address: int) -> int:
        """Return how many words that can be markers stand in a row before digits, in whichever byte order."""
        blocks = range(max(0, address - MARKERS_WITHIN - NEAR) // BLOCK, address // BLOCK + 1)
        return max(self._markers_in(block, byte_order) for block in blocks for byte_order in "<>")

    def _markers_in(self, block: int, byte_order: str) -> int:
        """Return how many words at most stand in a row in a block of memory that can be markers; counted once."""
        if (block, byte_order) not in self._blocks:
            self._blocks[block, byte_order] = max(
                (
                    longest_markers(part, byte_order)
                    for stretch in self.memory.between(block * BLOCK, (block + 1) * BLOCK)
                    if (part := _aligned(stretch, block * BLOCK)) is not None
                    and self.budget.take("token tables", 4 * len(part))
                ),
                default=0,
            )
        return self._blocks[block, byte_order]


def _aligned(stretch: Stretch, low: int) -> NDArray[np.uint8] | None:
    """Return what a stretch holds of a block from its first word of eight bytes on; None if there is none."""
    start = max(low, stretch.start)
    start += -start % 8
    data = stretch.read(max(0, start - stretch.start), max(0, low + BLOCK - stretch.start))
    return data[: len(data) // 8 * 8] if len(data) >= 8 else None
