"""Which runs of digits can be those of a token table, by what stands around them; all runs of a batch at once.

Anybody can write digits. But in a token table no string is empty, all characters are those of names, and each string of
one character stands at that character's own code: text that goes on with other digits, or with zeros, is none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.kallsyms.damaged.page_map import PAGE
from kallsift.kallsyms.format.token_table import CODES, FIRST_DIGIT
from kallsift.memory.memory import Stretch

LOOKS = (64, 512, 2048)
"""Bytes from the digits on that are looked at, one after the other: most fail by the first few; a table has more."""

BATCH = 1 << 20
"""Bytes that are looked at at once."""

PASSES = 8
"""How often each of them is passed over."""

MIN_REST = 2 * (CODES - FIRST_DIGIT)
"""Bytes that the strings from the digits on take at least; no other run of digits is among them."""

_CAN_BE = (np.arange(CODES) > ord(" ")) & (np.arange(CODES) != 0x7F) | (np.arange(CODES) == 0)


def may_be_tables(stretch: Stretch, runs: NDArray[np.int64], budget: WorkBudget) -> NDArray[np.bool_]:
    """Tell which runs of digits can have a token table's strings behind them, shape (n,).

    Args:
        stretch: the memory that holds them.
        runs: offsets in it at which the digits start, ascending, shape (n,).
        budget: what it may cost; runs that are not looked at are none.
    """
    fits = np.append(np.diff(runs) >= MIN_REST, True)[: len(runs)]
    return _looked_at(stretch, runs, np.full(len(runs), LOOKS[-1]), fits, budget)


def may_be_cut(stretch: Stretch, runs: NDArray[np.int64], budget: WorkBudget) -> NDArray[np.bool_]:
    """Tell which runs of digits can be those of a table of which the pages behind theirs are blank, shape (n,).

    Args:
        stretch: as for `may_be_tables`.
        runs: likewise.
        budget: likewise.
    """
    cells = stretch.gather(np.maximum(runs - 2, 0), 2)
    room = PAGE - (runs + stretch.start % PAGE) % PAGE
    behind = np.minimum(runs + room, stretch.size - 1)
    fits = (runs >= 2) & (cells[:, 0] != 0) & (cells[:, 1] == 0) & (stretch.gather(behind, 1)[:, 0] == 0)
    return _looked_at(stretch, runs, room, fits, budget)


def _looked_at(
    stretch: Stretch, runs: NDArray[np.int64], room: NDArray[np.int64], fits: NDArray[np.bool_], budget: WorkBudget
) -> NDArray[np.bool_]:
    """Tell which of the runs that fit still do when ever more bytes from them on are looked at, as far as is room."""
    for size in LOOKS:
        chosen = np.flatnonzero(fits)
        for first in range(0, len(chosen), BATCH // size):
            some = chosen[first : first + BATCH // size]
            if not budget.take("runs of digits", PASSES * size * len(some), count=len(some)):
                fits[some] = False
                continue
            fits[some] = _fits(_rows(stretch, runs[some], np.minimum(room[some], size), size))
    return fits


def _rows(stretch: Stretch, runs: NDArray[np.int64], room: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """So many bytes from each run on, shape (n, size); letters, which say nothing, where there is no room for more."""
    rows = np.full((len(runs), size), ord("x"), np.uint8)
    for row, run, end in zip(rows, runs.tolist(), (runs + room).tolist(), strict=True):
        data = stretch.read(run, end)
        row[: len(data)] = data
    return rows


def _fits(rows: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell which rows begin as the strings from the digits on, as far as they go."""
    ends = rows == 0
    number = np.cumsum(ends, axis=1, dtype=np.int16) + np.int16(FIRST_DIGIT)
    inside = number <= CODES - 1
    wrong = ~_CAN_BE[rows]
    wrong[:, 1:] |= ends[:, 1:] & ends[:, :-1]
    # the number of a character is that of its string; behind a NUL it counts one more
    single = ends[:, 2:] & ends[:, :-2]
    wrong[:, 1:-1] |= single & (rows[:, 1:-1] != number[:, 1:-1])
    result: NDArray[np.bool_] = ~(wrong & inside).any(axis=1)
    return result
