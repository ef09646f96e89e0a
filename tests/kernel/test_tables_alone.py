"""Tables of every era with nothing around them but zeros: shown at the addresses that they hold, and not as proven."""

from __future__ import annotations

import numpy as np
import pytest

import kallsift
from kallsift.memory.model import AddressSpace, Memory, Segment
from tests.oracle.eras import ALL_ERAS, Era
from tests.oracle.symbols import Symbol, population
from tests.oracle.writer import Blob, ByteOrder, write

BEFORE, BEHIND = 0x1_2000, 0x1_0000
STARTS = {8: 0xFFFF_8000_8000_0000, 4: 0xC000_8000}
CASES = [
    pytest.param(era, size, order, text_only, id=f"{era}-{size}-{order}-{'text' if text_only else 'all'}")
    for era in ALL_ERAS
    for size in era.word_sizes
    for order in ("little", "big")
    for text_only in ((False, True) if order == "little" else (False,))
]


def alone(era: Era, word_size: int, byte_order: ByteOrder, text_only: bool, seed: int = 4) -> tuple[Blob, Memory]:
    """The tables of an era in a file of zeros."""
    start = STARTS[word_size]
    percpu = era.encoding == "percpu" and not text_only
    first = [Symbol(start, "T", "_text")]
    symbols = population(900, seed, percpu=percpu, start=start + 0x1000, text_only=text_only)
    small = [symbol for symbol in symbols if symbol.address < start]
    listed = [*small, *first, *symbols[len(small) :]]
    blob = write(listed, era, address=start + 0x40_0000, word_size=word_size, byte_order=byte_order)
    data = bytes(BEFORE) + blob.data + bytes(BEHIND)
    return blob, Memory("alone", "raw", AddressSpace.PHYSICAL, (Segment(0, np.frombuffer(data, np.uint8)),))


@pytest.mark.parametrize(("era", "word_size", "byte_order", "text_only"), CASES)
def test_the_whole_table(era: Era, word_size: int, byte_order: ByteOrder, text_only: bool) -> None:
    blob, memory = alone(era, word_size, byte_order, text_only)
    kernel = kallsift.recover(memory)
    assert kernel.symbols.names() == [symbol.name for symbol in blob.symbols]
    truth = np.array([symbol.address for symbol in blob.symbols], np.uint64)
    if era.encoding == "self-relative":
        # how far they are from each other is all that such tables hold
        truth -= np.uint64(STARTS[word_size])
    assert np.array_equal(kernel.symbols.addresses & np.uint64((1 << 8 * word_size) - 1), truth)
    assert not kernel.proven
    assert not kernel.is_placed
