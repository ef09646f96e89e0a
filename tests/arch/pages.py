"""Writes page tables into made-up physical memory, by the processors' manuals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment


@dataclass(frozen=True)
class Layout:
    """What a mode's tables look like, stated apart from the reader.

    Attributes:
        architecture, name: of the mode as the reader calls it.
        shifts: address bits below the index of each level.
        bits: address bits that are translated.
        blocks: levels at which an entry may map memory itself.
        width: bytes of an entry.
        big: whether entries are big-endian.
        first: the lowest address that is translated; None for the upper end of the address space.
    """

    architecture: str
    name: str
    shifts: tuple[int, ...]
    bits: int
    blocks: tuple[int, ...]
    width: int = 8
    big: bool = False
    first: int | None = None

    def __str__(self) -> str:
        return f"{self.architecture} {self.name}"

    def lowest(self) -> int:
        """The lowest address that is translated."""
        return (1 << 64) - (1 << self.bits) if self.first is None else self.first

    def size(self, level: int) -> int:
        """Bytes that an entry of this level covers."""
        return 1 << self.shifts[level]

    def table_size(self, level: int) -> int:
        """Bytes of a table of this level."""
        above = self.shifts[level - 1] if level else self.bits
        return self.width << above - self.shifts[level]

    def physical_bits(self, level: int) -> int:
        """Bits of a physical address that an entry of this level can map."""
        if str(self) == "x86 2-level":
            return 32 if level else 40
        if self.architecture == "arm64":
            return 52 if self.bits == 52 else 48
        bits = {"x86-64": 52, "x86": 52, "arm": 40, "riscv64": 56, "riscv32": 34, "s390x": 64, "ppc64": 57}
        return 32 if self.name == "short descriptors" else bits[self.architecture]

    def entry(self, target: int, level: int, leaf: bool) -> int:
        """An entry that points at the next table or at memory, with bits set that say nothing about the address."""
        return ENTRIES[self.architecture](self, target, level, leaf)

    def absent(self, level: int) -> int:
        """An entry with as many bits set as one can have that maps nothing."""
        if self.architecture == "s390x":
            return (1 << 64) - 1
        if self.architecture == "ppc64":
            return (1 << 63) - 1
        return (1 << 8 * self.width) - (4 if self.name == "short descriptors" else 2)

    def empty(self, level: int) -> int:
        """An entry of a table that nobody has written into yet."""
        return 0 if self.architecture != "s390x" else 0x400 if level == len(self.shifts) - 1 else 0x20


def _x86(layout: Layout, target: int, level: int, leaf: bool) -> int:
    """Present, writable, accessed, dirty, global or not, and no execution; PAE's top entries are present only."""
    large = 0x80 if leaf and level < len(layout.shifts) - 1 else 0
    if layout.name == "2-level":
        return target & 0xFFFF_F000 | target >> 32 << 13 | 0x63 | (0x100 if leaf else 0) | large
    if layout.name == "PAE" and level == 0:
        return target | 1
    return target | 0x8000_0000_0000_0063 | (0x100 if leaf else 0) | large


def _arm64(layout: Layout, target: int, level: int, leaf: bool) -> int:
    flags = 0b11 if level == len(layout.shifts) - 1 or not leaf else 0b01
    flags |= 0x0060_0000_0000_0400 if leaf else 0
    if layout.name == "64 KiB pages, 52-bit":
        return target & (1 << 48) - 1 | target >> 48 << 12 | flags
    if layout.bits == 52:
        return target & (1 << 50) - 1 | target >> 50 << 8 | flags
    return target | flags


def _arm(layout: Layout, target: int, level: int, leaf: bool) -> int:
    """Sections and small pages of Linux' usual attributes."""
    if layout.name == "LPAE":
        return _arm64(layout, target, level, leaf)
    return target | ((0x45E if level else 0x1_1C0E) if leaf else 0x1)


def _riscv(_: Layout, target: int, level: int, leaf: bool) -> int:
    """Valid; a leaf also readable, writable, executable, global, accessed and dirty."""
    return target >> 12 << 10 | (0xEF if leaf else 0x01)


