"""Tables of every era with nothing around them but zeros: shown at the addresses that they hold, and not as proven."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

import kallsift
from kallsift import Outcome
from kallsift.arch.registry import TEXT_BASES
from kallsift.kallsyms.damaged import solver as damage
from kallsift.kallsyms.evidence import CheckId
from kallsift.kallsyms.recovered_tables import Tables
from kallsift.kallsyms.solvers import scattered as anywhere
from kallsift.kernel.placement.rebase import rebased
from kallsift.memory.memory import AddressSpace, ImageFacts, Memory
from kallsift.memory.segments import BytesSegment
from tests.kernel.era_cases import era_case
from tests.kernel.placed_images import Parts, flat, make
from tests.oracle.eras import ALL_ERAS, Era
from tests.oracle.symbols import Symbol, population
from tests.oracle.writer import Blob, ByteOrder, write

pytestmark = pytest.mark.sampled(4)

BEFORE, BEHIND = 0x1_2000, 0x1_0000
STARTS = {8: 0xFFFF_8000_8000_0000, 4: 0xC000_8000}
CASES = [
    era_case(era, size, order, text_only, era.word_sizes[-1])
    for era in ALL_ERAS
    for size in era.word_sizes
    for order in ("little", "big")
    for text_only in ((False, True) if order == "little" else (False,))
]


def alone(era: Era, word_size: int, byte_order: ByteOrder, text_only: bool, seed: int = 4) -> tuple[Blob, Memory]:
    """The tables of an era in a file of zeros."""
    start = STARTS[word_size]
    percpu = era.encoding == "percpu" and not text_only
    first = [Symbol(start, "T", "_text")]
    symbols = population(900, seed, percpu=percpu, start=start + 0x1000, text_only=text_only)
    small = [symbol for symbol in symbols if symbol.address < start]
    listed = [*small, *first, *symbols[len(small) :]]
    blob = write(listed, era, address=start + 0x40_0000, word_size=word_size, byte_order=byte_order)
    data = bytes(BEFORE) + blob.data + bytes(BEHIND)
    return blob, Memory("alone", "raw", AddressSpace.PHYSICAL, (BytesSegment(0, np.frombuffer(data, np.uint8)),))


@pytest.mark.parametrize(("era", "word_size", "byte_order", "text_only"), CASES)
def test_the_whole_table(era: Era, word_size: int, byte_order: ByteOrder, text_only: bool) -> None:
    blob, memory = alone(era, word_size, byte_order, text_only)
    kernel = kallsift.recover(memory)
    assert kernel.symbols.names() == [symbol.name for symbol in blob.symbols]
    truth = np.array([symbol.address for symbol in blob.symbols], np.uint64)
    if era.encoding == "self-relative":
        # how far they are from each other is all that such tables hold
        truth -= np.uint64(STARTS[word_size])
    assert np.array_equal(kernel.symbols.addresses & np.uint64((1 << 8 * word_size) - 1), truth)
    assert not kernel.proven
    assert not kernel.is_placed


def self_relative() -> tuple[Blob, Memory]:
    """Tables of 7.0 alone."""
    return alone(next(era for era in ALL_ERAS if str(era) == "7.0"), 8, "little", text_only=False)


@pytest.mark.parametrize(
    ("release", "lost", "is_searched"), [("6.0-arm64", 0, False), ("6.0-arm64", 2048, True), ("7.0", 0, False)]
)
def test_whole_tables_without_gaps_are_not_searched_for_damage(
    monkeypatch: pytest.MonkeyPatch, release: str, lost: int, is_searched: bool
) -> None:
    """Whatever is lost breaks an order, but for zeros at the beginning of the addresses."""
    era = next(era for era in ALL_ERAS if str(era) == release)
    blob, memory = alone(era, 8, "little", text_only=False)
    if lost:
        data = memory.segments[0].read().copy()
        data[BEFORE + blob.tables["offsets"].offset :][:lost] = 0
        memory = replace(memory, segments=(BytesSegment(0, data),))
    asked: set[str] = set()

    def damaged(*_: object) -> Iterator[Tables]:
        asked.add("damage")
        return iter(())

    def elsewhere(*_: object) -> Iterator[Tables]:
        asked.add("elsewhere")
        return iter(())

    monkeypatch.setattr(damage, "recover_damaged", damaged)
    monkeypatch.setattr(anywhere, "recover_anywhere", elsewhere)
    kernel = kallsift.recover(memory)
    assert not kernel.is_placed
    assert asked == ({"damage", "elsewhere"} if is_searched else set())


@pytest.mark.parametrize("given", [None, 4])
def test_another_reading_that_is_in_order_too_is_told(given: int | None) -> None:
    """Distances from their own places are the same for words of either size, if no name tells the architecture."""
    blob = make(Parts(era="7.0", word_size=4)).blob
    data = np.frombuffer(bytes(BEFORE) + blob.data + bytes(BEHIND), np.uint8)
    memory = Memory("alone", "raw", AddressSpace.PHYSICAL, (BytesSegment(0, data),))
    kernel = kallsift.recover(memory.with_hints(replace(memory.hints, word_size=given)))
    failed = [check.name for check in kernel.evidence if check.outcome is Outcome.FAILED]
    assert failed == ["placement", *([] if given else ["only reading"])]


def test_a_base_that_the_user_gives() -> None:
    blob, memory = self_relative()
    kernel = rebased(kallsift.recover(memory), STARTS[8])
    assert kernel.symbols.addresses.tolist() == [symbol.address for symbol in blob.symbols]
    failed = {check.name: check.detail for check in kernel.evidence if check.outcome is Outcome.FAILED}
    assert failed[CheckId.BASE] == f"{STARTS[8]:#x} was given; nothing confirms it"
    assert CheckId.PLACEMENT not in failed


def test_a_file_at_an_address() -> None:
    blob, memory = self_relative()
    kernel = kallsift.recover(memory.moved(STARTS[8] + 0x40_0000 - BEFORE))
    assert kernel.symbols.addresses.tolist() == [symbol.address for symbol in blob.symbols]
    assert not kernel.proven


def test_the_architecture_tells_where_text_is_linked() -> None:
    symbols = [Symbol(0xFFFF_FFFF_8100_0000 + number // 2 * 64, "T", name) for number, name in enumerate(NAMES)]
    blob = write(symbols, next(era for era in ALL_ERAS if str(era) == "7.0"), address=0xFFFF_FFFF_8200_0000)
    data = np.frombuffer(bytes(BEFORE) + blob.data + bytes(BEHIND), np.uint8)
    kernel = kallsift.recover(Memory("alone", "raw", AddressSpace.PHYSICAL, (BytesSegment(0, data),)))
    assert kernel.symbols.addresses.tolist() == [symbol.address for symbol in symbols]
    assert not kernel.proven


NAMES = ("_text", *(f"__x64_sys_{number}_0123456789" for number in range(400)))


def test_a_base_that_contradicts_the_image_is_not_proven() -> None:
    kernel = kallsift.recover(flat(made := make(Parts(lists=100, strings=200))))
    assert rebased(kernel, made.distance).proven
    moved = rebased(kernel, made.distance + 0x20_0000)
    assert moved.symbols.addresses[0] == kernel.symbols.addresses[0] + np.uint64(0x20_0000)
    assert not moved.proven


@pytest.mark.parametrize("name", ["4.6 s390", "5.10 arm64", "6.12 arm64"])
@pytest.mark.parametrize("byte_order", ["little", "big"])
def test_words_that_are_offsets_are_no_base(name: str, byte_order: ByteOrder) -> None:
    """A loader has yet to fill in the base: its word is zero, and zeros stand before the array as well."""
    era = next(era for era in ALL_ERAS if era.name == name)
    start, word_size = STARTS[8], 8
    first = [Symbol(start, "T", name) for name in ("_text", "_stext", "_head", "first_of_all", "second_of_all")]
    symbols = [*first, *population(895, 4, start=start + 0x1000)]
    # they fill whole words of 8 bytes: the array's end can be read as the base of one that begins before it
    assert len(symbols) % 2 == 0
    blob = write(symbols, era, address=start, word_size=word_size, byte_order=byte_order)
    before = b"\1" * BEFORE + bytes(32)
    data = np.frombuffer(before + blob.data + bytes(BEHIND), np.uint8).copy()
    place = len(before) + blob.tables["relative_base"].offset
    data[place : place + word_size] = 0
    facts = ImageFacts(("made up",), 0, "arm64")
    kernel = kallsift.recover(Memory("cut", "raw", AddressSpace.FILE, (BytesSegment(0, data),), image=facts))
    assert not kernel.proven
    default = TEXT_BASES["arm64"]
    truth = np.array([symbol.address for symbol in symbols], np.uint64)
    assert np.array_equal(kernel.symbols.addresses, truth - np.uint64(start) + np.uint64(default))
    assert f"right if _text is at {default:#x}" in kernel.evidence[-1].detail


@pytest.mark.parametrize("name", ["5.10 arm64", "6.12 arm64"])
@pytest.mark.parametrize("byte_order", ["little", "big"])
def test_a_low_base_may_be_a_little_above_the_last_offset(name: str, byte_order: ByteOrder) -> None:
    """A kernel of 32 bits that is linked low: its base looks like one more offset, and is none."""
    era = next(era for era in ALL_ERAS if era.name == name)
    start = 0x80_8000
    symbols = [Symbol(start, "T", "_text"), *population(900, 4, start=start + 0x40)]
    blob = write(symbols, era, address=start, word_size=4, byte_order=byte_order)
    data = np.frombuffer(b"\1" * BEFORE + blob.data + bytes(BEHIND), np.uint8).copy()
    memory = Memory("cut", "raw", AddressSpace.FILE, (BytesSegment(0, data),), image=ImageFacts(("made up",), 0, "arm"))
    assert np.array_equal(kallsift.recover(memory).symbols.addresses, [symbol.address for symbol in symbols])
