"""Read the records that ftrace made of its list of functions: they stay when the kernel gives the list back.

``ftrace_pages_start`` leads to the first of several ``struct ftrace_page`` (kernel/trace/ftrace.c): the address of the
next one, that of an array of ``struct dyn_ftrace`` (include/linux/ftrace.h), and the number of records in it. A record
begins with the place in the function; how long it is depends on the architecture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.paging import translate
from kallsift.errors import UnmappedError
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
    parts: list[NDArray[np.uint64]] = []
    try:
        start = memory.read(placement.physical(int(placement.symbols.addresses[index])), placement.words.size)
        page = int(_words(start, placement)[0])
        for _ in range(MAX_PAGES):
            if not page or sum(map(len, parts)) > MAX_RECORDS:
                break
            head = _read(memory, placement, page, 3 * placement.words.size)
            page, records = (int(word) for word in _words(head, placement)[:2])
            size = placement.words.size
            count = int(head[2 * size : 2 * size + 4].view(placement.words.int_dtype)[0])
            if not 0 < count <= MAX_RECORDS:
                break
            parts.append(_places(memory, placement, records, count))
    except UnmappedError:
        return None
    return np.concatenate(parts) if parts else None


def _places(memory: Memory, placement: Placement, records: int, count: int) -> NDArray[np.uint64]:
    """Return the places of an array of records; none if they do not ascend, as the kernel sorts them."""
    for size in RECORD_WORDS:
        try:
            words = _words(_read(memory, placement, records, count * size * placement.words.size), placement)
        except UnmappedError:
            break
        places = words.reshape(count, size)[:, 0]
        if (places[1:] > places[:-1]).all():
            return places
    return np.empty(0, np.uint64)


def _read(memory: Memory, placement: Placement, address: int, size: int) -> NDArray[np.uint8]:
    """Return the bytes at a virtual address, where memory that follows is mapped in one piece."""
    assert placement.mapping is not None
    ends = np.array([address, address + size - 1 & placement.words.mask], np.uint64)
    physical, mapped = translate(memory, placement.mapping, placement.root, ends)
    if not mapped.all() or int(physical[1] - physical[0]) != size - 1:
        raise UnmappedError(address, size)
    return np.ascontiguousarray(memory.read(int(physical[0]), size))


def _words(data: NDArray[np.uint8], placement: Placement) -> NDArray[np.uint64]:
    return np.ascontiguousarray(data).view(placement.words.dtype).astype(np.uint64)