def _s390x(layout: Layout, target: int, level: int, leaf: bool) -> int:
    """Table types and lengths; a segment or a region of the third kind maps memory itself by its format control."""
    shift = layout.shifts[level]
    kind = {12: 0, 20: 0, 31: 0x4, 42: 0x8, 53: 0xC}[shift]
    return target | kind | (0x403 & ~0x3 if leaf and shift > 12 else 0) | (0x3 if not leaf and shift > 20 else 0)


def _ppc64(layout: Layout, target: int, level: int, leaf: bool) -> int:
    """Valid; a leaf with attributes, a table with its size."""
    return 1 << 63 | target | (1 << 62 | 0x18E if leaf else layout.shifts[level] - layout.shifts[level + 1])


ENTRIES: dict[str, Callable[[Layout, int, int, bool], int]] = {
    "x86-64": _x86,
    "x86": _x86,
    "arm64": _arm64,
    "arm": _arm,
    "riscv64": _riscv,
    "riscv32": _riscv,
    "s390x": _s390x,
    "ppc64": _ppc64,
}

RADIX = 0xC000_0000_0000_0000

LAYOUTS = (
    Layout("x86-64", "4-level", (39, 30, 21, 12), 48, (1, 2, 3)),
    Layout("x86-64", "5-level", (48, 39, 30, 21, 12), 57, (2, 3, 4)),
    Layout("x86", "PAE", (30, 21, 12), 32, (1, 2), first=0),
    Layout("x86", "2-level", (22, 12), 32, (0, 1), width=4, first=0),
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
    Layout("arm", "short descriptors", (20, 12), 32, (0, 1), width=4, first=0),
    Layout("arm", "LPAE", (30, 21, 12), 32, (1, 2), first=0),
    Layout("riscv64", "Sv39", (30, 21, 12), 39, (0, 1, 2)),
    Layout("riscv64", "Sv48", (39, 30, 21, 12), 48, (0, 1, 2, 3)),
    Layout("riscv64", "Sv57", (48, 39, 30, 21, 12), 57, (0, 1, 2, 3, 4)),
    Layout("riscv32", "Sv32", (22, 12), 32, (0, 1), width=4, first=0),
    Layout("s390x", "segment table", (20, 12), 31, (0, 1), big=True, first=0),
    Layout("s390x", "region-third table", (31, 20, 12), 42, (0, 1, 2), big=True, first=0),
    Layout("s390x", "region-second table", (42, 31, 20, 12), 53, (1, 2, 3), big=True, first=0),
    Layout("s390x", "region-first table", (53, 42, 31, 20, 12), 64, (2, 3, 4), big=True, first=0),
    Layout("ppc64", "radix, 64 KiB pages", (39, 30, 21, 16), 52, (1, 2, 3), big=True, first=RADIX),
    Layout("ppc64", "radix, 4 KiB pages", (39, 30, 21, 12), 52, (1, 2, 3), big=True, first=RADIX),
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
        empty = self.bytes_of(self.layout.empty(level))
        self.tables[place] = bytearray(empty * (self.layout.table_size(level) // self.layout.width))
        return place

    def bytes_of(self, entry: int) -> bytes:
        """An entry as it stands in memory."""
        return entry.to_bytes(self.layout.width, "big" if self.layout.big else "little")

    def set(self, table: int, index: int, entry: int) -> None:
        """Writes an entry."""
        width = self.layout.width
        self.tables[table][width * index : width * index + width] = self.bytes_of(entry)

    def index(self, virtual: int, level: int) -> int:
        """Index into a table of this level."""
        return virtual >> self.layout.shifts[level] & self.layout.table_size(level) // self.layout.width - 1

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
            BytesSegment(place, np.frombuffer(bytes(content), np.uint8))
            for place, content in sorted(self.tables.items())
            if place not in left_out
        )
        return Memory("test", "test", AddressSpace.PHYSICAL, segments)
