"""Where modules lie, from made-up structures of several releases."""

from __future__ import annotations

import numpy as np
import pytest

from kallsift.kallsyms.table import SymbolTable
from kallsift.kernel.module_regions import STRUCT_WORDS, module_regions
from kallsift.kernel.pointers import Words
from kallsift.kernel.virtual import VirtualMemory
from kallsift.memory.model import AddressSpace, Memory, Segment
from tests.output.sample import table

STRUCTS = 0xFFFFFFFFC1000000
MODULES = 0xFFFFFFFFC2000000
COUNT = 3


def tables() -> list[SymbolTable]:
    """Of each module two functions and a variable behind them."""
    return [
        table([(base + 0x10, "t", "a"), (base + 0x900, "T", "b"), (base + 0x3010, "d", "c")])
        for base in range(MODULES, MODULES + COUNT * 0x10000, 0x10000)
    ]


def memory_of(words: np.ndarray[tuple[int, int], np.dtype[np.uint64]]) -> VirtualMemory:
    data = np.ascontiguousarray(words).view(np.uint8).ravel()
    held = Memory("test", "raw", AddressSpace.VIRTUAL, (Segment(STRUCTS, data),))
    return VirtualMemory(held, None, None, Words(8, "<"))


def structures(form: str) -> tuple[VirtualMemory, np.ndarray[tuple[int], np.dtype[np.uint64]]]:
    words = np.zeros((COUNT, STRUCT_WORDS), np.uint64)
    addresses = np.uint64(STRUCTS) + np.arange(COUNT, dtype=np.uint64) * np.uint64(8 * STRUCT_WORDS)
    for number in range(COUNT):
        base = MODULES + number * 0x10000
        own = int(addresses[number])
        words[number, 18] = own  # mkobj.mod
        if form == "mem":
            for part, (offset, size) in enumerate([(0, 0x2000), (0x3000, 0x1000), (0x8000, 0x3000), *[(0, 0)] * 4]):
                words[number, 40 + 9 * part] = base + offset if size else 0
                words[number, 41 + 9 * part] = size << 32 | 1
                words[number, 42 + 9 * part] = own
        elif form == "layout":
            words[number, 48:52] = base, 0x2000 << 32 | 0x5000, 0x4000 << 32 | 0x3000, own
            words[number, 61] = own
        else:  # core_text_size, up to 4.4
            words[number, 48:52] = 0, base, 0x5000 << 32, 0x2000 << 32
    return memory_of(words), addresses


@pytest.mark.parametrize(
    ("form", "offsets"),
    [
        ("mem", [(0, 0x2000), (0x3000, 0x4000), (0x8000, 0xB000)]),
        ("layout", [(0, 0x2000), (0x2000, 0x5000)]),
        ("sizes", [(0, 0x2000)]),
    ],
)
def test_each_form(form: str, offsets: list[tuple[int, int]]) -> None:
    memory, addresses = structures(form)
    found = module_regions(memory, addresses, tables())
    bases = range(MODULES, MODULES + COUNT * 0x10000, 0x10000)
    assert found == tuple(tuple(range(base + low, base + high) for low, high in offsets) for base in bases)


def test_nothing_tells() -> None:
    memory, addresses = structures("mem")
    assert module_regions(memory, addresses + np.uint64(1 << 40), tables()) == ((),) * COUNT
    assert module_regions(memory, addresses, [table([])] * COUNT) == ((),) * COUNT
    assert module_regions(memory, addresses[:0], []) == ()


def test_any_words() -> None:
    random = np.random.default_rng(1)
    for _ in range(20):
        words = random.integers(0, 1 << 64, (COUNT, STRUCT_WORDS), np.uint64)
        words[random.random(words.shape) < 0.5] = MODULES  # bases everywhere
        memory, addresses = memory_of(words), structures("mem")[1]
        for regions in module_regions(memory, addresses, tables()):
            assert all(len(region) < 1 << 28 for region in regions)
