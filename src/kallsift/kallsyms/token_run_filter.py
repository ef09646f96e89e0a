"""Choose the runs of digits that can be those of a token table, by the bytes around them; a whole batch at once.

Any text can hold digits. But in a token table no string is empty, all characters are characters of names, and each
string of one character stands at that character's own code. So text that continues with other digits, or with zeros, is
no token table.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.kallsyms.damaged.page_map import PAGE
from kallsift.kallsyms.format.token_table import CODES, FIRST_DIGIT
from kallsift.memory.segments import Segment

LOOKS = (64, 512, 2048)
"""Bytes that are compared from the digits on, in turn: most runs fail by the first few; a table has more than the
last."""

BATCH = 1 << 20
"""Bytes that are compared at once."""

PASSES = 8
"""Number of passes over each of these bytes, for the budget."""

MIN_REST = 2 * (CODES - FIRST_DIGIT)
"""Lowest size in bytes of the strings from the digits on; no second run of digits can lie among them."""

_CAN_BE = (np.arange(CODES) > ord(" ")) & (np.arange(CODES) != 0x7F) | (np.arange(CODES) == 0)


def may_be_tables(stretch: Segment, runs: NDArray[np.int64], budget: WorkBudget) -> NDArray[np.bool_]:
    """Tell which runs of digits can be part of a token table, shape (n,).

    Args:
        stretch: the memory that holds the runs.
        runs: offsets in it at which the digits start, ascending, shape (n,).
        budget: the work that this may cost; the result is False for runs that it does not allow to compare.
    """
    fits = np.append(np.diff(runs) >= MIN_REST, True)[: len(runs)]
    return _looked_at(stretch, runs, np.full(len(runs), LOOKS[-1]), fits, budget)


def may_be_cut(stretch: Segment, runs: NDArray[np.int64], budget: WorkBudget) -> NDArray[np.bool_]:
    """Tell which runs can be part of a token table that is cut by a blank page.

    The page behind the one that holds the digits is the blank one. The result has the shape (n,).

    Args:
        stretch: as for `may_be_tables`.
        runs: as for `may_be_tables`.
        budget: as for `may_be_tables`.
    """
    cells = stretch.gather(np.maximum(runs - 2, 0), 2)
    room = PAGE - (runs + stretch.start % PAGE) % PAGE
    behind = np.minimum(runs + room, stretch.size - 1)
    fits = (runs >= 2) & (cells[:, 0] != 0) & (cells[:, 1] == 0) & (stretch.gather(behind, 1)[:, 0] == 0)
    return _looked_at(stretch, runs, room, fits, budget)


def _looked_at(
    stretch: Segment, runs: NDArray[np.int64], room: NDArray[np.int64], fits: NDArray[np.bool_], budget: WorkBudget
) -> NDArray[np.bool_]:
    """Tell which of the runs in ``fits`` pass when more and more bytes are compared.

    At most ``room`` bytes of each run are compared.
    """
    for size in LOOKS:
        chosen = np.flatnonzero(fits)
        for first in range(0, len(chosen), BATCH // size):
            some = chosen[first : first + BATCH // size]
            if not budget.take("runs of digits", PASSES * size * len(some), count=len(some)):
                fits[some] = False
                continue
            fits[some] = _fits(_rows(stretch, runs[some], np.minimum(room[some], size), size))
    return fits


def _rows(stretch: Segment, runs: NDArray[np.int64], room: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """Return ``size`` bytes from each run on, shape (n, size).

    Where a run has less room, the rest is letters, which contradict nothing.
    """
    rows = np.full((len(runs), size), ord("x"), np.uint8)
    for row, run, end in zip(rows, runs.tolist(), (runs + room).tolist(), strict=True):
        data = stretch.read(run, end)
        row[: len(data)] = data
    return rows


def _fits(rows: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell which rows can be the strings of a token table from the digits on."""
    ends = rows == 0
    number = np.cumsum(ends, axis=1, dtype=np.int16) + np.int16(FIRST_DIGIT)
    inside = number <= CODES - 1
    wrong = ~_CAN_BE[rows]
    wrong[:, 1:] |= ends[:, 1:] & ends[:, :-1]
    # ``number`` is the code of the string that a character belongs to; each NUL begins the next code
    single = ends[:, 2:] & ends[:, :-2]
    wrong[:, 1:-1] |= single & (rows[:, 1:-1] != number[:, 1:-1])
    result: NDArray[np.bool_] = ~(wrong & inside).any(axis=1)
    return result
