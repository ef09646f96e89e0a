"""A module's symbols in memory made by hand: what is damaged costs nothing but itself, and is said."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import numpy as np
import pytest

from kallsift.errors import KallsiftError
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.placement.pointers import Words
from kallsift.memory.segments import BytesSegment
from kallsift.modules.struct_module import ModulesError
from kallsift.modules.symbol_entries import MAX_STRINGS, SymbolPlaces, is_in_order, read_symbols
from tests.modules.made_modules import BASE, LITTLE, Arena

COUNT = 40
NAMES = [f"a_name_{number}" for number in range(1, COUNT)]
ALL_WORDS = [Words(size, order) for size in (8, 4) for order in "<>"]


@dataclass
class Made:
    """A module's tables.

    Attributes:
        arena: the memory.
        places: of the tables.
        starts: offset of each name in the string table.
    """

    arena: Arena
    places: SymbolPlaces
    starts: list[int]

    @property
    def names(self) -> list[str]:
        return list(read_symbols(self.arena.memory, self.places, MAX_STRINGS).table.names())

    @property
    def remarks(self) -> tuple[str, ...]:
        return read_symbols(self.arena.memory, self.places, MAX_STRINGS).remarks

    def put(self, offset: int, text: bytes) -> None:
        """Writes over the string table."""
        place = self.places.strings + offset - BASE
        self.arena.data[place : place + len(text)] = list(text)

    def put_name(self, index: int, start: int) -> None:
        """Writes where the name of a symbol begins."""
        size = 24 if self.arena.words.size == 8 else 16
        self.arena.put(self.places.entries + index * size, start, width=4)


def made(words: Words = LITTLE, names: list[str] = NAMES) -> Made:
    arena = Arena(words)
    form = "IBBHQQ" if words.size == 8 else "IIIBBH"
    starts = [0]
    for name in ["", *names]:
        starts.append(starts[-1] + len(name) + 1)
    text = b"\0".join(name.encode() for name in ["", *names]) + b"\0"
    entries = b""
    for index in range(1, len(names) + 1):
        address = 0x1000 + 16 * index
        row = (starts[index], 0, 0, 1, address, 8) if words.size == 8 else (starts[index], address, 8, 0, 0, 1)
        entries += struct.pack(words.byte_order + form, *row)
    entries = bytes(struct.calcsize(words.byte_order + form)) + entries
    start = arena.take(len(entries) + len(text))
    arena.data[start - BASE :][: len(entries) + len(text)] = list(entries + text)
    letters = arena.text(b"?" + b"t" * len(names))
    return Made(arena, SymbolPlaces(start, len(names) + 1, start + len(entries), letters, True), starts)


@pytest.mark.parametrize("words", ALL_WORDS, ids=str)
def test_all_symbols(words: Words) -> None:
    one = made(words)
    found = read_symbols(one.arena.memory, one.places, MAX_STRINGS)
    assert list(found.table.names()) == NAMES
    assert found.table.addresses.tolist() == [0x1000 + 16 * index for index in range(1, COUNT)]
    assert found.remarks == ()
    assert is_in_order(one.arena.memory, one.places.entries, COUNT, one.places.strings)


def test_labels_of_the_assembler_are_names() -> None:
    """RISC-V's and others' have blanks or control characters in them, and are most of what a module lists there."""
    names = [
        name for number in range(9) for name in (f"function_{number}", ".L0 ", ".L0 ", f".L1\x02{number}", "L0\x01")
    ]
    one = made(names=names)
    assert (one.names, one.remarks) == (names, ())


@pytest.mark.parametrize("words", ALL_WORDS, ids=str)
def test_a_nul_inside_a_name(words: Words) -> None:
    """It is printed as far as that, as the kernel does, and all others as they are."""
    one = made(words)
    one.put(one.starts[7] + 3, b"\0")
    assert one.names == [*NAMES[:6], "a_n", *NAMES[7:]]
    assert one.remarks == ("1 of 39 names are cut short by a NUL, as the kernel prints them too",)


def test_a_nul_that_begins_a_name() -> None:
    """The kernel prints no line then."""
    one = made()
    one.put(one.starts[7], b"\0")
    assert one.names == [*NAMES[:6], *NAMES[7:]]
    assert one.remarks[0].startswith("1 of 39 names are cut")


@pytest.mark.parametrize(
    ("offset", "text", "lost"),
    [
        (-1, b"x", {5, 6}),  # what ended the name before, which now has no end of its own
        (2, b"\x1b", {6}),
        (2, b"\t", {6}),
        (2, b"\xff", {6}),
        (-1, b"\xaa" * 30, {5, 6, 7, 8, 9}),
    ],
)
def test_names_that_are_none(offset: int, text: bytes, lost: set[int]) -> None:
    one = made()
    one.put(one.starts[7] + offset, text)
    assert one.names == [name for index, name in enumerate(NAMES) if index not in lost]
    assert one.remarks == (f"{len(lost)} of 39 are damaged and left out",)


@pytest.mark.parametrize("start", [MAX_STRINGS, 0xFFFF_FFFF, 200_000, 1])
def test_a_number_that_leads_elsewhere(start: int) -> None:
    """To where no name is, or another one's: the symbol is lost alone."""
    one = made()
    one.put_name(7, start)
    assert one.names == [*NAMES[:6], *NAMES[7:]]
    assert one.remarks == ("1 of 39 are damaged and left out",)


