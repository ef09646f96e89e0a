"""Images of kernels whose pointers are as wide as a test wants, whatever their tables are."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from kallsift.kernel.kernel import Kernel
from kallsift.memory.memory import AddressSpace, ImageFacts, Memory
from kallsift.memory.segments import BytesSegment
from tests.kallsyms.surroundings import Surroundings
from tests.oracle.eras import ERAS, Era
from tests.oracle.symbols import Symbol, population
from tests.oracle.writer import Blob, ByteOrder, write

BEFORE, BEHIND = 1 << 19, 1 << 17
"""Bytes of an image before and behind the tables."""

WIDE, NARROW = 0xFFFF_FFFF_8100_0000, 0xC000_8000
"""Where images of 64 and of 32 bits are mapped."""

PHYSICAL = 0x100_0000
ALIGNED_TO_16 = next(era for era in ERAS if era.name == "4.9 arm64")
"""Offsets from a base, all tables at multiples of 16 where words have 32 bits."""

SELF_RELATIVE = next(era for era in ERAS if era.name == "7.0")

Targets = Callable[[Symbol], int]
"""What a pointer to a symbol is."""


@dataclass(frozen=True)
class Worded:
    """An image.

    Attributes:
        blob: its tables.
        data: all of it.
        start: where it is mapped.
    """

    blob: Blob
    data: bytes
    start: int

    def listed(self) -> list[tuple[int, str]]:
        """Addresses, and letters with names, in the table's order."""
        return [(symbol.address, symbol.letter + symbol.name) for symbol in self.blob.symbols]

    def file(self) -> Memory:
        """The image as a flat file whose header says nothing of it."""
        segment = BytesSegment(0, np.frombuffer(self.data, np.uint8))
        return Memory("image", "flat", AddressSpace.FILE, (segment,), image=ImageFacts(("flat",), 0))

    def ram(self) -> Memory:
        """The image in the memory of a machine that no page table of it maps."""
        data = np.zeros(64 << 20, np.uint8)
        data[PHYSICAL : PHYSICAL + len(self.data)] = np.frombuffer(self.data, np.uint8)
        return Memory("ram", "raw", AddressSpace.PHYSICAL, (BytesSegment(0, data),))


def worded(
    era: Era,
    word_size: int,
    *,
    count: int = 1501,
    byte_order: ByteOrder = "little",
    pointer_size: int | None = None,
    pointers: Targets = lambda symbol: symbol.address,
    text_only: bool = False,
    grain: int = 1,
) -> Worded:
    """Make an image.

    Args:
        era: of its tables.
        word_size: bytes of an address, in the tables.
        count: symbols.
        byte_order: of all numbers.
        pointer_size: bytes of a pointer, in what is around the tables; None for the word size.
        pointers: what pointers to symbols are.
        text_only: whether only code is listed.
        grain: what symbols' distances are multiples of.
    """
    start = WIDE if word_size == 8 else NARROW
    symbols = population(count, 3, start=start, text_only=text_only)
    symbols = tuple(one._replace(address=start + (one.address - start) * grain) for one in symbols)
    blob = write(symbols, era, address=start + BEFORE, word_size=word_size, byte_order=byte_order)
    chance = random.Random(f"{era} {word_size} {pointer_size} {count} {byte_order}")
    targets: Sequence[int] = [pointers(symbol) for symbol in symbols if symbol.address >= start]
    size = BEFORE + len(blob.data) + BEHIND
    data = Surroundings(chance, pointer_size or word_size, byte_order).image(
        size, start, targets, (BEFORE - 4096, BEFORE + len(blob.data) + 4096)
    )
    data[BEFORE : BEFORE + len(blob.data)] = blob.data
    return Worded(blob, bytes(data), start)


def read(kernel: Kernel) -> list[tuple[int, str]]:
    """As `Worded.listed`, of what was recovered."""
    text, bounds = kernel.symbols.characters.tobytes().decode("latin-1"), kernel.symbols.bounds.tolist()
    texts = [text[low:high] for low, high in pairwise(bounds)]
    return list(zip(kernel.symbols.addresses.tolist(), texts, strict=True))
