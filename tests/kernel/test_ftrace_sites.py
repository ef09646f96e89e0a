"""Ftrace's list of functions: a symbol beside a function that it has and the table lacks is never proven."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray

from kallsift.arch.paging import Window, Windows
from kallsift.kallsyms.evidence import CheckId, Outcome
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.cross_checks.ftrace_records import RECORD_WORDS
from tests.kernel.twice import ARRAY, BASE, PADDING, PLACE, SIZE, STEP, Twice, function, put, twice

pytestmark = pytest.mark.sampled(4)

STARTS = CheckId.FUNCTION_STARTS

COUNT, SITES = 1400, 0xC_0000
"""Functions, and where the list of them is in the image."""

WEAK = COUNT * STEP + 0x4000
"""Where the weak functions without symbols are."""

MOVED = 701
"""The function whose address is changed."""

NAMES = ("__start_mcount_loc", "__stop_mcount_loc")


def begin(number: int) -> int:
    """The offset of a function."""
    return number * STEP + PADDING


@lru_cache
def traced(distance: int = 0, *, calls: int = 2, listed: bool = True, order: str = "<") -> Twice:
    """A kernel with a list of so many bytes behind each function's beginning, and so many calls of `MOVED`."""
    kernel = twice(COUNT, relative=False, padded=False, order=order)
    data = kernel.data.copy()
    places = [BASE + begin(number) + distance for number in range(COUNT)]
    # a weak function that another one replaces has no symbol
    places += [BASE + WEAK + 0x100 * number for number in range(8)]
    put(data, SITES, *places, size=8, order=order)
    for place in (begin(MOVED - 1) + 8, begin(MOVED - 1) + 16)[calls:]:
        data[place : place + 5] = 0
    bounds = (BASE + SITES, BASE + SITES + 8 * len(places))
    rows = [*kernel.rows, *((address, "D", name) for address, name in zip(bounds, NAMES, strict=True))]
    return replace(kernel, rows=tuple(sorted(row for row in rows if listed or row[2] not in NAMES)), data=data)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("distance", [-8, 0, 4, 12])
def test_an_untouched_kernel_contradicts_itself_nowhere(distance: int, listed: bool, order: str) -> None:
    check = traced(distance, calls=0, listed=listed, order=order).checks()[STARTS]
    assert check.outcome is Outcome.PASSED
    # the one that nothing calls as well
    assert check.detail.startswith(f"0 names and {COUNT:,} addresses")


@pytest.mark.parametrize("by", [1, 4, 7])
def test_the_end_of_the_code_need_not_be_at_a_word(by: int) -> None:
    kernel = traced(calls=0, listed=False)
    rows = sorted((address - by * (name == "_etext"), letter, name) for address, letter, name in kernel.rows)
    check = replace(kernel, rows=tuple(rows)).checks()[STARTS]
    assert check.detail.startswith(f"0 names and {COUNT:,} addresses")


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("bit", range(4))
def test_a_symbol_where_no_function_can_begin_is_contradicted(bit: int, listed: bool) -> None:
    """Nothing calls it, and ftrace has a function beside it."""
    kernel = traced(calls=0, listed=listed)
    assert kernel.moved(function(MOVED), 1 << bit).failed() == {STARTS}
    assert kernel.moved(function(MOVED), -1 << bit).failed() == {STARTS}


@pytest.mark.parametrize("bit", [4, 5])
def test_one_call_of_what_ftrace_has_is_enough(bit: int) -> None:
    changed = traced(calls=1).moved(function(MOVED), 1 << bit)
    assert changed.failed() == {STARTS}
    assert f"{function(MOVED)} is called at" in changed.checks()[STARTS].detail
    assert twice(COUNT, padded=False).moved(function(MOVED), 1 << bit).failed() == {STARTS}


def test_what_neither_calls_nor_alignment_tell_contradicts_nothing() -> None:
    """It can be a weak function, beside one that ftrace cannot hook into."""
    assert traced(calls=0).moved(function(MOVED), 32).failed() == set()


@pytest.mark.parametrize(("name", "distance"), [("small.cold", 4), ("small", 5)])
def test_something_small_before_a_weak_function_contradicts_nothing(name: str, distance: int) -> None:
    kernel = traced()
    row = (BASE + WEAK - distance, "t", name)
    assert replace(kernel, rows=tuple(sorted([*kernel.rows, row]))).failed() == set()
    # one bit away, and no part of a function
    row = (BASE + WEAK - 4, "t", "small")
    assert replace(kernel, rows=tuple(sorted([*kernel.rows, row]))).failed() == {STARTS}