def test_a_number_within_its_neighbour() -> None:
    """The name there is none; where the one before ends cannot be told either."""
    one = made()
    one.put_name(7, one.starts[6] + 2)
    assert one.names == [*NAMES[:5], *NAMES[7:]]
    assert one.remarks == ("2 of 39 are damaged and left out",)


def test_letters_that_are_none() -> None:
    one = made()
    assert one.places.letters is not None
    one.arena.data[one.places.letters + 7 - BASE] = 0x1B
    assert one.names == [*NAMES[:6], *NAMES[7:]]
    assert one.remarks == ("1 of 39 are damaged and left out",)


def test_names_that_the_loader_cut() -> None:
    """Up to 6.0 it left a gap behind a name of 127 characters."""
    long = "l" * 127
    one = made(names=[*NAMES[:5], long + "_and_more", *NAMES[5:]])
    one.put(one.starts[6] + 127, b"\0" * 9)
    assert one.names == [*NAMES[:5], long, *NAMES[5:]]
    assert one.remarks == ()


def test_most_of_it_is_none() -> None:
    one = made()
    one.put(one.starts[3], bytes(range(0x80, 0x100)) * 2)
    with pytest.raises(ModulesError, match="of its 39 symbols are invalid"):
        read_symbols(one.arena.memory, one.places, MAX_STRINGS)
    with pytest.raises(ModulesError, match="its names are larger than those of any"):
        read_symbols(made().arena.memory, made().places, 100)


def without_page(one: Made, page: int) -> VirtualMemory:
    """The memory, which does not hold one page."""
    memory = one.arena.memory
    cut = page - page % 4096
    parts = (
        BytesSegment(BASE, one.arena.data[: cut - BASE]),
        BytesSegment(cut + 4096, one.arena.data[cut + 4096 - BASE :]),
    )
    return replace(memory, memory=replace(memory.memory, segments=parts))


def test_a_page_that_the_memory_lacks() -> None:
    """Of entries, of names, or of letters: what is on the other pages is there."""
    names = [f"{'n' * 20}_{number}" for number in range(1000)]
    one = made(names=names)
    assert one.places.letters is not None
    for place in (one.places.entries + 9000, one.places.strings + 9000):
        found = read_symbols(without_page(one, place), one.places, MAX_STRINGS)
        kept = list(found.table.names())
        assert 700 < len(kept) < 1000
        assert set(kept) <= {*names}
        (remark,) = found.remarks
        assert remark == f"{1000 - len(kept)} of 1,000 are damaged and left out"
    with pytest.raises(KallsiftError):
        read_symbols(without_page(one, one.places.entries), one.places, MAX_STRINGS)


@pytest.mark.parametrize("seed", range(30))
def test_random_bytes(seed: int) -> None:
    """Whatever stands there, names are as they were, or cut where a NUL came, and what is lost is said."""
    one, random = made(names=[f"{'n' * 9}_{number}" for number in range(400)]), np.random.default_rng(seed)
    truth = dict(zip(range(0x1010, 0x1010 + 16 * 400, 16), one.names, strict=True))
    start, end = one.places.strings - BASE, one.places.strings + one.starts[-1] - BASE
    for _ in range(20):
        one.arena.data[int(random.integers(start + 1, end))] = int(random.choice([0, 0x80, 0x41, 0x09]))
    found = read_symbols(one.arena.memory, one.places, MAX_STRINGS)
    assert found.remarks
    for symbol in found.table:
        intact = "".join("n" if letter == "A" else letter for letter in symbol.name)
        assert truth[symbol.address].startswith(intact) or "A" in symbol.name
