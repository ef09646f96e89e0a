"""A made-up kernel that holds names and addresses twice: padding before functions, exports, BTF and tracepoints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.paging import Mapping
from kallsift.arch.registry import mapping_named
from kallsift.kallsyms.evidence import Check, Outcome
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.access.btf_blob import Kind
from kallsift.kernel.cross_checks.held_twice import held_twice
from kallsift.kernel.placement.placement import Placement
from kallsift.kernel.placement.pointers import Words
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment

PLACE, DISTANCE, SIZE = 0x100_0000, 0xFFFF_FFFF_8000_0000, 1 << 20
"""Where the image lies, how far above that it is mapped, and its size."""

BASE = PLACE + DISTANCE
TEXT, ARRAY, STRINGS, TYPES = 0, 0x4_0000, 0x5_0000, 0x8_0000
"""Offsets of parts of the image."""

STEP, PADDING = 0x40, 0x10
"""From one function to the next, and from padding to its function."""

Row = tuple[int, str, str]


def function(number: int) -> str:
    """What a function is called: unlike all others, and like none if one character changes."""
    return f"{('read', 'write', 'open', 'close')[number % 4]}_{number * 7919 % 1009}_thing{number}"


@dataclass(frozen=True)
class Twice:
    """The kernel.

    Attributes:
        rows: address, letter and name of each symbol, in their order.
        data: its image.
        words: how to read it.
        mapping: how its addresses are translated.
    """

    rows: tuple[Row, ...]
    data: NDArray[np.uint8]
    words: Words = field(default=Words(8, "<"))
    mapping: Mapping | None = field(default_factory=lambda: mapping_named("x86-64", "4-level", "<"))

    def checks(self) -> dict[str, Check]:
        """What the cross-checks say of it, by their names."""
        texts = [letter + name for _, letter, name in self.rows]
        symbols = SymbolTable(
            np.array([address & self.words.mask for address, _, _ in self.rows], np.uint64),
            np.frombuffer("".join(texts).encode(), np.uint8),
            np.cumsum([0, *(len(text) for text in texts)]).astype(np.int64),
            self.words.size,
        )
        memory = Memory("test", "test", AddressSpace.PHYSICAL, (BytesSegment(PLACE, self.data),))
        placement = Placement(symbols, DISTANCE & (1 << 64) - 1, self.words, (), self.mapping)
        return {check.name: check for check in held_twice(memory, placement)}

    def failed(self) -> set[str]:
        """Names of the checks that fail."""
        return {name for name, check in self.checks().items() if check.outcome is Outcome.FAILED}

    def renamed(self, old: str, new: str) -> Twice:
        """With another name for the one symbol of some name."""
        assert sum(name == old for _, _, name in self.rows) == 1
        rows = tuple((address, letter, new if name == old else name) for address, letter, name in self.rows)
        return replace(self, rows=rows)

    def moved(self, wanted: str, by: int) -> Twice:
        """With another address for the one symbol of some name, in the same order."""
        rows = [(address + by if name == wanted else address, letter, name) for address, letter, name in self.rows]
        assert [address for address, _, _ in rows] == sorted(address for address, _, _ in rows)
        return replace(self, rows=tuple(rows))

    def without(self, start: int, size: int) -> Twice:
        """With zeros in a part of the image."""
        data = self.data.copy()
        data[start : start + size] = 0
        return replace(self, data=data)


def put(data: NDArray[np.uint8], offset: int, *values: int, size: int = 4, order: str = "<") -> None:
    """Writes numbers."""
    for number, value in enumerate(values):
        raw = (value & (1 << 8 * size) - 1).to_bytes(size, "little" if order == "<" else "big")
        data[offset + size * number :][:size] = np.frombuffer(raw, np.uint8)


def types_of(functions: Iterable[str], order: str = "<") -> bytes:
    """BTF with a function of each name."""
    strings, words = bytearray(b"\0int\0"), [1, Kind.INT << 24, 4, 32]
    for number, name in enumerate(functions):
        # a prototype with two parameters before each function
        words += [0, Kind.FUNC_PROTO << 24 | 2, 1, 0, 1, 0, 1, len(strings), Kind.FUNC << 24, 2 * number + 2]
        strings += name.encode() + b"\0"
    header = [0x0001_EB9F, 24, 0, 4 * len(words), 4 * len(words), len(strings)]
    if order == ">":
        header[0] = 0xEB9F_0100
    data = np.zeros(4 * len(header) + 4 * len(words), np.uint8)
    put(data, 0, *header, *words, order=order)
    return data.tobytes() + bytes(strings)


def twice(count: int = 600, *, relative: bool = True, order: str = "<", padded: bool = True) -> Twice:
    """A kernel of so many functions: every third is exported, all are in BTF, and every fifth has an unlikely part.

    Each function calls the next one twice, and has padding before it if ``padded``.
    """
    words = Words(8, order)
    data = np.zeros(SIZE, np.uint8)
    names = [function(number) for number in range(count)]
    rows: list[Row] = []
    for number, name in enumerate(names):
        if padded:
            rows.append((BASE + number * STEP, "T", f"__pfx_{name}"))
        rows.append((BASE + number * STEP + PADDING, "T", name))
        for place in (number * STEP + PADDING + 8, number * STEP + PADDING + 16):
            data[place] = 0xE8
            put(data, place + 1, (number + 1) % count * STEP + PADDING - place - 5)
    rows += [(BASE, "T", "_stext"), (BASE + ARRAY, "T", "_etext")]
    cold = BASE + count * STEP
    rows += [(cold + 7 * number, "t", f"{name}.cold") for number, name in enumerate(names) if number % 5 == 0]
    exported = sorted(number for number in range(count) if number % 3 == 0)
    entry, string = ARRAY, STRINGS + 1
    rows.append((BASE + ARRAY, "R", "__start___ksymtab"))
    for number in exported:
        value = number * STEP + PADDING
        if relative:
            put(data, entry, value - entry, string - entry - 4, STRINGS - entry - 8, order=order)
        else:
            put(data, entry, BASE + value, BASE + string, BASE + STRINGS, size=8, order=order)
        rows.append((BASE + entry, "r", f"__ksymtab_{names[number]}"))
        raw = names[number].encode()
        data[string : string + len(raw)] = np.frombuffer(raw, np.uint8)
        entry, string = entry + (12 if relative else 24), string + len(raw) + 1
    rows.append((BASE + entry, "R", "__stop___ksymtab"))
    types = types_of(names, order)
    data[TYPES : TYPES + len(types)] = np.frombuffer(types, np.uint8)
    rows += [(BASE + TYPES, "R", "__start_BTF"), (BASE + TYPES + len(types), "R", "__stop_BTF")]
    return Twice(tuple(sorted(rows, key=lambda row: row[0])), data, words)
