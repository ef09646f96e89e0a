"""Compare symbols of static keys and static calls with the tables of the code that is patched for them.

Each entry of the jump table (include/linux/jump_label.h, ``struct jump_entry``: two 32-bit distances and one of a word)
and of the sites of static calls (include/linux/static_call_types.h, ``struct static_call_site``: two 32-bit distances)
leads to its key. A key is two words (``struct static_key``, ``struct static_call_key``): no symbol lies inside of one,
and no structure has one at an offset that is not aligned.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct, is_in_ascending
from kallsift.kallsyms.evidence import CheckId
from kallsift.kernel.cross_checks.bounded_table import bounded_table
from kallsift.kernel.cross_checks.findings import Finding
from kallsift.kernel.cross_checks.name_keys import Names
from kallsift.kernel.placement.placement import Placement
from kallsift.memory.memory import Memory

MIN_ENTRIES = 64
"""Lowest number of entries of a trusted table."""

MIN_WITH_SYMBOLS = 16
"""Lowest number of keys that are at symbols: tables of functions alone have none."""

MAX_SIZE = 1 << 22
"""Highest size of a table in bytes."""

MIN_IN_CODE = 0.5
"""Lowest share of the entries whose places are in the code: the others are in code that only runs at boot."""

MAX_EXCEPTIONS = 0.01
"""Highest share of the keys beside symbols; with more, the table is not read rightly."""

FLAGS = np.uint64(3)
"""Bits of the distance to a key that are flags."""


def key_finding(memory: Memory, placement: Placement, names: Names) -> Finding:
    """Compare the keys of all entries with the symbols."""
    symbols, size = placement.symbols, placement.words.size
    tables = (
        _keys(memory, placement, names, (b"__start___jump_table", b"__stop___jump_table"), (8, size)),
        _keys(memory, placement, names, (b"__start_static_call_sites", b"__stop_static_call_sites"), (4, 4)),
    )
    keys = distinct(np.concatenate(tables))
    first, behind = (np.searchsorted(symbols.addresses, keys, side) for side in ("left", "right"))
    has_symbol = behind > first
    if np.count_nonzero(has_symbol) < MIN_WITH_SYMBOLS:
        return Finding.none(CheckId.STATIC_KEYS, len(symbols), "no table leads to keys with symbols")
    last = len(symbols) - 1
    inside = (behind <= last) & (symbols.addresses[np.minimum(behind, last)] - keys < np.uint64(2 * size))
    below = keys - symbols.addresses[np.maximum(first - 1, 0)]
    beside = ~has_symbol & (first > 0) & (below < np.uint64(size))
    wrong = [
        *((int(behind[number]), int(keys[number])) for number in np.flatnonzero(inside).tolist()),
        *((int(first[number]) - 1, int(keys[number])) for number in np.flatnonzero(beside).tolist()),
    ]
    if len(wrong) > max(1, MAX_EXCEPTIONS * len(keys)):
        return Finding.none(CheckId.STATIC_KEYS, len(symbols), "the tables of keys are not read rightly")
    confirmed = is_in_ascending(symbols.addresses, keys)
    index, key = min(wrong, default=(0, 0))
    detail = f"{names.string(index).decode('latin-1')} is beside a key at {key:#x}" if wrong else ""
    count = len({index for index, _ in wrong})
    return Finding(CheckId.STATIC_KEYS, np.zeros_like(confirmed), confirmed, count, detail)


def _keys(
    memory: Memory, placement: Placement, names: Names, bounds: tuple[bytes, bytes], key: tuple[int, int]
) -> NDArray[np.uint64]:
    """Return the addresses that the entries of a table lead to; none if there is no such table.

    Args:
        memory: the memory with the image.
        placement: its placement.
        names: names of its symbols.
        bounds: names of the symbols around the table.
        key: offset and size in bytes of the distance to the key; it is the last part of an entry.
    """
    nothing, words, size = np.empty(0, np.uint64), placement.words, sum(key)
    low, high = names.find(b"_stext"), names.find(b"_etext")
    table = bounded_table(memory, placement, names, bounds, range(MIN_ENTRIES * size, MAX_SIZE + 1, size))
    if table is None or low is None or high is None:
        return nothing
    entries = table.data.reshape(-1, size)
    own = np.uint64(table.start) + np.arange(len(entries), dtype=np.uint64) * np.uint64(size)
    places, keys = (
        words.wrap(own + np.uint64(at) + _distances(entries[:, at : at + width], words.byte_order))
        for at, width in ((0, 4), key)
    )
    keys &= ~FLAGS
    start, stop = (placement.symbols.addresses[index] for index in (low, high))
    if np.count_nonzero((places >= start) & (places < stop)) < MIN_IN_CODE * len(entries):
        return nothing
    return keys


def _distances(fields: NDArray[np.uint8], byte_order: str) -> NDArray[np.uint64]:
    """Return signed numbers, one in each row of bytes, modulo 2^64."""
    data = np.ascontiguousarray(fields)
    return data.view(f"{byte_order}i{data.shape[1]}").ravel().astype(np.int64).view(np.uint64)
