"""Recover kernels that have no token table: names are stored plain up to 2.6.9, by OpenWrt, and by modutils (2.4)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from kallsift.budget import WorkBudget
from kallsift.errors import Step
from kallsift.kallsyms.recovered_tables import Attempt
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.recovery.bare_image import best_in, is_file
from kallsift.kernel.recovery.candidates import SharedWork, pointed_at, word_sizes
from kallsift.memory.memory import Memory

MAX_STREAMS = 64
"""Highest number of regions of plain names with lengths that are followed where there is no token table."""


def without_tokens(memory: Memory, failed: list[Attempt], budget: WorkBudget, shared: SharedWork) -> Iterator[Kernel]:
    """Yield kernels whose names are stored plain.

    Args:
        memory: the source.
        failed: list that gets the attempt that led to no kernel.
        budget: limit of the work.
        shared: work that is done once.
    """
    from kallsift.kallsyms.solvers.before_2_6_10 import recover_early
    from kallsift.kallsyms.solvers.identifier_regions import name_regions
    from kallsift.kallsyms.solvers.modutils import recover_modutils
    from kallsift.kallsyms.solvers.uncompressed import holds_entries, recover_uncompressed

    attempt = Attempt()
    sizes = word_sizes(memory)
    found = False
    streams = 0
    find_modutils = partial(recover_modutils, word_sizes=sizes, attempt=attempt, budget=budget)
    if kernel := best_in(memory, find_modutils, attempt, shared):
        found = True
        yield kernel
    for low, high in name_regions(memory):
        kernel = best_in(memory, partial(recover_early, low=low, word_sizes=sizes, attempt=attempt), attempt, shared)
        if kernel and not pointed_at(kernel):
            # numbers in order, their count and as many strings are no proof without pointers
            kernel = None
        if kernel is None and streams < MAX_STREAMS and holds_entries(memory.around(low, 0, high - low).data):
            streams += 1
            find = partial(recover_uncompressed, low=low, high=high, word_sizes=sizes, attempt=attempt)
            kernel = best_in(memory, find, attempt, shared)
        if kernel:
            found = True
            yield kernel
    if not found and not attempt.rank and not failed and (memory.image is not None or memory.is_headerless):
        from kallsift.kernel.recovery.refusal import recognised

        text = recognised(memory) if memory.image is not None or is_file(memory) else None
        if text is not None:
            attempt.step, attempt.message = Step.NO_SYMBOL_TABLE, text
            failed.append(attempt)
    if attempt.rank:
        failed.append(attempt)
