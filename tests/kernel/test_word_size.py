"""Two readings of one table, of 4 and of 8 bytes a word: the image's pointers tell, or a user, and then it is said."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import cast

import pytest

import kallsift
from kallsift.errors import RecoveryError
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kallsyms.recovered_tables import Tables
from kallsift.kernel.kernel import Kernel, State
from kallsift.kernel.placement import word_size
from kallsift.kernel.placement.placement import Placement
from kallsift.kernel.placement.pointers import Words
from kallsift.kernel.placement.window_facts import SharedWindows
from kallsift.kernel.placement.word_size import MIN_POINTERS, MIN_SYSTEM_CALLS, WordVotes, named_word_size
from kallsift.kernel.recovery.ranking import Ranking
from kallsift.memory.memory import Hints
from tests.kernel.made_machine import INIT_TASK, LISTS, MIB, Machine
from tests.kernel.worded import ALIGNED_TO_16, NARROW, SELF_RELATIVE, Worded, read, worded
from tests.oracle.eras import Era
from tests.oracle.symbols import Symbol
from tests.oracle.writer import ByteOrder
from tests.output.sample import kernel, table

pytestmark = pytest.mark.sampled(2)


def outcome(found: Kernel, name: str) -> Outcome:
    """How a check came out."""
    return next(check.outcome for check in found.evidence if check.name == name)


@pytest.mark.parametrize("text_only", [False, True])
@pytest.mark.parametrize("count", [1501, 1503])
def test_a_base_followed_by_padding_is_no_word_of_64_bits(count: int, text_only: bool) -> None:
    """On arm the base stands alone in 16 bytes: with the zeros behind it, it looks like one of 64 bits."""
    made = worded(ALIGNED_TO_16, 4, count=count, text_only=text_only)
    found = kallsift.recover(made.file())
    assert (found.symbols.word_size, read(found), found.proven) == (4, made.listed(), True)
    assert outcome(found, CheckId.WORD_SIZE) is Outcome.PASSED


@pytest.mark.parametrize("byte_order", ["little", "big"])
@pytest.mark.parametrize("word_size", [4, 8])
def test_self_relative_tables_are_alike_for_both(word_size: int, byte_order: ByteOrder) -> None:
    made = worded(SELF_RELATIVE, word_size, byte_order=byte_order)
    found = kallsift.recover(made.file())
    assert (found.symbols.word_size, read(found), found.proven) == (word_size, made.listed(), True)
    assert outcome(found, CheckId.WORD_SIZE) is Outcome.PASSED


def test_pointers_of_64_bits_refute_a_table_of_32() -> None:
    """Everything else of this image is in order."""
    made = worded(ALIGNED_TO_16, 4, pointer_size=8)
    found = kallsift.recover(made.file())
    assert not (found.proven and found.symbols.word_size == 4)


@pytest.mark.parametrize("era", [ALIGNED_TO_16, SELF_RELATIVE], ids=str)
def test_pointers_of_32_bits_refute_a_table_of_64(era: Era) -> None:
    made = worded(era, 8, pointer_size=4)
    try:
        found = kallsift.recover(made.file())
    except RecoveryError:
        return
    assert not (found.proven and found.symbols.word_size == 8)


@pytest.mark.parametrize("era", [ALIGNED_TO_16, SELF_RELATIVE], ids=str)
def test_a_copy_of_64_bits_is_not_read_with_32(era: Era) -> None:
    """The lower halves of its pointers lead to the lower halves of its addresses: to KSEG0 of MIPS, mapped as there."""
    made = worded(era, 8)
    kernels = kallsift.recover_all(made.ram())
    assert [(one.symbols.word_size, read(one)) for one in kernels] == [(8, made.listed())]
    assert kernels[0].state is not State.RUNNING


def test_a_stale_kernel_is_not_read_with_half_its_addresses() -> None:
    """More can be asked of it than of its lower halves, and the registers are those of the boot that followed."""
    machine = Machine(place=16 * MIB, size=64 * MIB, heap=32 * MIB)
    for place in (*range(LISTS, LISTS + 96 * 48, 8), *range(INIT_TASK, INIT_TASK + 0x4000, 8)):
        machine.put(machine.place + place, 0)
    memory = machine.memory(cr3=0x300_0000, lstar=0xFFFF_FFFF_9A20_0080, idt_base=0xFFFF_FE00_0000_0000)
    kernels = kallsift.recover_all(memory)
    assert [(one.symbols.word_size, one.virtual_base) for one in kernels] == [(8, machine.base)]
    assert not kernels[0].proven


@pytest.mark.parametrize("text_only", [False, True])
def test_bit_0_of_pointers_to_code(text_only: bool) -> None:
    """Thumb-2: pointers to functions are one more than these, those to data are not."""
    made = worded(ALIGNED_TO_16, 4, pointers=thumb, text_only=text_only, grain=4)
    found = kallsift.recover(made.file())
    assert (read(found), found.proven) == (made.listed(), True)
    detail = next(check.detail for check in found.evidence if check.name == "pointers to symbols")
    assert "with bit 0 set" in detail


def test_pointers_that_are_two_more_than_functions_prove_nothing() -> None:
    made = worded(ALIGNED_TO_16, 4, pointers=off_by_two, grain=4)
    found = kallsift.recover(made.file())
    assert not (found.proven and outcome(found, "pointers to symbols") is Outcome.PASSED)


def off_by_two(symbol: Symbol) -> int:
    """What is no pointer to any symbol."""
    return symbol.address + 2 if symbol.letter in "tTwW" else NARROW


def thumb(symbol: Symbol) -> int:
    """What a Thumb-2 kernel's pointer to a symbol is."""
    return symbol.address | 1 if symbol.letter in "tTwW" else symbol.address


