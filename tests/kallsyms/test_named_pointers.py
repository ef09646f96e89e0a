"""Pointers tell which of their names those are whose index nothing else tells."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from kallsift.kallsyms.damaged.ksymtab_pointers import NamedPointers, SymbolNames, name_pointers
from kallsift.memory.segments import BytesSegment

pytestmark = pytest.mark.sampled(6)

COUNT = 400
"""Symbols, and as many entries behind them."""

TEXT = 0xFFFF_8000_1000_0000
ENTRIES = 0x8_0000
"""Distance of the first entry from the text."""

START = 0x4000_0004
"""Address of the segment, which begins within a word."""

BEFORE = 1004
"""Bytes in it before the entries."""

LOST = slice(COUNT + 100, COUNT + 250)
"""The names that are not known."""


class Form(NamedTuple):
    """How entries are stored: bytes and number of their fields, whether relative, and what they are named."""

    size: int
    fields: int
    relative: bool
    target: str = "symbol_{}"
    name: str = "__ksymtab_symbol_{}"

    def names(self) -> list[bytes]:
        return [form.format(number).encode() for form in (self.target, self.name) for number in range(COUNT)]

    def addresses(self) -> NDArray[np.uint64]:
        """Of the symbols, at random, and of the entries."""
        symbols = np.sort(np.random.default_rng(5).choice(1 << 18, COUNT, replace=False))
        entries = ENTRIES + self.size * self.fields * np.arange(COUNT)
        return np.uint64(TEXT) + np.concatenate((symbols, entries)).astype(np.uint64)


FORMS = [
    Form(4, 3, True),
    Form(4, 2, True),
    Form(4, 1, True, "__tracepoint_{}", "__tracepoint_ptr_{}"),
    Form(8, 3, False),
    Form(8, 2, False),
    Form(8, 1, False, "__tracepoint_{}", "__tracepoint_ptr_{}"),
]


def memory_of(form: Form, byte_order: str, order: NDArray[np.int64] | None = None, added: int = 0) -> BytesSegment:
    """Memory with entries that lead to the symbols in some order, or in their own."""
    addresses = form.addresses()
    symbols = addresses[np.arange(COUNT) if order is None else order]
    led = symbols - addresses[COUNT:] if form.relative else symbols + np.uint64(added)
    entries = np.random.default_rng(6).integers(1, 1 << 31, (COUNT, form.fields)).astype(f"{byte_order}u{form.size}")
    entries[:, 0] = led.astype(f"u{form.size}")
    noise = np.random.default_rng(7).integers(0, 256, 4 * BEFORE, np.uint8).tobytes()
    return BytesSegment(START, np.frombuffer(noise[:BEFORE] + entries.tobytes() + noise[BEFORE:], np.uint8))


def found_in(segment: BytesSegment, form: Form, byte_order: str) -> NamedPointers | None:
    names = form.names()
    names[LOST] = [b""] * (LOST.stop - LOST.start)
    return NamedPointers.find(
        segment, (8, byte_order), SymbolNames(names), form.addresses(), np.ones(len(names), np.bool_)
    )


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_pointers_tell_the_index(form: Form, byte_order: str) -> None:
    pointers, names = found_in(memory_of(form, byte_order), form, byte_order), form.names()[LOST]
    assert pointers is not None
    assert pointers.first_index(names, COUNT, 2 * COUNT - 1) == LOST.start
    assert pointers.first_index(names, COUNT, LOST.stop - 2) is None
    assert pointers.first_index(names[:8], COUNT, 2 * COUNT - 1) is None
    indices = np.arange(LOST.start, LOST.stop)
    assert pointers.holds(indices, names).all()
    assert not pointers.holds(indices + 1, names).any()


def test_an_image_whose_pointers_are_not_at_its_own_addresses() -> None:
    form = Form(8, 3, False)
    pointers = found_in(memory_of(form, ">", added=0x3FF_E000_0000), form, ">")
    assert pointers is not None
    assert pointers.first_index(form.names()[LOST], COUNT, 2 * COUNT - 1) == LOST.start


def test_lost_pages_of_the_pointers() -> None:
    """Zeros say nothing, neither for an index nor against it."""
    form = Form(4, 3, True)
    segment = memory_of(form, "<")
    data = segment.data.copy()
    data[BEFORE + 12 * 120 : BEFORE + 12 * 200] = 0
    pointers = found_in(BytesSegment(START, data), form, "<")
    assert pointers is not None
    assert pointers.first_index(form.names()[LOST], COUNT, 2 * COUNT - 1) == LOST.start


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_pointers_that_known_ones_contradict(form: Form) -> None:
    """Ten neighbours each lead to the right symbols, but not where the others do."""
    order = np.random.default_rng(8).permutation(COUNT // 10)[:, None] * 10 + np.arange(10)
    assert found_in(memory_of(form, "<", order.ravel()), form, "<") is None


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_names_that_are_not_where_the_pointers_are(form: Form) -> None:
    """Names in another order than theirs have no index."""
    pointers, names = found_in(memory_of(form, "<"), form, "<"), form.names()[LOST]
    assert pointers is not None
    shuffled = np.random.default_rng(9).permutation(len(names)).tolist()
    assert pointers.first_index([names[number] for number in shuffled], COUNT, 2 * COUNT - 1) is None
    assert pointers.first_index(names[75:] + names[:75], COUNT, 2 * COUNT - 1) is None


@pytest.mark.parametrize("byte", [0, 1, 0xFF])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_memory_of_one_byte(form: Form, byte: int) -> None:
    assert found_in(BytesSegment(START, np.full(1 << 16, byte, np.uint8)), form, "<") is None


@pytest.mark.parametrize("size", [0, 3, 50])
def test_memory_too_short_for_any_entries(size: int) -> None:
    assert found_in(BytesSegment(START, np.ones(size, np.uint8)), Form(4, 3, True), "<") is None


def test_a_name_that_ends_as_pointers_begin_hides_none() -> None:
    names = [b"a__ksymtab", b"__ksymtab_x", b"", b"b__ksymtab_c", b"__tracepoint_ptr_", b"__tracepoint_ptr_y"]
    assert not name_pointers(names * 5)
    assert name_pointers(names * 6)
