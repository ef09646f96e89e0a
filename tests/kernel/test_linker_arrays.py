"""Arrays that the linker gathers: a symbol beside its entry is never proven, and no entry need be in memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kallsift.kallsyms.evidence import CheckId, Outcome
from kallsift.kernel.cross_checks.bounds import LINKER_ARRAYS
from tests.kernel.twice import BASE, SIZE, Row, Twice, function

ARRAYS = CheckId.LINKER_ARRAYS

COUNT, MOVED = 60, 31
"""Entries of an array, and the one whose address is changed."""

START = BASE + 0x1000

EVENTS = (b"__start_ftrace_events", b"__stop_ftrace_events")


def entry(number: int) -> str:
    """The name of an entry's symbol."""
    return f"__entry_{function(number)}"


def array(step: int, bounds: tuple[bytes, bytes] = EVENTS) -> Twice:
    """A kernel of one array, of which no entry is in memory."""
    rows: list[Row] = [(START, "D", bounds[0].decode())]
    rows += [(START + step * number, "d", entry(number)) for number in range(COUNT)]
    rows.append((START + step * COUNT, "D", bounds[1].decode()))
    return Twice(tuple(rows), np.zeros(SIZE, np.uint8))


@pytest.mark.parametrize("bounds", LINKER_ARRAYS)
def test_each_array_confirms_its_entries(bounds: tuple[bytes, bytes]) -> None:
    check = array(8, bounds).checks()[ARRAYS]
    assert check.outcome is Outcome.PASSED
    # with the symbol at its beginning
    assert check.detail.startswith(f"0 names and {COUNT + 1} addresses")


@pytest.mark.parametrize("step", [1, 4, 8, 24, 40, 56])
@pytest.mark.parametrize("number", [1, MOVED, COUNT - 1])
def test_a_moved_entry_is_contradicted_by_nothing_else(step: int, number: int) -> None:
    """Whichever bit it is, unless another address is higher then: that breaks the order of all."""
    kernel = array(step)
    for bit in range(step.bit_length()):
        for by in (1 << bit, -1 << bit):
            if abs(by) <= step and (number < COUNT - 1 or by < step) and (number > 1 or by > -step):
                changed = kernel.moved(entry(number), by)
                assert changed.failed() == {ARRAYS}, by
                assert "bytes behind the entry before it" in changed.checks()[ARRAYS].detail


@pytest.mark.parametrize("step", [8, 24])
def test_entries_without_symbols_contradict_nothing(step: int) -> None:
    """As entries that assembler makes; what lies beside them is not confirmed."""
    kernel = array(step)
    rows = tuple(row for row in kernel.rows if row[2] not in (entry(0), entry(MOVED)))
    check = replace(kernel, rows=rows).checks()[ARRAYS]
    assert check.outcome is Outcome.PASSED
    assert check.detail.startswith(f"0 names and {COUNT - 3} addresses")


def test_other_symbols_at_entries_contradict_nothing() -> None:
    """As the symbols between the levels of initcalls, and a bound of the array before."""
    kernel = array(8)
    others = ((START, "D", "__stop_others"), (START + 8 * MOVED, "D", "__entry_level"))
    assert replace(kernel, rows=tuple(sorted((*kernel.rows, *others)))).failed() == set()


def test_things_of_several_sizes_are_no_array() -> None:
    kernel = array(8)
    rows = [(address + (address - START) ** 2, letter, name) for address, letter, name in kernel.rows]
    assert replace(kernel, rows=tuple(rows)).checks()[ARRAYS].outcome is Outcome.ABSENT


@pytest.mark.parametrize("address", [0, START - 8, START + 8 * MOVED, (1 << 64) - 1])
@pytest.mark.parametrize("bound", EVENTS)
def test_hostile_bounds_end(bound: bytes, address: int) -> None:
    rows = sorted((address if name == bound.decode() else at, letter, name) for at, letter, name in array(8).rows)
    assert replace(array(8), rows=tuple(rows)).checks()[ARRAYS].outcome is not Outcome.FAILED
