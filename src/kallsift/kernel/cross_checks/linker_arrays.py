"""Compare symbols of arrays that the linker gathers with the arrays' steps: each entry is one step behind the last.

Macros put one entry each into a section of its own, under a symbol, and the linker script puts two symbols around all
of them (include/asm-generic/vmlinux.lds.h, ``BOUNDED_SECTION``; arch/x86/kernel/vmlinux.lds.S). So the addresses of the
entries follow from each other. No entry is read, so those count as well that a kernel gave back when it had booted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct, frequent, is_in_ascending
from kallsift.kallsyms.evidence import CheckId
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.cross_checks.bounds import LINKER_ARRAYS
from kallsift.kernel.cross_checks.findings import Finding
from kallsift.kernel.cross_checks.name_keys import Names

MIN_ENTRIES = 16
"""Lowest number of entries of an array whose step is measured."""

MIN_STEPS = 0.9
"""Lowest share of the entries that must be one step behind the entry before: else the section holds several things."""

MAX_ENTRIES = 1 << 18
"""Highest number of symbols of one array."""


def array_finding(names: Names, symbols: SymbolTable) -> Finding:
    """Compare the symbols of all arrays with the arrays' steps."""
    confirmed = np.zeros(len(symbols), np.bool_)
    broken: list[tuple[int, str]] = []
    for low, high in LINKER_ARRAYS:
        bounds = names.find(low), names.find(high)
        if bounds[0] is not None and bounds[1] is not None:
            broken += _of_array(names, symbols, (bounds[0], bounds[1]), confirmed)
    if not confirmed.any():
        return Finding.none(CheckId.LINKER_ARRAYS, len(symbols), "no symbols bound arrays with symbols at equal steps")
    count = len({index for index, _ in broken})
    return Finding(CheckId.LINKER_ARRAYS, np.zeros_like(confirmed), confirmed, count, min(broken, default=(0, ""))[1])


def _of_array(
    names: Names, symbols: SymbolTable, bounds: tuple[int, int], confirmed: NDArray[np.bool_]
) -> list[tuple[int, str]]:
    """Return the symbols that are beside their entries; all others are marked in ``confirmed``.

    Args:
        names: names of the symbols.
        symbols: the table.
        bounds: indices of the symbols that bound the array.
        confirmed: shape (n,), bool; symbols whose places follow from their neighbours' are marked.
    """
    addresses = symbols.addresses
    start, stop = (addresses[index] for index in bounds)
    first, last = np.searchsorted(addresses, np.array([start, stop], np.uint64)).tolist()
    if not MIN_ENTRIES <= last - first <= MAX_ENTRIES:
        return []
    inside = addresses[first:last]
    places = distinct(inside)
    steps = np.diff(places)
    usual, counts = frequent(steps, MIN_ENTRIES // 2)
    if not len(usual) or counts.max() < MIN_STEPS * len(steps):
        return []
    step = usual[counts.argmax()]
    # the bounds are the neighbours of the first entry and of the last one
    gaps = np.diff(np.concatenate((np.array([start]) - step, places, [stop])))
    firm = places[(gaps[:-1] == step) & (gaps[1:] == step)]
    confirmed[first:last] |= is_in_ascending(inside, firm)
    return [
        (index, f"{names.string(index).decode('latin-1')} is not {step} bytes behind the entry before it")
        for index in (first + _moved(inside, places, gaps, int(step))).tolist()
    ]


def _moved(
    inside: NDArray[np.uint64], places: NDArray[np.uint64], gaps: NDArray[np.uint64], step: int
) -> NDArray[np.int64]:
    """Return the numbers of symbols that a changed bit explains: an entry beside it has no symbol.

    Args:
        inside: addresses of the symbols, ascending, shape (m,).
        places: the different ones of them, shape (n,).
        gaps: distances before the first place, between places, and behind the last one, shape (n + 1,).
        step: the distance between two entries.
    """
    moved = np.zeros(len(inside), np.bool_)
    # a place of its own: too near one neighbour by as much as it is too far from the other
    before, behind = gaps[:-1].astype(np.int64) - step, gaps[1:].astype(np.int64) - step
    shifted = (before == -behind) & (before != 0) & (np.abs(before) & (np.abs(before) - 1) == 0)
    moved[np.searchsorted(inside, places[shifted])] = True
    # or the place of a neighbour, whose other side is empty
    if step & (step - 1) == 0:
        # at the array's beginning, symbols that bound it stand beside the first entry
        twice = np.flatnonzero((inside[1:] == inside[:-1]) & (inside[1:] > inside[0]))
        at = np.searchsorted(places, inside[twice])
        moved[twice[before[at] == step]] = True
        moved[twice[behind[at] == step] + 1] = True
    return np.flatnonzero(moved)
