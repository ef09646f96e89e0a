"""Tables of code that is patched: a symbol beside a static key or the key of a static call is never proven."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from kallsift.kallsyms.evidence import CheckId, Outcome
from kallsift.kernel.placement.pointers import Words
from tests.kernel.twice import BASE, SIZE, Row, Twice, function, put

KEYS = CheckId.STATIC_KEYS

COUNT, MOVED = 100, 51
"""Keys of each table, and the one whose address is changed."""

JUMPS, SITES, FLAGS, CALLS = 0x4_0000, 0x5_0000, 0x6_0000, 0x7_0000
"""Offsets of the tables, and of the keys that they lead to."""

INSIDE = 0x6_8000
"""Offset of structures with a key in them."""

STEP = 0x20
"""Bytes from one key to the next."""

PREFIXES = ("__key_", "__SCK__")


def name(number: int, prefix: str = PREFIXES[0]) -> str:
    """The name of a key."""
    return prefix + function(number)


@lru_cache
def keyed(size: int = 8, order: str = "<") -> Twice:
    """A kernel with both tables; a third of the static keys is inside of structures."""
    data, rows = np.zeros(SIZE, np.uint8), list[Row]()
    for number in range(COUNT):
        place = SITES + 8 * number
        put(data, place, 16 * number - place, CALLS + STEP * number - place - 4 | number % 4, order=order)
        rows.append((BASE + CALLS + STEP * number, "d", name(number, PREFIXES[1])))
        place, key = JUMPS + (8 + size) * number, FLAGS + STEP * number
        rows.append((BASE + key, "b", name(number)))
        if number % 3 == 0:
            rows[-1] = (BASE + INSIDE + 4 * STEP * number, "d", f"__holder_{function(number)}")
            key = INSIDE + 4 * STEP * number + size
        put(data, place, 16 * number - place, 16 * number + 8 - place - 4, order=order)
        put(data, place + 8, key - place - 8 | number % 4, size=size, order=order)
    bounds = {"_stext": 0, "_etext": 16 * COUNT}
    bounds |= {"__start___jump_table": JUMPS, "__stop___jump_table": JUMPS + (8 + size) * COUNT}
    bounds |= {"__start_static_call_sites": SITES, "__stop_static_call_sites": SITES + 8 * COUNT}
    rows += [(BASE + offset, "R", bound) for bound, offset in bounds.items()]
    return Twice(tuple(sorted(rows)), data, Words(size, order))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("size", [4, 8])
def test_an_untouched_kernel_contradicts_itself_nowhere(size: int, order: str) -> None:
    check = keyed(size, order).checks()[KEYS]
    assert check.outcome is Outcome.PASSED
    assert check.detail.startswith(f"0 names and {COUNT + COUNT * 2 // 3} addresses")


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("by", [1, 2, 4, 8, -1, -2, -4])
def test_a_moved_key_is_contradicted_by_nothing_else(by: int, prefix: str) -> None:
    number = MOVED + 1
    assert number % 3
    changed = keyed().moved(name(number, prefix), by)
    assert changed.failed() == {KEYS}
    assert f"{name(number, prefix)} is beside a key at" in changed.checks()[KEYS].detail


def test_a_symbol_that_is_moved_into_the_key_before_it_is_contradicted() -> None:
    kernel = keyed()
    row = (BASE + FLAGS + STEP * (MOVED + 1) + 16, "b", "behind_the_key")
    kernel = replace(kernel, rows=tuple(sorted((*kernel.rows, row))))
    assert kernel.failed() == set()
    assert kernel.moved("behind_the_key", -8).failed() == {KEYS}


def test_tables_that_lead_elsewhere_are_none() -> None:
    """Many keys beside symbols, places that are no code, or no table at all."""
    kernel = keyed()
    data = kernel.data.copy()
    rows = [(at + 4 * at_key(title), letter, title) for at, letter, title in kernel.rows]
    assert replace(kernel, rows=tuple(rows)).checks()[KEYS].outcome is Outcome.ABSENT
    for low, size in ((JUMPS, 16), (SITES, 8)):
        for number in range(COUNT):
            put(data, low + size * number, 0x10_0000)
    assert replace(kernel, data=data).checks()[KEYS].outcome is Outcome.ABSENT
    assert kernel.without(JUMPS, FLAGS - JUMPS).checks()[KEYS].outcome is Outcome.ABSENT


def at_key(title: str) -> bool:
    """Whether a symbol is that of a key."""
    return title.startswith(PREFIXES)


@pytest.mark.parametrize("address", [0, BASE, (1 << 64) - 1])
@pytest.mark.parametrize("bound", ["__start___jump_table", "__stop_static_call_sites", "_etext"])
def test_hostile_bounds_end(bound: str, address: int) -> None:
    rows = sorted((address if title == bound else at, letter, title) for at, letter, title in keyed().rows)
    assert replace(keyed(), rows=tuple(rows)).checks()[KEYS].outcome is not Outcome.FAILED
