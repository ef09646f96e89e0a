"""Kernel images of which each part that tells where they lie can be left out or moved."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import numpy as np

from kallsift.memory.memory import AddressSpace, ImageFacts, Memory
from kallsift.memory.segments import BytesSegment
from tests.oracle.eras import ALL_ERAS
from tests.oracle.symbols import Symbol, population
from tests.oracle.writer import Blob, write

STARTS = {8: 0xFFFF_FFFF_8100_0000, 4: 0xC030_0000}
TABLES_AT, PAGE = 0x4_0000, 4096
BANNER = b"Linux version 5.10.0-made-up (nobody@nowhere) #1\n\0"
ALIASED = 8
"""Of so many symbols one has the address of the one before."""
ERAS = {era.name: era for era in ALL_ERAS}


@dataclass(frozen=True)
class Parts:
    """What an image has.

    Attributes:
        era: name of the era of its tables.
        word_size: bytes of an address.
        header: bytes before the image that are none of it.
        first: bytes between the image's first byte and its first symbol.
        lists: empty list heads.
        lists_moved: how far above the rest of the image the data with the list heads are mapped.
        strings: strings that something points at.
        pointers: pointers to symbols.
        banner: whether there is a banner and a symbol for it.
        text_only: whether only symbols of text are listed.
        code_bit: whether bit 0 is set in pointers to code, as of Thumb-2 and microMIPS.
        letter: of one symbol, where it is not what population gives.
        step: bytes from each symbol to the next but for some aliases, if all are alike.
    """

    era: str = "5.10 arm64"
    word_size: int = 8
    header: int = 0
    first: int = 0
    lists: int = 0
    lists_moved: int = 0
    strings: int = 0
    pointers: int = 400
    banner: bool = False
    text_only: bool = False
    code_bit: bool = field(default=False, repr=False)
    step: int = field(default=0, repr=False)
    letter: str = field(default="", repr=False)


@dataclass(frozen=True)
class Made:
    """An image, and the truth of it.

    Attributes:
        data: the file.
        blob: its tables.
        distance: address less place in the file of its bytes.
        tables_offset: where the tables begin in the file.
    """

    data: bytes
    blob: Blob
    distance: int
    tables_offset: int

    def offset(self, table: str) -> int:
        """Where a table begins in the file."""
        return self.tables_offset + self.blob.tables[table].offset

    def changed(self, offset: int, content: bytes) -> Made:
        """The same with other bytes at an offset of the file."""
        return replace(self, data=self.data[:offset] + content + self.data[offset + len(content) :])


def make(parts: Parts, seed: int = 1) -> Made:
    """Builds an image of these parts; everything else in it is zero or text."""
    start, width = STARTS[parts.word_size], parts.word_size
    chance = random.Random(f"{parts} {seed}")
    era = ERAS[parts.era]
    listed = population(1500, seed, start=start + parts.first, text_only=parts.text_only)
    if parts.letter:
        listed = (*listed[:700], listed[700]._replace(letter=parts.letter), *listed[701:])
    if parts.step:
        steps = [parts.step * (index - index // ALIASED) for index in range(len(listed))]
        listed = tuple(symbol._replace(address=start + step) for symbol, step in zip(listed, steps, strict=True))
    room = listed[-1].address - start + PAGE
    tables_at = TABLES_AT + room - room % PAGE
    symbols = list(listed)
    # what lies behind the tables: where that is depends on their size, which the banner's symbol hardly changes
    size = len(write(symbols, era, address=start + tables_at, word_size=width).data)
    data_at = tables_at + (size + 3 * PAGE) // PAGE * PAGE
    if parts.banner:
        symbols.append(Symbol(start + data_at, "R", "linux_banner"))
    blob = write(symbols, era, address=start + tables_at, word_size=width)
    code = random.Random(seed).randbytes(tables_at - PAGE)
    image = bytearray(code).ljust(data_at, b"\0")
    _append(image, BANNER if parts.banner else bytes(PAGE))
    image[tables_at : tables_at + len(blob.data)] = blob.data
    word = np.dtype(f"<u{width}")
    functions = {symbol.address for symbol in listed if symbol.letter in "TtWw?"} if parts.code_bit else set()
    targets = sorted({symbol.address | (symbol.address in functions) for symbol in listed})
    _append(image, np.array(chance.choices(targets, k=parts.pointers), np.uint64).astype(word).tobytes())
    texts = [b"message" + b" of many" * chance.randrange(9) + b"!" * chance.randrange(8) for _ in range(parts.strings)]
    places = []
    for text in texts:
        places.append(start + len(image))
        image += text + b"\0"
    _append(image, b"")
    _append(image, np.array(places, np.uint64).astype(word).tobytes())
    heads = bytearray()
    for number in range(parts.lists):
        own = start + len(image) + number * 4 * width
        heads += np.array([own, own, number, 0], np.uint64).astype(word).tobytes()
    if parts.lists:
        moved = np.frombuffer(bytes(heads), word).copy().reshape(-1, 4)
        moved[:, :2] += word.type(parts.lists_moved)
        heads = bytearray(moved.tobytes())
    _append(image, bytes(heads))
    data = b"\1" * parts.header + bytes(image)
    mask = (1 << 8 * width) - 1
    return Made(data, blob, start - parts.header & mask, parts.header + tables_at)


def _append(image: bytearray, content: bytes) -> None:
    """Adds content and fills up to the next page."""
    image += content
    image += bytes(-len(image) % PAGE)


def flat(made: Made, base: int | None = None) -> Memory:
    """The file as a flat kernel image."""
    segment = BytesSegment(0, np.frombuffer(made.data, np.uint8))
    return Memory("made", "flat", AddressSpace.FILE, (segment,), image=ImageFacts(("flat",), 0, None, base))


def raw(made: Made, start: int = 0) -> Memory:
    """The file as memory without a header."""
    return Memory("made", "raw", AddressSpace.PHYSICAL, (BytesSegment(start, np.frombuffer(made.data, np.uint8)),))


def elf(made: Made, start: int) -> Memory:
    """The file as the only segment of an ELF image."""
    segment = BytesSegment(start, np.frombuffer(made.data, np.uint8))
    return Memory("made", "ELF", AddressSpace.VIRTUAL, (segment,), image=ImageFacts(("ELF",), 0, None, start))