def test_votes() -> None:
    assert WordVotes(1000, 100).word_size == 8
    assert WordVotes(100, 1000).word_size == 4
    assert WordVotes(1000, 1000).word_size is None
    assert WordVotes(MIN_POINTERS - 1, 0).word_size is None
    assert WordVotes(0, MIN_POINTERS).word_size == 4


@pytest.mark.parametrize(
    ("marks", "size"),
    [
        (("__x64_sys_", "__ia32_sys_"), 8),
        (("__ia32_sys_",), 4),
        (("__arm64_sys_",), 8),
        (("opal_", "mips_"), None),  # drivers of other architectures have such names
        ((), None),
    ],
)
def test_names_of_system_calls(marks: tuple[str, ...], size: int | None) -> None:
    rows = [(0x1000 * number, "T", f"{mark}call{number}") for mark in marks for number in range(MIN_SYSTEM_CALLS)]
    assert named_word_size(table([*rows, (0, "t", "f"), (1, "t", "__x64_sys_alone")])) == size


@pytest.mark.parametrize(
    ("mark", "start", "failed"),
    [
        ("__x64_sys_", 0xFFFF_FFFF_8100_0000, 4),
        ("__ia32_sys_", 0xC100_0000, 8),
        ("sys_", 0xC100_0000, 8),
        ("sys_", 0xFFFF_FFFF_8100_0000, None),
    ],
)
def test_what_tells_where_pointers_do_not(
    monkeypatch: pytest.MonkeyPatch, mark: str, start: int, failed: int | None
) -> None:
    """Names of system calls, or little-endian addresses of 64 bits that are as low as those of 32."""
    monkeypatch.setattr(word_size, "word_votes", lambda *_: WordVotes(MIN_POINTERS - 1, 0))
    symbols = table([(start + number, "T", f"{mark}call{number}") for number in range(MIN_SYSTEM_CALLS)])
    memory = worded(SELF_RELATIVE, 8).file()
    for size in (4, 8):
        placement = Placement(symbols, 0, Words(size, "<"), ())
        # of tables only the votes are taken
        check = word_size.word_size_check(memory, cast(Tables, None), placement, SharedWindows())
        assert (check.outcome is Outcome.FAILED) is (size == failed)


UNTOLD = Check(CheckId.WORD_SIZE, Outcome.ABSENT, "too few pointers")
SEEN = Check(CheckId.LINUX_BANNER, Outcome.PASSED, "points at the text")
FAILED = Check(CheckId.PAGE_TABLE, Outcome.FAILED, "none maps it")


def reading(word_size: int, *checks: Check, state: State = State.RUNNING) -> Kernel:
    """A kernel with this evidence alone."""
    return kernel(word_size=word_size, evidence=checks, state=state)


def ranked(*readings: Kernel, given: int | None = None) -> Kernel | None:
    """The best of some readings."""
    ranking = Ranking(given)
    for one in readings:
        ranking.add(one, 100)
    return ranking.best()


def test_what_was_proved_counts_rather_than_what_was_not_asked() -> None:
    """A stale kernel of 64 bits fails more checks than its reading with 32: more can be asked of it."""
    wide = reading(8, SEEN, SEEN, SEEN, FAILED, FAILED, state=State.STALE)
    narrow = reading(4, SEEN, FAILED, state=State.STALE)
    for order in ((wide, narrow), (narrow, wide)):
        best = ranked(*order)
        assert best is not None
        assert best.symbols.word_size == 8


def test_a_tie_is_told_and_a_user_decides_it() -> None:
    wide, narrow = reading(8, SEEN, UNTOLD), reading(4, SEEN, UNTOLD)
    for given, size in ((None, 8), (8, 8), (4, 4)):
        best = ranked(wide, narrow, given=given)
        assert best is not None
        assert (best.symbols.word_size, best.proven) == (size, False)
        assert "--word-size" in best.evidence[-1].detail


@pytest.mark.parametrize("given", [None, 4])
def test_what_proves_itself_needs_no_user(given: int | None) -> None:
    known = Check(CheckId.WORD_SIZE, Outcome.PASSED, "of 32 bits")
    for others in ((), (reading(8, UNTOLD),)):
        best = ranked(*others, reading(4, SEEN, known), given=given)
        assert best is not None
        assert (best.symbols.word_size, best.proven) == (4, True)
    alone = ranked(reading(4, SEEN, UNTOLD), given=given)
    assert alone is not None
    assert alone.proven


def test_a_word_size_that_nothing_has_gives_nothing() -> None:
    assert ranked(reading(8, SEEN), given=4) is None


def given(made: Worded, **hints: object) -> Kernel:
    """What is recovered where a user says something."""
    return kallsift.recover(replace(made.file(), hints=replace(Hints(), **hints)))  # type: ignore[arg-type]


def test_a_user_can_overrule_but_proves_nothing() -> None:
    made = worded(ALIGNED_TO_16, 4)
    assert given(made, word_size=4).proven
    overruled = given(made, word_size=8)
    assert (overruled.symbols.word_size, overruled.proven) == (8, False)


@pytest.mark.parametrize(("word_size", "wrong"), [(4, 8), (8, 4)])
def test_pointers_refute_what_a_user_gives(word_size: int, wrong: int) -> None:
    """Tables that are in order for both, and that no other reading goes before."""
    made = worded(SELF_RELATIVE, word_size)
    assert given(made, word_size=word_size).proven
    with contextlib.suppress(RecoveryError):
        assert not given(made, word_size=wrong).proven


def test_the_byte_order_that_a_user_gives() -> None:
    made = worded(ALIGNED_TO_16, 4)
    assert given(made, byte_order="<").proven
    with pytest.raises(RecoveryError, match="byte order"):
        given(made, byte_order=">")
