"""Search a memory for token tables, those first that are cheap to test and hard to fake.

Anybody on a machine can write token tables into memory, but no more of what stands around a kernel's than memory has
room for: markers of as many names, and these (see `MarkerRanking`). So digits behind many of both are followed as soon
as they are found, for a part of the budget; the others wait until all memory is searched, the best rank first. Where
there are more of them than the budget pays for, those with the most list heads of an image around them come before all
others (see `head_ranking`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from kallsift.budget import WorkBudget
from kallsift.kallsyms.format.token_table import MAX_TABLE, TokenTable, token_tables
from kallsift.kallsyms.token_run_filter import may_be_cut, may_be_tables
from kallsift.kallsyms.token_scan import digit_runs
from kallsift.kernel.recovery.candidates import placement_cost
from kallsift.kernel.recovery.marker_ranking import MarkerRanking, Rank
from kallsift.memory.memory import Memory, Segment

NEAR = 2 * MAX_TABLE
"""Bytes below and above its digits that hold a token table with the index behind it."""

EAGER_RANK = (16, 0)
"""Rank from which on digits do not wait: so many markers with names before them."""

TOKEN_TABLE_COST = 2 * NEAR
"""Bytes that are passed over for one token table."""

ATTEMPT_COST = 1 << 23
"""Bytes that could be passed over while markers are looked for before a token table; names cost more by themselves."""

EAGER_PARTS = 8
"""What part of the budget is for token tables that are followed as soon as they are found, as 1 of so many."""

CHOICE_PARTS = 2
"""What part of the budget is for telling which digits are followed, and in what order, likewise."""

HEAD_PARTS = 2
"""What part of the budget is for list heads around those that wait, likewise."""

PASSES = 16
"""How often all bytes of a small memory could be passed over meanwhile."""

MAX_WAITING = 1 << 12
"""Token tables that wait at most, those of the best rank."""


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

    def tables(self) -> Iterator[tuple[Segment, TokenTable]]:
        """Yield the token tables with their index, each with what is near it; as many as the budget allows."""
        waiting: list[tuple[Rank, int]] = []
        choice = self.budget.share(CHOICE_PARTS)
        ranking = MarkerRanking(self.memory, choice)
        cost = TOKEN_TABLE_COST + min(ATTEMPT_COST, PASSES * self.memory.stored_size)
        # to place what is around one costs more than to find it
        whole_cost = cost + placement_cost(self.memory)
        eager = WorkBudget(self.budget.work // EAGER_PARTS, self.budget.output)
        for stretch, runs in digit_runs(self.memory, self.scanned, self.first):
            likely = may_be_tables(stretch, runs, choice)
            is_cut = may_be_cut(stretch, runs, choice)
            self.cut += [stretch.start + run for run in runs[is_cut].tolist()]
            for address in (stretch.start + run for run in runs[likely].tolist()):
                rank = ranking.rank(address)
                is_eager = rank >= EAGER_RANK and eager.take("", whole_cost)
                if is_eager and self.budget.take("token tables", cost):
                    yield from self._tables_at(address)
                else:
                    waiting.append(((-rank[0], -rank[1]), address))
            if len(waiting) > MAX_WAITING:
                self.budget.leave_out("token tables", len(waiting) - MAX_WAITING)
                waiting = sorted(waiting)[:MAX_WAITING]
        self.budget.leave_out("runs of digits", choice.refused["runs of digits"])
        if len(waiting) * whole_cost > self.budget.work:
            waiting = self._by_heads(waiting)
        else:
            waiting.sort()
        for _, address in waiting:
            if self.budget.take("token tables", cost):
                yield from self._tables_at(address)

    def _by_heads(self, waiting: list[tuple[Rank, int]]) -> list[tuple[Rank, int]]:
        """Return token tables in the order in which they are followed where not all can be: by what is around them."""
        from kallsift.kernel.recovery.head_ranking import head_ranks

        ranks = head_ranks(self.memory, [address for _, address in waiting], self.budget.share(HEAD_PARTS))
        keys = [(-count, -nearest) for count, nearest in ranks]
        return [each for _, each in sorted(zip(keys, waiting, strict=True))]

    def _tables_at(self, address: int) -> Iterator[tuple[Segment, TokenTable]]:
        """Yield the token tables whose digits lie at an address."""
        near = self.memory.around(address, NEAR, NEAR)
        found = list(token_tables(near, address - near.start))
        if not found:
            self.lone.append(address)
        yield from ((near, tokens) for tokens in found)
