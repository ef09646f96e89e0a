"""The fields of made-up modules that lead to what they export, in every form and word, and in random structures."""

from __future__ import annotations

import numpy as np
import pytest

from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.placement.pointers import Words
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment
from kallsift.modules.exports.ksymtab_entries import (
    EXPORT_SYMBOL,
    EXPORT_SYMBOL_GPL,
    MAX_EXPORTS,
    EntryForm,
    read_array,
)
from kallsift.modules.exports.modules import ModuleArrays, module_arrays
from kallsift.modules.struct_module import structures_at
from tests.kernel.images import EACH as EVERY_WORD
from tests.kernel.images import WIDE

BASE = {8: 0xFFFF_FFFF_C000_0000, 4: 0xF000_0000}
ROOM, STRIDE = 0x100000, 0x8000
SYMS, GPL = 26, 35
"""Where the pointers to the two arrays are, in words."""


class Modules:
    """Memory in which structures of modules lie, each with its arrays behind it."""

    def __init__(self, words: Words) -> None:
        self.words, self.base, self.data = words, BASE[words.size], bytearray(ROOM)
        self.addresses: list[int] = []

    def put(self, address: int, value: int, size: int | None = None) -> None:
        size = size or self.words.size
        place = address - self.base
        order = "little" if self.words.byte_order == "<" else "big"
        self.data[place : place + size] = (value & (1 << 8 * size) - 1).to_bytes(size, order)  # type: ignore[arg-type]

    def module(self, form: EntryForm, plain: list[str], gpl: list[str], *, flags: bool = False) -> None:
        """One module: with an array for each kind, or one with flags."""
        size, address = self.words.size, self.base + STRIDE * len(self.addresses)
        self.addresses.append(address)
        self.put(address + 3 * size, int.from_bytes(b"name", "little"))
        first = sorted(plain + gpl) if flags else plain
        start = address + 0x1000
        self.put(address + SYMS * size, self.array(start, first, form) if first else 0)
        self.put(address + (SYMS + 2 + flags) * size, len(first), 4)
        if flags:
            self.put(address + (SYMS + 2) * size, start + 0x800 if first else 0)
            for number, name in enumerate(first):
                self.put(start + 0x800 + number, name in gpl, 1)
        else:
            self.put(address + GPL * size - 4, len(gpl), 4)
            self.put(address + GPL * size, self.array(address + 0x3000, gpl, form) if gpl else 0)

    def array(self, start: int, names: list[str], form: EntryForm) -> int:
        """Entries from an address on, which is returned, and their names behind them."""
        width, text = 4 if form.relative else self.words.size, start + 0x1000
        for number, name in enumerate(names):
            place = start + number * form.fields * width
            for field, target in enumerate((start - 0x500 + number, text)):
                own = place + field * width
                self.put(own, target - own if form.relative else target, width)
            self.data[text - self.base : text - self.base + len(name)] = name.encode()
            text += len(name) + 1
        return start

    def memory(self) -> VirtualMemory:
        segment = BytesSegment(self.base, np.frombuffer(bytes(self.data), np.uint8))
        return VirtualMemory(Memory("test", "test", AddressSpace.VIRTUAL, (segment,)), None, None, self.words)

    def arrays(self) -> list[ModuleArrays]:
        """The arrays of each module."""
        memory = self.memory()
        return module_arrays(memory, structures_at(memory, np.array(self.addresses, np.uint64)))

    def exported(self) -> list[list[tuple[str, str]]]:
        """Name and macro of what each module exports."""
        memory, arrays = self.memory(), self.arrays()
        return [
            [
                (one.name, one.macro)
                for array in of_module.arrays
                for one in read_array(memory, array, "module", None)[0]
            ]
            for of_module in arrays
        ]


@pytest.mark.parametrize("form", [EntryForm(fields, relative) for fields in (2, 3) for relative in (True, False)])
@pytest.mark.parametrize("words", EVERY_WORD)
def test_both_arrays(words: Words, form: EntryForm) -> None:
    made = Modules(words)
    kinds = [(["one", "two", "three"], ["four"]), ([], []), (["five"], []), ([], ["six", "seven"]), ([], [])]
    for plain, gpl in kinds:
        made.module(form, sorted(plain), sorted(gpl))
    assert made.exported() == [
        [(name, EXPORT_SYMBOL) for name in sorted(plain)] + [(name, EXPORT_SYMBOL_GPL) for name in sorted(gpl)]
        for plain, gpl in kinds
    ]


def test_flags() -> None:
    made = Modules(WIDE)
    made.module(EntryForm(3, True), ["beta"], ["alpha", "gamma"], flags=True)
    made.module(EntryForm(3, True), [], [], flags=True)
    assert made.exported() == [
        [("alpha", EXPORT_SYMBOL_GPL), ("beta", EXPORT_SYMBOL), ("gamma", EXPORT_SYMBOL_GPL)],
        [],
    ]


def test_nothing_is_exported() -> None:
    made = Modules(WIDE)
    made.module(EntryForm(3, True), [], [])
    assert made.exported() == [[]]
    assert Modules(WIDE).arrays() == []


def test_one_that_is_damaged_does_not_cost_the_others() -> None:
    made = Modules(WIDE)
    for _ in range(9):
        made.module(EntryForm(3, True), ["one"], ["two"])
    made.put(made.addresses[4] + (SYMS + 2) * 8, 3, 4)
    made.put(made.addresses[7] + GPL * 8, 0x1234)
    both = [("one", EXPORT_SYMBOL), ("two", EXPORT_SYMBOL_GPL)]
    assert made.exported() == [both[number == 4 : 2 - (number == 7)] for number in range(9)]
    arrays = made.arrays()
    assert [number for number, of_module in enumerate(arrays) if of_module.broken] == [4, 7]


@pytest.mark.parametrize("seed", range(8))
def test_random_structures(seed: int) -> None:
    made = Modules(WIDE)
    for _ in range(20):
        made.module(EntryForm(3, True), ["one"], ["two"])
    random = np.random.default_rng(seed)
    for address in made.addresses[:: 1 + seed % 3]:
        start = address - made.base + int(random.integers(0, 0x400))
        made.data[start : start + 0x300] = random.bytes(0x300)
    arrays = made.arrays()
    assert all(0 < array.count <= MAX_EXPORTS for of_module in arrays for array in of_module.arrays)