def test_without_the_list_one_call_is_not_enough() -> None:
    kernel = traced(calls=1)
    for low, high in ((0, 1 << 15), (0, 1 << 10)):
        data = kernel.data.copy()
        data[SITES + low : SITES + high] = np.random.default_rng(2).integers(0, 256, high - low)
        changed = replace(kernel, data=data).moved(function(MOVED), 32)
        # the list as a whole, or its first part, is memory that the kernel gave back
        assert (STARTS in changed.failed()) == (high == 1 << 10)


RECORDS, HEADS = 0xD_0000, 0xF_0000
"""Where the records that ftrace makes of its list are, and what leads to them."""


@lru_cache
def recorded(words: int = 2, order: str = "<", architecture: str = "x86-64") -> Twice:
    """A kernel that gave its list back, but has records of so many words, in two arrays."""
    kernel = traced(calls=0, order=order)
    data = kernel.data.copy()
    data[SITES:RECORDS] = 0xCC
    put(data, HEADS, BASE + HEADS + 64, size=8, order=order)
    for part, count in enumerate((COUNT // 2, COUNT - COUNT // 2)):
        head, place = HEADS + 64 * (part + 1), RECORDS + 8 * words * part * (COUNT // 2)
        put(data, head, (BASE + head + 64) * (not part), BASE + place, size=8, order=order)
        put(data, head + 16, count, order=order)
        for number in range(count):
            site = BASE + begin(number + part * (COUNT // 2)) + 4
            put(data, place + 8 * words * number, site, 0x8000_0000 - 3 * number, size=8, order=order)
    rows = sorted((*kernel.rows, (BASE + HEADS, "b", "ftrace_pages_start")))
    return replace(kernel, rows=tuple(rows), data=data, mapping=window(architecture))


def window(architecture: str) -> Windows:
    """A mapping of the image alone."""
    return Windows(architecture, "image", (Window(BASE, PLACE, SIZE),))


@pytest.mark.parametrize("words", [2, 3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
def test_records_tell_what_the_list_did(order: str, words: int) -> None:
    kernel = recorded(words, order)
    assert kernel.checks()[STARTS].detail.startswith(f"0 names and {COUNT:,} addresses")
    for bit in range(4):
        assert kernel.moved(function(MOVED), 1 << bit).failed() == {STARTS}


def test_records_are_enough_where_calls_are_not_known() -> None:
    kernel = recorded(architecture="riscv64")
    assert kernel.checks()[STARTS].detail.startswith(f"0 names and {COUNT:,} addresses")
    assert kernel.moved(function(MOVED), 4).failed() == {STARTS}
    assert kernel.without(RECORDS, HEADS - RECORDS).checks()[STARTS].outcome is Outcome.ABSENT


@pytest.mark.parametrize("offset", [0, 64, 72, 80])
@pytest.mark.parametrize("value", [0, BASE + HEADS + 64, (1 << 64) - 1])
def test_hostile_records_end(offset: int, value: int) -> None:
    """A ring of heads, counts of any size, and addresses of nothing."""
    kernel = recorded()
    data = kernel.data.copy()
    put(data, HEADS + offset, value, size=8)
    assert replace(kernel, data=data).checks()[STARTS].outcome is Outcome.PASSED


def test_a_ring_of_arrays_that_do_not_ascend_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each head may name as many records as there may be in all; those that do not ascend counted as none."""
    sizes: list[int] = []
    read = VirtualMemory.read

    def counted(memory: VirtualMemory, address: int, size: int) -> NDArray[np.uint8]:
        sizes.append(size)
        return read(memory, address, size)

    monkeypatch.setattr(VirtualMemory, "read", counted)
    kernel = recorded()
    data = kernel.data.copy()
    put(data, HEADS + 64, BASE + HEADS + 64, BASE + HEADS + 128, size=8)
    put(data, RECORDS, *([1] * 64), size=8)
    put(data, HEADS + 72, BASE + RECORDS, size=8)
    assert replace(kernel, data=data).checks()[STARTS].outcome is Outcome.PASSED
    assert len(sizes) == len(RECORD_WORDS)


def test_words_that_are_no_functions_are_no_list() -> None:
    """Return addresses, for example, that lie anywhere in functions."""
    kernel = traced(calls=0)
    data = kernel.data.copy()
    places = np.sort(np.random.default_rng(3).integers(0, ARRAY, COUNT))
    put(data, SITES, *(BASE + place for place in places.tolist()), size=8)
    changed = replace(kernel, data=data)
    assert changed.moved(function(MOVED), 4).failed() == set()
    assert f"{COUNT - 1:,} addresses" in changed.checks()[STARTS].detail
