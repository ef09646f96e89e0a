"""Sets of numbers in arrays, by sorting.

`numpy.unique` hashes since NumPy 2.3, which addresses defeat (their low bits repeat): 200 ms for 200,000 of them that
are sorted in 10. It also imports `numpy.ma`, 30 ms, and `numpy.isin` does both.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.integer)

Bytes = NDArray[np.uint8]
"""Bytes as an array, shape (size,)."""


def distinct(values: NDArray[Number]) -> NDArray[Number]:
    """Return the different values, ascending, shape (n,)."""
    # stable: what is in order already, as often, is passed over once
    ordered = np.sort(values, axis=None, kind="stable")
    return ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))[: len(ordered)]]


def frequent(values: NDArray[Number], least: int) -> tuple[NDArray[Number], NDArray[np.intp]]:
    """Return the values that occur at least ``least`` times, and their counts.

    Both have shape (n,); the values ascend.

    By one sort: of millions of values hardly any is there so often, and only those are counted.
    """
    ordered = np.sort(values, axis=None)
    ends = ordered[least - 1 :]
    often = distinct(ends[ends == ordered[: len(ends)]])
    return often, np.searchsorted(ordered, often, "right") - np.searchsorted(ordered, often)


def is_in(values: NDArray[Number], among: NDArray[Number]) -> NDArray[np.bool_]:
    """Tell which of ``values`` are among others of the same type, shape (n,)."""
    if not len(among) or not len(values):
        return np.zeros(len(values), np.bool_)
    if len(among) == 1:
        found: NDArray[np.bool_] = values == among[0]
        return found
    if len(among) > len(values):
        # the fewer are sorted: the others are looked for among them
        wanted = distinct(values)
        places = np.minimum(np.searchsorted(wanted, among), len(wanted) - 1)
        wanted = distinct(wanted[places[wanted[places] == among]])
        return is_in(values, wanted)
    return is_in_ascending(values, np.sort(among, kind="stable"))


def is_in_ascending(values: NDArray[Number], among: NDArray[Number]) -> NDArray[np.bool_]:
    """Tell the same where the others are in ascending order."""
    if not len(among):
        return np.zeros(len(values), np.bool_)
    places = np.minimum(np.searchsorted(among, values), len(among) - 1)
    found: NDArray[np.bool_] = among[places] == values
    return found
