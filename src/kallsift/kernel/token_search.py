"""Search a memory for token tables, those first that are cheap to test and hard to fake.

Anybody on a machine can write token tables into memory, but no more of what stands around a kernel's than memory has
room for: markers of as many names. So a table that ends markers, or that many stand before, is followed as soon as it
is found; the others wait until all memory is searched, those with the most markers first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.kallsyms.markers import GROUP, MAX_ENTRY, longest_markers
from kallsift.kallsyms.recover import MARKERS_WITHIN
from kallsift.kallsyms.run_filter import may_be_cut, may_be_tables
from kallsift.kallsyms.scan import digit_runs
from kallsift.kallsyms.tokens import MAX_PADDING, MAX_TABLE, TokenTable, token_tables
from kallsift.memory.model import Memory, Segment, Stretch

NEAR = 2 * MAX_TABLE
"""Bytes below and above its digits that hold a token table with the index behind it."""

ENOUGH_MARKERS = 16
"""Markers before a token table from which on it does not wait; chance makes runs of three or four."""

TOKEN_TABLE_COST = 2 * NEAR
"""Bytes that are passed over for one token table."""

ATTEMPT_COST = 1 << 26
"""Bytes that could be passed over while tables around a token table are looked for."""

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
        eager = self.budget.share(2)
        for stretch, runs in digit_runs(self.memory, self.scanned, self.first):
            likely = may_be_tables(stretch, runs, self.budget)
            is_cut = may_be_cut(stretch, runs, self.budget)
            self.cut += [stretch.start + run for run in runs[is_cut].tolist()]
            for address in (stretch.start + run for run in runs[likely].tolist()):
                if not self.budget.take("token tables", TOKEN_TABLE_COST):
                    continue
                near, found = self._tables_at(address)
                if not found:
                    self.lone.append(address)
                for tokens in found:
                    is_likely, markers = self._markers(near, tokens)
                    if is_likely and eager.take("token tables", cost):
                        yield near, tokens
                    else:
                        waiting.append((-markers, address))
            if len(waiting) > MAX_WAITING:
                self.budget.leave_out("token tables", len(waiting) - MAX_WAITING)
                waiting = sorted(waiting)[:MAX_WAITING]
        yield from self._waiting(sorted(set(waiting)), cost)

    def _tables_at(self, address: int) -> tuple[Segment, list[TokenTable]]:
        near = self.memory.around(address, NEAR, NEAR)
        return near, list(token_tables(near, address - near.start))

    def _waiting(self, places: list[tuple[int, int]], cost: int) -> Iterator[tuple[Segment, TokenTable]]:
        """Yield the token tables that were not followed at once."""
        for markers, address in places:
            if not self.budget.take("token tables", TOKEN_TABLE_COST + cost):
                continue
            near, found = self._tables_at(address)
            for tokens in found:
                if self._markers(near, tokens)[1] == -markers:
                    yield near, tokens

    def _markers(self, near: Segment, tokens: TokenTable) -> tuple[bool, int]:
        """Tell whether a token table is likely one, and how many words that can be markers stand in a row before it."""
        address = near.start + tokens.offset
        blocks = range(max(0, address - MARKERS_WITHIN) // BLOCK, address // BLOCK + 1)
        count = max(self._markers_in(block, tokens.byte_order) for block in blocks)
        before = near.data[max(0, tokens.offset - 2 * MAX_PADDING) : tokens.offset]
        return count >= ENOUGH_MARKERS or _ends_markers(before, tokens.byte_order), count

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


def _ends_markers(before: NDArray[np.uint8], byte_order: str) -> bool:
    """Tell whether bytes end with words that can be markers, and with what pads them."""
    for width in (4, 8):
        data = before[len(before) % width :]
        words = data.view(f"{byte_order}u{width}").astype(np.int64)
        held = np.flatnonzero(words)
        if len(held) < 2 or (len(words) - 1 - held[-1]) * width >= MAX_PADDING:
            continue
        last = int(words[held[-1]]) - int(words[held[-1] - 1])
        if held[-1] and 2 * GROUP <= last <= GROUP * MAX_ENTRY:
            return True
    return False
