"""Read a table that the linker script puts between two symbols."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import UnmappedError
from kallsift.kernel.cross_checks.name_keys import Names
from kallsift.kernel.placement.placement import Placement
from kallsift.memory.memory import Memory


@dataclass(frozen=True, eq=False)
class BoundedTable:
    """The bytes between two symbols.

    Attributes:
        start: virtual address of the first byte.
        data: the bytes, contiguous, shape (n,), uint8.
    """

    start: int
    data: NDArray[np.uint8]


def bounded_table(
    memory: Memory, placement: Placement, names: Names, bounds: tuple[bytes, bytes], sizes: range
) -> BoundedTable | None:
    """Return the table between two symbols; None if they are not named, or it is not there, or of no allowed size.

    Args:
        memory: the memory with the image.
        placement: its placement.
        names: names of its symbols.
        bounds: names of the symbols at the table's start and behind its end.
        sizes: numbers of bytes that it can have.
    """
    low, high = (names.find(name) for name in bounds)
    if low is None or high is None:
        return None
    start, stop = (int(placement.symbols.addresses[index]) for index in (low, high))
    if stop - start not in sizes:
        return None
    try:
        return BoundedTable(start, np.ascontiguousarray(memory.read(placement.physical(start), stop - start)))
    except UnmappedError:
        return None
