"""Find function starts by the table that the kernel unwinds its stack with (ORC).

objtool writes an entry for each address from which on the stack pointer is at another distance from the frame (since
4.14, arch/x86/include/asm/orc_types.h, ``struct orc_entry``), and the kernel sorts them when it boots. At the start of
a function the stack holds nothing but the return address. This also holds behind each return inside of a function, but
those places are hardly ever aligned as functions are. Where the entry before says the same, objtool leaves out the one
of a function: some in a hundred have none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import is_in_ascending
from kallsift.errors import UnmappedError
from kallsift.kernel.cross_checks.bounded_table import bounded_table
from kallsift.kernel.cross_checks.known_functions import NO_FUNCTIONS, KnownFunctions
from kallsift.kernel.cross_checks.name_keys import Names
from kallsift.kernel.placement.placement import Placement
from kallsift.memory.memory import Memory

ENTRY = np.dtype([("sp_offset", "<i2"), ("bp_offset", "<i2"), ("kinds", "<u2")])
"""``struct orc_entry``; how the last two bytes are divided has changed, the first two have not."""

RETURN_ADDRESS = 8
"""Distance in bytes from the stack pointer to the frame at the start of a function."""

MIN_ENTRIES, MAX_ENTRIES = 4096, 1 << 22
"""Lowest and highest number of entries of a trusted table."""

MIN_COVERED = 0.7
"""Lowest share of the symbols in the code that must be at such a place: parts of functions and labels are not."""


def unwound_functions(
    memory: Memory, placement: Placement, names: Names, code: tuple[int, int], offsets: NDArray[np.int64]
) -> KnownFunctions:
    """Return the functions that the table gives; none without a table.

    Args:
        memory: the memory with the image.
        placement: its placement.
        names: names of its symbols.
        code: virtual addresses of the code's beginning and end.
        offsets: offsets of the symbols in the code, ascending, shape (n,).
    """
    starts = _starts(memory, placement, names, code)
    is_named = is_in_ascending(starts, offsets)
    found = KnownFunctions(starts[is_named], starts[~is_named])
    if np.count_nonzero(is_in_ascending(offsets, found.named)) < MIN_COVERED * len(offsets) or not len(offsets):
        return NO_FUNCTIONS
    return KnownFunctions(found.named, found.unnamed[found.unnamed % found.alignment == 0])


def _starts(memory: Memory, placement: Placement, names: Names, code: tuple[int, int]) -> NDArray[np.int64]:
    """Return the offsets in the code from which on the stack holds the return address alone, ascending."""
    nothing, sizes = np.empty(0, np.int64), range(4 * MIN_ENTRIES, 4 * MAX_ENTRIES + 4)
    table = bounded_table(memory, placement, names, (b"__start_orc_unwind_ip", b"__stop_orc_unwind_ip"), sizes)
    index = names.find(b"__start_orc_unwind")
    if table is None or index is None:
        return nothing
    count, place = len(table.data) // 4, placement.physical(int(placement.symbols.addresses[index]))
    try:
        entries = np.ascontiguousarray(memory.read(place, ENTRY.itemsize * count)).view(ENTRY)
    except UnmappedError:
        return nothing
    relative = table.data[: 4 * count].view("<i4")
    chosen = np.flatnonzero(entries["sp_offset"] == RETURN_ADDRESS)
    # each address is stored relative to its own place
    places = table.start - code[0] + 4 * chosen + relative[chosen].astype(np.int64)
    return np.unique(places[(places >= 0) & (places < code[1] - code[0])])
