"""Find the functions that ftrace can hook into, by the linker's list of places at their beginnings.

``__mcount_loc`` (include/asm-generic/vmlinux.lds.h) holds the address of each such place. The place lies a few bytes
before or behind the function's start, at one of few distances in each kernel. The list is in the memory that the kernel
frees when it has booted; then the records that ftrace made of it are read. A weak function that another one replaces
keeps its place, but has no symbol.

Where no symbol names the list, it is searched behind the code.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct
from kallsift.kernel.cross_checks.bounded_table import bounded_table
from kallsift.kernel.cross_checks.ftrace_records import recorded_places
from kallsift.kernel.cross_checks.known_functions import NO_FUNCTIONS, KnownFunctions
from kallsift.kernel.cross_checks.name_keys import Names
from kallsift.kernel.placement.placement import Placement
from kallsift.memory.memory import Memory

MIN_SITES = 1024
"""Lowest number of places of a trusted list."""

MAX_SIZE = 1 << 21
"""Highest size of the list in bytes."""

WITHIN = 24 << 20
"""Highest distance in bytes from the code's end to the end of a list that no symbol names."""

STRIDE = 64
"""Step, in words, between the words that are sampled to find such a list."""

MAX_DISTANCE = 16
"""Highest distance in bytes between a function's start and its place."""

MIN_SHARE = 0.02
"""Lowest share of the places with a certain distance to their functions, for this distance to be one of the
kernel's."""

MIN_COVERED = 0.97
"""Lowest share of the places that must be at a function by one of these distances."""


def traced_functions(
    memory: Memory, placement: Placement, names: Names, code: tuple[int, int], offsets: NDArray[np.int64]
) -> KnownFunctions:
    """Return the functions that the list of places gives; none without a list.

    Args:
        memory: the memory with the image.
        placement: its placement.
        names: names of its symbols.
        code: virtual addresses of the code's beginning and end.
        offsets: offsets of the symbols in the code, ascending, shape (n,).
    """
    found = _functions_at(_listed(memory, placement, names, code), code, offsets)
    return found if len(found.named) else _functions_at(recorded_places(memory, placement, names), code, offsets)


def _functions_at(
    words: NDArray[np.uint64] | None, code: tuple[int, int], offsets: NDArray[np.int64]
) -> KnownFunctions:
    """Return the functions with places at some addresses; none if these are no places in the functions."""
    if words is None or len(offsets) < MIN_SITES:
        return NO_FUNCTIONS
    places = (distinct(words[(words >= code[0]) & (words < code[1])]) - np.uint64(code[0])).astype(np.int64)
    if len(places) < MIN_SITES or len(places) < len(words) // 2:
        return NO_FUNCTIONS
    last = len(offsets) - 1
    behind = np.searchsorted(offsets, places, "right")
    below = places - offsets[np.maximum(behind - 1, 0)]
    above = places - offsets[np.minimum(behind, last)]
    usual = [
        distance
        for distance in range(-MAX_DISTANCE, MAX_DISTANCE + 1)
        if np.count_nonzero((below == distance) | (above == distance)) >= MIN_SHARE * len(places)
    ]
    named = np.zeros(len(places), np.bool_)
    begin = places.copy()
    for distance in usual:
        found = ~named & ((below == distance) | (above == distance))
        begin[found] -= distance
        named |= found
    if np.count_nonzero(named) < MIN_COVERED * len(places):
        return NO_FUNCTIONS
    rest = places[~named]
    unnamed = distinct(np.concatenate([np.empty(0, np.int64), *(rest - distance for distance in usual)]))
    return KnownFunctions(distinct(begin[named]), unnamed)


def _listed(memory: Memory, placement: Placement, names: Names, code: tuple[int, int]) -> NDArray[np.uint64] | None:
    """Return the words of the list; None if there is none."""
    bounds = (b"__start_mcount_loc", b"__stop_mcount_loc")
    if None in map(names.find, bounds):
        return _searched(memory, placement, code)
    table, size = bounded_table(memory, placement, names, bounds, range(1, MAX_SIZE + 1)), placement.words.size
    if table is None:
        return None
    return table.data[: len(table.data) // size * size].view(placement.words.dtype).astype(np.uint64)


def _searched(memory: Memory, placement: Placement, code: tuple[int, int]) -> NDArray[np.uint64] | None:
    """Return the run of words behind the code with most addresses in the code.

    None if it is short.
    """
    words = placement.words
    # the list is aligned to words, the code's end need not be
    place = placement.physical(code[1] - code[1] % words.size)
    parts = [
        segment.read(max(place - segment.start, 0), min(place + WITHIN - segment.start, segment.size))
        for segment in memory.segments
        if segment.start < place + WITHIN and segment.end > place
    ]
    best = np.empty(0, np.uint64)
    for part in parts:
        values = np.ascontiguousarray(part)[: len(part) // words.size * words.size].view(words.dtype)
        some = values[::STRIDE]
        # functions that only run at boot lie behind the code, so their addresses are allowed too
        likely = (some >= code[0]) & (some - code[0] < WITHIN + code[1] - code[0])
        edges = np.flatnonzero(np.diff(np.concatenate(([False], likely, [False])).astype(np.int8))).reshape(-1, 2)
        if not len(edges):
            continue
        inside = np.concatenate(([0], np.cumsum((some >= code[0]) & (some < code[1]))))
        first, behind = edges[np.argmax(inside[edges[:, 1]] - inside[edges[:, 0]])].tolist()
        run = values[max(first - 1, 0) * STRIDE : behind * STRIDE]
        if len(run) > len(best):
            best = run.astype(np.uint64)
    return best if len(best) >= MIN_SITES else None
