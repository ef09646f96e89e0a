"""Search a memory for token tables, first those that are cheap to test and hard to fake.

Anybody on a machine can write token tables into memory. But markers and names as around a kernel's table take as much
memory as the kernel's (see `MarkerRanking`). So digits behind many markers with names are followed as soon as they are
found, for a part of the budget; the others wait until all memory is searched, the best rank first. If there are more of
them than the budget pays for, those with the most list heads of an image around them come first (see `head_ranking`).
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
from kallsift.memory.memory import Memory
from kallsift.memory.segments import BytesSegment

NEAR = 2 * MAX_TABLE
"""Bytes below and above its digits that contain a token table with the index behind it."""

EAGER_RANK = (16, 0)
"""Rank from which on digits do not wait: the number of markers with names before them."""

TOKEN_TABLE_COST = 2 * NEAR
"""Bytes that are passed over for one token table."""

ATTEMPT_COST = 1 << 23
"""Bytes that could be passed over to search markers before a token table; names are paid for separately."""

EAGER_PARTS = 8
"""Divisor of the budget: the share for token tables that are followed as soon as they are found."""

CHOICE_PARTS = 2
"""Divisor of the budget: the share for choosing and ordering the digits that are followed."""

HEAD_PARTS = 2
"""Divisor of the budget: the share for list heads around those that wait."""

PASSES = 16
"""Number of times that all bytes of a small memory could be passed over meanwhile."""

MAX_WAITING = 1 << 12
"""Highest number of token tables that wait; those of the best rank are kept."""


@dataclass(eq=False)
class TokenSearch:
    """The token tables of a memory.

    Attributes:
        memory: the memory that is searched.
        budget: the work that this may cost.
        scanned: called with the bytes done and the bytes in all.
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

    def tables(self) -> Iterator[tuple[BytesSegment, TokenTable]]:
        """Yield the token tables with an index, and their surroundings.

        The budget bounds their number.
        """
        waiting: list[tuple[Rank, int]] = []
        choice = self.budget.share(CHOICE_PARTS)
        ranking = MarkerRanking(self.memory, choice)
        cost = TOKEN_TABLE_COST + min(ATTEMPT_COST, PASSES * self.memory.stored_size)
        # placing the tables around a token table costs more than finding it
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
        """Return waiting token tables ordered by the list heads around them.

        This is for tables of which not all can be followed.
        """
        from kallsift.kernel.recovery.head_ranking import head_ranks

        ranks = head_ranks(self.memory, [address for _, address in waiting], self.budget.share(HEAD_PARTS))
        keys = [(-count, -nearest) for count, nearest in ranks]
        return [each for _, each in sorted(zip(keys, waiting, strict=True))]

    def _tables_at(self, address: int) -> Iterator[tuple[BytesSegment, TokenTable]]:
        """Yield the token tables whose digits lie at an address."""
        near = self.memory.around(address, NEAR, NEAR)
        found = list(token_tables(near, address - near.start))
        if not found:
            self.lone.append(address)
        yield from ((near, tokens) for tokens in found)
