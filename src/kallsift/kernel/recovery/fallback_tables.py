"""Follow token tables around which the tables are damaged, scattered or gone, or of which only a part is left."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, tee

from kallsift.budget import STRETCH_STEP, WorkBudget
from kallsift.kallsyms.format.token_table import TokenTable, lone_token_tables, moved
from kallsift.kallsyms.recovered_tables import Attempt
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.recovery.bare_image import best_in
from kallsift.kernel.recovery.candidates import SharedWork, Solver, cost_in, surrounded, word_sizes
from kallsift.kernel.recovery.token_search import NEAR
from kallsift.memory.memory import Memory
from kallsift.memory.segments import BytesSegment

MAX_FALLBACK_COST = 1 << 32
"""Highest number of bytes that may be passed over to try all ways to read the tables around one token table: a damaged
kernel's have two or three, each of which takes less than 1 << 27."""

LONE_COST, CUT_COST = 1 << 27, 1 << 20
"""Bytes that could be passed over to search for the index of a token table without one, and for the rest of a damaged
one."""


def damaged_at(
    memory: Memory, near: BytesSegment, tokens: TokenTable, attempt: Attempt, shared: SharedWork
) -> Kernel | None:
    """Return the best kernel of a token table with damaged or scattered tables, or None.

    Args:
        memory: the source.
        near: what is near the token table.
        tokens: the table.
        attempt: is told how far it came, and gets a budget of its own: a part of one is paid for, unless it is
            contrived.
        shared: results that several steps use.
    """
    from kallsift.kallsyms.damaged.solver import recover_damaged
    from kallsift.kallsyms.solvers.scattered import recover_anywhere
    from kallsift.kallsyms.solvers.scattered_names import WITHIN

    attempt.budget = WorkBudget(MAX_FALLBACK_COST, MAX_FALLBACK_COST)
    # of a table that is partly lost the begin may be missing, but then its index is not
    middle = tokens.offset if tokens.index_offset is None else tokens.index_offset
    whole = memory.around(near.start + middle, WITHIN, WITHIN)
    there = moved(tokens, near.start - whole.start)
    kernel = _best_read(memory, whole, there, attempt, recover_damaged, shared)
    if kernel is None and tokens.known is None:
        # what seems to be damaged may lie elsewhere, but then nothing else may speak for damage
        elsewhere = Attempt(budget=attempt.budget) if attempt.damaged else attempt
        kernel = _best_read(memory, *surrounded(memory, near, tokens), elsewhere, recover_anywhere, shared)
        if attempt.damaged and kernel is not None and not kernel.proven:
            kernel = None
    return kernel


def _best_read(
    memory: Memory, segment: BytesSegment, tokens: TokenTable, attempt: Attempt, solver: Solver, shared: SharedWork
) -> Kernel | None:
    """Return the best kernel of a token table.

    It is read as that of an image file if a machine's memory shows none.
    """
    # the tables are the same for the memory and its flat image, because both have the same architecture
    readings = iter(tee(solver(segment, tokens, word_sizes(memory), attempt)))
    return best_in(memory, lambda _: next(readings), attempt, shared)


def lone(memory: Memory, places: list[int], budget: WorkBudget) -> Iterator[tuple[BytesSegment, TokenTable, Attempt]]:
    """Yield the token tables among places with digits that no index follows."""
    for place in places:
        from kallsift.kallsyms.solvers.scattered_names import WITHIN

        if not budget.take("token tables without an index", cost_in(memory, LONE_COST)):
            continue
        segment = memory.window(place, WITHIN + NEAR, WITHIN + NEAR)
        for tokens in lone_token_tables(segment, place - segment.start, WITHIN):
            yield segment, tokens, Attempt()


def partly_lost(
    memory: Memory, places: list[int], budget: WorkBudget
) -> Iterator[tuple[BytesSegment, TokenTable, Attempt]]:
    """Yield token tables of which a part survives: before an index, or around digits.

    They are searched where no other kernel runs, because it takes a pass over all memory.
    """
    parts = chain(_before_indices(memory, budget), _around_digits(memory, places, budget))
    yield from ((near, tokens, Attempt()) for near, tokens in parts)


def _before_indices(memory: Memory, budget: WorkBudget) -> Iterator[tuple[BytesSegment, TokenTable]]:
    from kallsift.kallsyms.damaged.token_table import table_before, token_indices

    for stretch in memory.segments:
        if not budget.take("searches of a run of memory for indices", stretch.stored_size + STRETCH_STEP):
            continue
        for offset, byte_order in token_indices(stretch, budget):
            if not budget.take("indices without a token table", CUT_COST):
                break
            near = memory.around(stretch.start + offset, NEAR, NEAR)
            if tokens := table_before(near, stretch.start + offset - near.start, byte_order):
                yield near, tokens


def _around_digits(memory: Memory, places: list[int], budget: WorkBudget) -> Iterator[tuple[BytesSegment, TokenTable]]:
    from kallsift.kallsyms.damaged.token_table import cut_token_tables

    for place in places:
        if not budget.take("token tables that are cut", CUT_COST):
            continue
        near = memory.around(place, NEAR, NEAR)
        for tokens in cut_token_tables(near, place - near.start):
            yield near, tokens
