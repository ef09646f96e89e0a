"""Page tables of MIPS kernels as their configurations make them, in made-up memory; stated apart from the reader.

By arch/mips/include/asm/pgtable-32.h, pgtable-64.h and pgtable-bits.h: an entry of an upper table is the virtual
address of the next one, an entry that maps nothing leads to a table of such entries, and only the last one has page
numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from kallsift.kernel.placement.pointers import Words
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment

RAM = 16 << 20
SWAPPER = 4 << 20
"""Where the kernel's top table is; tables that are allocated lie from twice there on."""

KSEG0 = {4: 0x8000_0000, 8: 0xFFFF_FFFF_8000_0000}
CACHED = {4: 0x8000_0000, 8: 0x9800_0000_0000_0000}
"""Where memory is seen by the image, and by what allocates, by the size of a word."""

VMALLOC = {4: 0xC000_0000, 8: 0xC000_0000_0000_0000}
MODULES = {4: 0xC100_0000, 8: 0xFFFF_FFFF_C000_0000}

Entry = Callable[[int], tuple[int, ...]]
"""The words of an entry for a page number; of the entry that maps nothing for 0."""


def simple(first: int) -> Entry:
    """A page number above flags, all of which are set; what maps nothing is global all the same."""
    return lambda number: (number << first | ((1 << first) - 1 if number else 1 << first - 6),)


def alchemy(number: int) -> tuple[int, ...]:
    """The lower word has flags alone."""
    return (0x7F, number << 6 | 0x3F) if number else (1, 1)


def extended(number: int) -> tuple[int, ...]:
    """Flags of the kernel's above 24 bits of the lower word, those of the TLB below the number in the upper one."""
    return (0x1F << 24 | number >> 24, (number & 0xFF_FFFF) << 8 | 0xFC) if number else (0, 4)


@dataclass(frozen=True)
class Configuration:
    """What a kernel was built for.

    Attributes:
        words: how its words are.
        page_bits: address bits inside of a page.
        levels: of tables.
        bits: address bits that are translated.
        entry: what the last table holds.
        where: what the reader calls that.
        width: bytes of each word of such an entry.
        wide: bytes of the entry.
    """

    words: Words
    page_bits: int
    levels: int
    bits: int
    entry: Entry
    where: str
    width: int
    wide: int

    def __str__(self) -> str:
        return f"{8 * self.words.size}{self.words.byte_order} {self.page_bits} {self.levels} {self.bits} {self.where}"

    @property
    def page(self) -> int:
        return 1 << self.page_bits

    def shift(self, level: int) -> int:
        """Address bits below the index into a table of a level."""
        if level == self.levels - 1:
            return self.page_bits
        below = self.shift(level + 1)
        return below + self.page_bits - (self.wide if level == self.levels - 2 else self.words.size).bit_length() + 1

    def entries(self, level: int) -> int:
        """Entries of a table of a level."""
        return 1 << (self.bits if level == 0 else self.shift(level - 1)) - self.shift(level)


def _all() -> list[Configuration]:
    made = []
    for order in "<>":
        for page_bits, levels, bits, first in (
            *((12, 3, 40, 14), (12, 4, 48, 12), (14, 3, 47, 16), (14, 3, 48, 13)),
            *((13, 3, 43, 12), (16, 2, 42, 17), (16, 3, 55, 18), (12, 3, 40, 10)),
        ):
            where = f"page numbers from bit {first}"
            made.append(Configuration(Words(8, order), page_bits, levels, bits, simple(first), where, 8, 8))
        narrow = Words(4, order)
        for page_bits, first in ((12, 12), (12, 10), (14, 13), (16, 17)):
            where = f"page numbers from bit {first}"
            made.append(Configuration(narrow, page_bits, 2, 32, simple(first), where, 4, 4))
        for page_bits, entry, where, width in (
            (12, simple(12), "entries of 64 bits, page numbers from bit 12", 8),
            (14, alchemy, "entries of 64 bits, page numbers from bit 6 of the upper word", 4),
            (12, extended, "entries of 64 bits, page numbers from bit 8 of the upper word, and the lower word", 4),
        ):
            made.append(Configuration(narrow, page_bits, 2, 32, entry, where, width, 8))
    return made


CONFIGURATIONS = _all()


@dataclass
class Machine:
    """A machine's memory with a kernel's tables.

    Attributes:
        of: what the kernel was built for.
        data: the memory.
        top: what of it is free.
        tables: the tables below others, by these and the index into them.
    """

    of: Configuration
    data: np.ndarray[tuple[int], np.dtype[np.uint8]] = field(default_factory=lambda: np.zeros(RAM, np.uint8))
    top: int = 2 * SWAPPER
    tables: dict[tuple[int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = self.of.words.size
        behind = SWAPPER + (self.of.entries(0) * size + self.of.page - 1) // self.of.page * self.of.page
        self.empty = [SWAPPER, *(behind + level * self.of.page for level in range(self.of.levels - 1))]
        for level, place in enumerate(self.empty):
            self._clear(place, level)

    def put(self, place: int, *values: int, width: int | None = None) -> None:
        """Writes words at a physical address."""
        width = width or self.of.words.size
        order: Literal["little", "big"] = "little" if self.of.words.byte_order == "<" else "big"
        raw = b"".join((value % (1 << 8 * width)).to_bytes(width, order) for value in values)
        self.data[place : place + len(raw)] = np.frombuffer(raw, np.uint8)

    def _clear(self, place: int, level: int) -> None:
        count = self.of.entries(level)
        if level == self.of.levels - 1:
            self.put(place, *self.of.entry(0) * count, width=self.of.width)
        else:
            self.put(place, *[KSEG0[self.of.words.size] + self.empty[level + 1]] * count)

    def take(self) -> int:
        """The physical address of a page that nothing uses."""
        self.top += self.of.page
        return self.top - self.of.page

    def map(self, virtual: int, physical: int) -> None:
        """Maps a page."""
        table, size = SWAPPER, self.of.words.size
        for level in range(self.of.levels):
            index = virtual >> self.of.shift(level) & self.of.entries(level) - 1
            if level == self.of.levels - 1:
                entry = self.of.entry(physical >> self.of.page_bits)
                self.put(table + index * self.of.wide, *entry, width=self.of.width)
            elif (table, index) not in self.tables:
                self.tables[table, index] = self.take()
                self._clear(self.tables[table, index], level + 1)
                self.put(table + index * size, CACHED[size] + self.tables[table, index])
            table = self.tables.get((table, index), 0)

    @property
    def memory(self) -> Memory:
        """Without any hint."""
        return Memory("test", "test", AddressSpace.PHYSICAL, (BytesSegment(0, self.data),))
