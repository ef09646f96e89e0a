"""Contrived sources end with a message, and early: the number of candidates is bounded, not people's patience."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import kallsift
from kallsift.kernel.placement.pointers import MAX_POINTERS, list_heads, pointers_between, self_pointers
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment
from tests.kernel.images import WIDE


def memory_of(data: NDArray[np.uint8]) -> Memory:
    return Memory("test", "raw", AddressSpace.PHYSICAL, (BytesSegment(0, data),))


@pytest.mark.slow
def test_a_token_table_without_the_rest_names_the_step() -> None:
    strings = [bytes([code]) if 0x21 <= code < 0x7F else b"x" * (code % 5 + 2) for code in range(256)]
    table = b"".join(text + b"\0" for text in strings)
    index = np.concatenate(([0], np.cumsum([len(text) + 1 for text in strings])[:-1])).astype("<u2").tobytes()
    blob = bytes(8192) + table + bytes(-len(table) % 8) + index + bytes(4096)
    with pytest.raises(kallsift.RecoveryError, match="names: token table at 0x2000") as caught:
        kallsift.recover(memory_of(np.frombuffer(blob, np.uint8)))
    assert caught.value.step == "names"


def test_pointers_are_bounded() -> None:
    everything = range(0, 1 << 64)
    all_ones = BytesSegment(0, np.full(32 << 20, 0xF8, np.uint8))
    assert len(pointers_between(all_ones, WIDE, 0, (1 << 64) - 1).places) <= MAX_POINTERS
    assert len(list_heads(all_ones, WIDE, range(0, 1), everything).places) <= MAX_POINTERS
    own_places = BytesSegment(0, np.arange(0, 32 << 20, 8, dtype=np.uint64).view(np.uint8))
    assert len(self_pointers(own_places, WIDE).places) <= MAX_POINTERS
