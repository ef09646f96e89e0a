"""Writes page tables into made-up physical memory, by the processors' manuals."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kallsift.memory.model import AddressSpace, Memory, Segment


@dataclass(frozen=True)
class Layout:
    """What a mode's tables look like, stated apart from the reader.

    Attributes:
        architecture, name: of the mode as the reader calls it.
        shifts: address bits below the index of each level.
        bits: address bits that are translated.
        blocks: levels at which an entry may map memory itself.
    """

    architecture: str
    name: str
    shifts: tuple[int, ...]
    bits: int
    blocks: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.architecture} {self.name}"

    def size(self, level: int) -> int:
        """Bytes that an entry of this level covers."""
        return 1 << self.shifts[level]

    def table_size(self, level: int) -> int:
        """Bytes of a table of this level."""
        above = self.shifts[level - 1] if level else self.bits
        return 8 << above - self.shifts[level]

    def entry(self, target: int, level: int, leaf: bool) -> int:
        """An entry that points at the next table or at memory, with bits set that say nothing about the address."""
        last = level == len(self.shifts) - 1
        if self.architecture == "x86-64":
            # present, writable, accessed, dirty, global or not, and no execution
            flags = 0x8000_0000_0000_0063 | (0x100 if leaf else 0) | (0x80 if leaf and not last else 0)
            return target | flags
        flags = 0b11 if last or not leaf else 0b01
        flags |= 0x0060_0000_0000_0400 if leaf else 0
        if self.name == "64 KiB pages, 52-bit":
            return target & (1 << 48) - 1 | target >> 48 << 12 | flags
        if self.bits == 52:
            return target & (1 << 50) - 1 | target >> 50 << 8 | flags
        return target | flags


LAYOUTS = (
    Layout("x86-64", "4-level", (39, 30, 21, 12), 48, (1, 2, 3)),
    Layout("x86-64", "5-level", (48, 39, 30, 21, 12), 57, (2, 3, 4)),
    Layout("arm64", "4 KiB pages, 39-bit", (30, 21, 12), 39, (0, 1, 2)),
    Layout("arm64", "4 KiB pages, 48-bit", (39, 30, 21, 12), 48, (1, 2, 3)),
    Layout("arm64", "4 KiB pages, 52-bit", (48, 39, 30, 21, 12), 52, (1, 2, 3, 4)),
    Layout("arm64", "16 KiB pages, 36-bit", (25, 14), 36, (0, 1)),
    Layout("arm64", "16 KiB pages, 47-bit", (36, 25, 14), 47, (1, 2)),
    Layout("arm64", "16 KiB pages, 48-bit", (47, 36, 25, 14), 48, (2, 3)),
    Layout("arm64", "16 KiB pages, 52-bit", (47, 36, 25, 14), 52, (1, 2, 3)),
    Layout("arm64", "64 KiB pages, 42-bit", (29, 16), 42, (0, 1)),
    Layout("arm64", "64 KiB pages, 48-bit", (42, 29, 16), 48, (1, 2)),
    Layout("arm64", "64 KiB pages, 52-bit", (42, 29, 16), 52, (0, 1, 2)),
)


@dataclass
class Tables:
    """Page tables under construction.

    Attributes:
        layout: how they look.
        base: physical address of the first table.
        tables: entries of each table by its physical address.
        children: the table below an entry, by the entry's table and index.
    """

    layout: Layout
    base: int = 0x4000_0000
    tables: dict[int, bytearray] = field(default_factory=dict)
    children: dict[tuple[int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = self._new(0)

    def _new(self, level: int) -> int:
        last = max(self.tables, default=None)
        # tables of every granule are aligned to 64 KiB here
        place = self.base if last is None else last + (-(-len(self.tables[last]) >> 16 << 16) or 1 << 16)
        self.tables[place] = bytearray(self.layout.table_size(level))
        return place

    def set(self, table: int, index: int, entry: int) -> None:
        """Writes an entry."""
        self.tables[table][8 * index : 8 * index + 8] = entry.to_bytes(8, "little")

    def index(self, virtual: int, level: int) -> int:
        """Index into a table of this level."""
        return virtual >> self.layout.shifts[level] & self.layout.table_size(level) // 8 - 1

    def map(self, virtual: int, physical: int, level: int) -> tuple[int, int]:
        """Maps what an entry of ``level`` covers; returns the entry's table and index."""
        table = self.root
        for upper in range(level):
            index = self.index(virtual, upper)
            if (table, index) not in self.children:
                self.children[table, index] = self._new(upper + 1)
                self.set(table, index, self.layout.entry(self.children[table, index], upper, leaf=False))
            table = self.children[table, index]
        self.set(table, self.index(virtual, level), self.layout.entry(physical, level, leaf=True))
        return table, self.index(virtual, level)

    def memory(self, *left_out: int) -> Memory:
        """Physical memory that holds the tables but for those left out."""
        segments = tuple(
            Segment(place, np.frombuffer(bytes(content), np.uint8))
            for place, content in sorted(self.tables.items())
            if place not in left_out
        )
        return Memory("test", "test", AddressSpace.PHYSICAL, segments)
