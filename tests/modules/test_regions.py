"""Where modules lie, from made-up structures of several releases."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.placement.pointers import Words
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment
from kallsift.modules.memory_regions import LAYOUTS, MOST_BYTES, RegionPlace, bounds, solved_regions
from kallsift.modules.struct_module import STRUCT_WORDS, Structures, structures_at
from tests.examples import examples

MODULES = 0xFFFFFFFFC2000000
STRIDE = 0x10000
STRUCTURE = 0x3040
"""Where in a module's memory its structure is: in the data."""

COUNT = 3
BASES = range(MODULES, MODULES + COUNT * STRIDE, STRIDE)

OWNER = 18
"""The word of ``mkobj.mod``."""


def memory_of(words: NDArray[np.uint64]) -> VirtualMemory:
    data = np.zeros((COUNT, STRIDE // 8), np.uint64)
    data[:, STRUCTURE // 8 :][:, : words.shape[1]] = words
    held = Memory("test", "raw", AddressSpace.VIRTUAL, (BytesSegment(MODULES, data.view(np.uint8).ravel()),))
    return VirtualMemory(held, None, None, Words(8, "<"))


def structures(form: str) -> tuple[VirtualMemory, Structures]:
    words = np.zeros((COUNT, STRUCT_WORDS), np.uint64)
    for number, base in enumerate(BASES):
        own = base + STRUCTURE
        words[number, OWNER] = own
        if form in ("mem", "mem alone", "mem that cannot be written"):
            stride = 9 if form == "mem" else 2
            shift = 32 if form == "mem that cannot be written" else 0
            for part, (offset, size) in enumerate([(0, 0x2000), (0x3000, 0x1000), (0x8000, 0x3000), *[(0, 0)] * 4]):
                words[number, 40 + stride * part] = base + offset if size else 0
                words[number, 41 + stride * part] = size << shift | 1 * (shift > 0 and size > 0)
                if form == "mem":
                    words[number, 42 + stride * part] = own
        elif form in ("layout", "layout alone"):
            words[number, 48:51] = base, 0x2000 << 32 | 0x5000, 0x3000 << 32 | 0x2800
            if form == "layout":
                words[number, [51, 61]] = own
        else:  # core_text_size, up to 4.4
            words[number, 48:52] = 0, base, 0x5000 << 32, 0x2000 << 32
            if form == "sizes and a tree":
                words[number, [53, 60]] = own
    memory = memory_of(words)
    return memory, structures_at(memory, np.array(BASES, np.uint64) + np.uint64(STRUCTURE))


def places_of(memory: VirtualMemory, found: Structures) -> tuple[RegionPlace, ...]:
    own = np.flatnonzero((found.words == found.addresses[:, None]).all(axis=0)).tolist()
    return solved_regions(memory, found, own[1:])


@pytest.mark.parametrize(
    ("form", "offsets"),
    [
        ("mem", [(0, 0x2000), (0x3000, 0x4000), (0x8000, 0xB000)]),
        ("mem alone", [(0, 0x2000), (0x3000, 0x4000), (0x8000, 0xB000)]),
        ("mem that cannot be written", [(0, 0x2000), (0x3000, 0x4000), (0x8000, 0xB000)]),
        ("layout", [(0, 0x2000), (0x2000, 0x5000)]),
        ("layout alone", [(0, 0x2000), (0x2000, 0x5000)]),
        ("sizes", [(0, 0x2000), (0x2000, 0x5000)]),
        ("sizes and a tree", [(0, 0x2000), (0x2000, 0x5000)]),
    ],
)
def test_each_form(form: str, offsets: list[tuple[int, int]]) -> None:
    memory, found = structures(form)
    places = places_of(memory, found)
    for base, address in zip(BASES, found.addresses.tolist(), strict=True):
        assert bounds(memory, address, places) == tuple(range(base + low, base + high) for low, high in offsets)


@pytest.mark.parametrize("words", [(48, 49, 50), (49,)])
def test_parts_that_contradict_what_must_be_true_are_none(words: tuple[int, ...]) -> None:
    """No code that is larger than all, no part that ends before the structure in it."""
    memory, found = structures("layout")
    broken = found.words.copy()
    broken[1, list(words)] = 0 if len(words) > 1 else 0x6000 << 32 | 0x5000
    memory = memory_of(broken)
    assert places_of(memory, Structures(found.addresses, broken)) == ()


def test_nothing_tells() -> None:
    memory, found = structures("mem")
    places = places_of(memory, found)
    assert bounds(memory, int(found.addresses[0]) + (1 << 40), places) == ()
    assert bounds(memory, int(found.addresses[0]), ()) == ()
    empty = structures_at(memory, found.addresses + np.uint64(1 << 40))
    assert solved_regions(memory, empty, []) == ()


def test_any_words() -> None:
    random = np.random.default_rng(1)
    for _ in range(examples(20)):
        words = random.integers(0, 1 << 64, (COUNT, STRUCT_WORDS), np.uint64)
        words[random.random(words.shape) < 0.5] = MODULES  # bases everywhere
        memory, addresses = memory_of(words), structures("mem")[1].addresses
        assert places_of(memory, structures_at(memory, addresses)) == ()
        for base in range(48, 8 * STRUCT_WORDS - 48, 8):
            places = tuple(RegionPlace(name, base, base + 8, None, base + 12) for name in LAYOUTS)
            for address in addresses.tolist():
                assert all(len(part) <= MOST_BYTES for part in bounds(memory, address, places))
