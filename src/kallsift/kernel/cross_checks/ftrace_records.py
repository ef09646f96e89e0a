"""Read the records that ftrace made of its list of functions: they stay when the kernel gives the list back.

``ftrace_pages_start`` leads to the first of several ``struct ftrace_page`` (kernel/trace/ftrace.c): the address of the
next one, that of an array of ``struct dyn_ftrace`` (include/linux/ftrace.h), and the number of records in it. A record
begins with the place in the function; how long it is depends on the architecture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import UnmappedError
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.cross_checks.name_keys import Names
from kallsift.kernel.placement.placement import Placement
from kallsift.memory.memory import Memory

MAX_PAGES = 1 << 12
"""Highest number of arrays that are followed."""

MAX_RECORDS = 1 << 18
"""Highest number of records of one array, and of all together."""

RECORD_WORDS = (2, 3, 4)
"""Possible sizes of a record in words: place and flags, and what an architecture adds."""


def recorded_places(memory: Memory, placement: Placement, names: Names) -> NDArray[np.uint64] | None:
    """Return the places of all records; None if nothing leads to records.

    Args:
        memory: the memory with the image.
        placement: its placement.
        names: names of its symbols.
    """
    index = names.find(b"ftrace_pages_start")
    if index is None or placement.mapping is None:
        return None
    kernel, size = VirtualMemory(memory, placement.mapping, placement.root, placement.words), placement.words.size
    parts: list[NDArray[np.uint64]] = []
    try:
        page = kernel.value(int(placement.symbols.addresses[index]))
        for _ in range(MAX_PAGES):
            if not page or sum(map(len, parts)) > MAX_RECORDS:
                break
            records, count = kernel.value(page + size), kernel.value(page + 2 * size, 4)
            if not 0 < count <= MAX_RECORDS:
                break
            places = _places(kernel, records, count)
            if places is None:
                break
            parts.append(places)
            page = kernel.value(page)
    except UnmappedError:
        return None
    return np.concatenate(parts) if parts else None


def _places(kernel: VirtualMemory, records: int, count: int) -> NDArray[np.uint64] | None:
    """Return the places of an array of records; None if they do not ascend, as the kernel sorts them."""
    for size in RECORD_WORDS:
        try:
            data = kernel.read(records, count * size * kernel.words.size)
        except UnmappedError:
            return None
        places = data.view(kernel.words.dtype).reshape(count, size)[:, 0].astype(np.uint64)
        if (places[1:] > places[:-1]).all():
            return places
    return None
