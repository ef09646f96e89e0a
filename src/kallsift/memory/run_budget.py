"""Choose the runs of memory that a source of some size is worth: each costs time in all searches, even a short one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.memory.segments import Segment

RUN_COST, RUN_SIZE = 1 << 16, 1 << 15
"""Cost of a run in all searches, as the number of bytes that could be read in that time; and bytes to keep it.

Machines without their free pages have some ten thousand runs, and files that are as large.
"""

Kind = TypeVar("Kind", bound=Segment)


def largest_runs(sizes: NDArray[np.int64], budget: WorkBudget, what: str) -> NDArray[np.int64]:
    """Return the indices of the largest runs that the budget allows, ascending.

    Args:
        sizes: bytes or pages of each run, shape (n,).
        budget: the budget of the source, which counts the runs that are left out.
        what: the runs as messages call them.
    """
    allowed = min(budget.work // RUN_COST, budget.output // RUN_SIZE)
    if not budget.take(what, RUN_COST * len(sizes), RUN_SIZE * len(sizes), count=len(sizes) - allowed):
        budget.take("", RUN_COST * allowed, RUN_SIZE * allowed)
    return np.sort(np.argsort(-sizes, kind="stable")[:allowed])


def take_run(budget: WorkBudget, what: str) -> bool:
    """Take the cost of one run from a budget; tell whether there was as much."""
    return budget.take(what, RUN_COST, RUN_SIZE)


def largest_segments(segments: Sequence[Kind], budget: WorkBudget) -> list[Kind]:
    """Return the largest segments, as many as the budget allows, in their order."""
    sizes = np.array([segment.size for segment in segments], np.int64)
    return [segments[index] for index in largest_runs(sizes, budget, "ranges of memory").tolist()]
