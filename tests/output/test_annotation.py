"""Annotated logs: what is said, and that nothing else changes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols, SymbolGroup
from kallsift.analysis.symbol_lookup import Resolver
from kallsift.output.text.symbolize import Annotator
from tests.output.sample import Row, table

ROWS: list[Row] = [
    (0xFFFFFFFF81000000, "T", "_stext"),
    (0xFFFFFFFF81234500, "t", "schedule"),
    (0xFFFFFFFF81234600, "t", "twin"),
    (0xFFFFFFFF81234700, "t", "twin"),
    (0xFFFFFFFF81234800, "t", "bell\x07"),
    (0xFFFFFFFF82000000, "B", "_end"),
]
MODULE = SymbolGroup(
    "xfs", table([(0xFFFFFFFFC0000000, "t", "xfs_read")]), (range(0xFFFFFFFFC0000000, 0xFFFFFFFFC0001000),)
)
RESOLVER = Resolver(table(ROWS), DynamicSymbols((MODULE,)))


@pytest.mark.parametrize(
    ("line", "annotated"),
    [
        ("ffffffff81234567\n", "ffffffff81234567 <schedule+0x67/0x100>\n"),
        ("FFFFFFFF81234567", "FFFFFFFF81234567 <schedule+0x67/0x100>"),
        (" [<ffffffff81234567>]\n", " [<ffffffff81234567>] <schedule+0x67/0x100>\n"),
        (" [<ffffffff81234567>] ? schedule+0x67/0x100\n", None),
        (" [<ffffffff81234567>] other+0x67/0x100\n", " [<ffffffff81234567>] <schedule+0x67/0x100> other+0x67/0x100\n"),
        ("RIP: 0010:0xffffffff81234567\n", "RIP: 0010:0xffffffff81234567 <schedule+0x67/0x100>\n"),
        ("pc : ffffffff81234567 lr : c0", "pc : ffffffff81234567 <schedule+0x67/0x100> lr : c0"),
        ("at 0xffffffff81234567.\r\n", "at 0xffffffff81234567 <schedule+0x67/0x100>.\r\n"),
        ("R12: ffffffffc0000010 R13: 00000000\n", "R12: ffffffffc0000010 <xfs_read+0x10/0x1000 [xfs]> R13: 00000000\n"),
        ("(0xffffffff81234567)", "(0xffffffff81234567 <schedule+0x67/0x100>)"),
        ("0xffffffff81234567 <schedule+0x67/0x100>", None),
        ("ffffffff81234800", "ffffffff81234800 <bell\\x07+0x0/0xdcb800>"),
        ("0xffffffff82000000 ffffffff80ffffff 0x10 81234567", None),
        ("ffffffff812345678 xffffffff81234567 ffffffff81234567x", None),
        ("a+0xffffffff81234567/0xffffffff81234567", None),
        ("ffffffff81234567-1111-2222", None),
        ("\x1b[1m\x00 \xff\n", None),
        ("\n", None),
        ("", None),
    ],
)
def test_addresses(line: str, annotated: str | None) -> None:
    assert Annotator(RESOLVER).line(line.encode("latin-1")).decode("latin-1") == (annotated or line)


def test_return_addresses_belong_to_the_call_before_them() -> None:
    annotator = Annotator(RESOLVER)
    assert annotator.line(b"ffffffff81234600\n") == b"ffffffff81234600 <twin+0x0/0x100>\n"
    assert annotator.line(b"[ 1.0] Call Trace:\n") == b"[ 1.0] Call Trace:\n"
    assert annotator.line(b" [<ffffffff81234600>]\n") == b" [<ffffffff81234600>] <schedule+0x100/0x100>\n"
    assert annotator.line(b"ffffffff81234600\n") == b"ffffffff81234600 <schedule+0x100/0x100>\n"
    assert annotator.line(b"RAX: ffffffff81234600\n") == b"RAX: ffffffff81234600 <twin+0x0/0x100>\n"
    annotator.line(b"---[ end trace 0 ]---\n")
    assert annotator.line(b"ffffffff81234600\n") == b"ffffffff81234600 <twin+0x0/0x100>\n"


@pytest.mark.parametrize(
    ("line", "annotated"),
    [
        ("schedule+0x67/0x100", "schedule+0x67/0x100 <ffffffff81234567>"),
        ("? schedule+0x67/0x100\n", "? schedule+0x67/0x100 <ffffffff81234567>\n"),
        ("schedule+0x67/0x200", None),  # another kernel's
        ("twin+0x1/0x100", "twin+0x1/0x100 <ffffffff81234601|ffffffff81234701>"),
        ("xfs_read+0x4/0x1000 [xfs]\n", "xfs_read+0x4/0x1000 [xfs] <ffffffffc0000004>\n"),
        ("xfs_read+0x4/0x1000 [xfs 0123456789abcdef]", "xfs_read+0x4/0x1000 [xfs 0123456789abcdef] <ffffffffc0000004>"),
        ("xfs_read+0x4/0x1000 [ext4]", None),
        ("nosuch+0x4/0x1000", None),
    ],
)
def test_symbols(line: str, annotated: str | None) -> None:
    once = Annotator(RESOLVER, addresses=True).line(line.encode()).decode()
    assert once == (annotated or line)
    assert Annotator(RESOLVER).line(line.encode()).decode() == line


def test_another_boots_addresses() -> None:
    annotator = Annotator(RESOLVER, distance=-0x1000000)
    assert annotator.line(b"ffffffff82234567") == b"ffffffff82234567 <schedule+0x67/0x100>"
    assert annotator.line(b"ffffffff80234567") == b"ffffffff80234567"


PIECES = st.sampled_from(
    ["ffffffff81234567", "0xffffffffc0000010", " ", "<", ">", "[<", "\n", "Call Trace:", "x+0x1/0x2"]
)


@given(st.lists(PIECES | st.text(max_size=5), max_size=20))
def test_what_was_there_stays_and_nothing_is_said_twice(pieces: list[str]) -> None:
    line = "".join(pieces).encode("utf-8", "surrogatepass")
    once = Annotator(RESOLVER).line(line)
    assert re.sub(rb" <(?:schedule|xfs_read)\+0x[^<>]*>", b"", once) == re.sub(
        rb" <(?:schedule|xfs_read)\+0x[^<>]*>", b"", line
    )
    assert Annotator(RESOLVER).line(once) == once


SMALL: list[Row] = [
    (0x80004000, "A", "swapper_pg_dir"),
    (0x80200000, "T", "_stext"),
    (0x80420000, "t", "some_function"),
    (0x80440000, "t", "other_function"),
    (0x80900000, "T", "_etext"),
    (0x80A00000, "B", "_end"),
]
WORD_32 = Resolver(table(SMALL, word_size=4))


def annotated(resolver: Resolver, log: str) -> list[str]:
    """What is said in each line of a log, without what was there."""
    annotator = Annotator(resolver)
    return [
        " ".join(re.findall(r"<([\w.]+\+0x[^<>]*)>", annotator.line(line.encode()).decode()))
        for line in log.splitlines(keepends=True)
    ]


CALL = "schedule+0x100/0x100"
NEXT = "twin+0x0/0x100"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (" 0xffffffff81234600", CALL),
        (" ? 0xffffffff81234600", CALL),
        ("[   12.345678]  ? 0xffffffff81234600", CALL),
        ("[   12.345678][  T123]  0xffffffff81234600", CALL),
        ("<4>[   12.345678]  <IRQ>  [<ffffffff81234600>]", CALL),
        ("[Mon Nov 30 06:44:38 2026]  0xffffffff81234600 (unreliable)", CALL),
        ("[    1.000000 <    0.000001>]  0xffffffff81234600", CALL),
        ("2026-11-30T06:44:38,123456+00:00 0xffffffff81234600", CALL),
        ("Nov 30 06:44:38 host kernel: [   12.345678]  0xffffffff81234600", CALL),
        ("kern  :warn  : [   12.345678]  ? 0xffffffff81234600", CALL),
        ("[   12.345678] (0)[123:swapper]  0xffffffff81234600", CALL),
        ("> >  ? 0xffffffff81234600", CALL),
        ("[<ffffffff81234600>] 0xffffffff81234600", f"{CALL} {CALL}"),
        ("[c0000000f0a3f9d0] [ffffffff81234600] 0xffffffff81234600", f"{CALL} {CALL}"),
        ("([<ffffffff81234600>] 0x12)", CALL),
        (" [<ffffffff81234600>] (other) [<ffffffff81234600>]", f"{CALL} {CALL}"),
        # said by the kernel, in whichever way
        ("[c0000000f0a3f9d0] [ffffffff81234567] schedule+0x67/0x100 (unreliable)", ""),
        (" [<ffffffff81234600>] twin+0x0/0x100", ""),
        (" [<ffffffff81234600>] schedule+0x100/0x100", ""),
        (" [<ffffffffc0000010>] xfs_read+0x10/0x1000 [xfs 0123456789abcdef]", ""),
        # addresses of instructions that ran, values of registers, entries of functions
        ("RIP: 0010:[<ffffffff81234600>]  [<ffffffff81234600>] twin+0x0/0x100", NEXT),
        ("RAX: 0000000000000000 RBX: ffffffff81234600", NEXT),
        ("R13: 0000000000000000 R14: 0000000000000000 R15: ffffffff81234600", NEXT),
        ("pc : [<ffffffff81234600>]    lr : [<ffffffff81234600>]    psr: 60000013", f"{NEXT} {NEXT}"),
        ("epc : ffffffff81234600 ra : ffffffff81234600 sp : ffffffc000000000", f"{NEXT} {NEXT}"),
        ("NIP:  ffffffff81234600 LR: ffffffff81234600 CTR: 0000000000000000", f"{NEXT} {NEXT}"),
        ("Function entered at [<ffffffff81234600>] from [<ffffffff81234600>]", f"{NEXT} {CALL}"),
        (" [<ffffffff81234600>] (twin+0x0/0x100) from [<ffffffff81234567>] (schedule+0x67/0x100)", ""),
        ("a message about 0xffffffff81234600", NEXT),
    ],
)
def test_what_stands_in_a_stack_trace(line: str, said: str) -> None:
    assert annotated(RESOLVER, f"Call Trace:\n{line}\n")[1] == said


@pytest.mark.parametrize(
    "end",
    ["---[ end trace 0 ]---", " </TASK>", "Last Breaking-Event-Address:", "Stack:", *["\n".join(["x"] * 17)]],
)
def test_where_a_stack_trace_ends(end: str) -> None:
    assert annotated(RESOLVER, f"Call Trace:\n{end}\n ffffffff81234600\n")[-1] == NEXT


def test_an_interrupt_in_a_stack_trace_does_not_end_it() -> None:
    inside = "RIP: 0010:schedule+0x1/0x100\nCode: 0f 0b <48> 89\nRSP: 0018:1\nRAX: 0\n"
    assert annotated(RESOLVER, f"Call Trace:\n <IRQ>\n </IRQ>\n{inside} ? 0xffffffff81234600\n")[-1] == CALL


@pytest.mark.parametrize(
    "log",
    [
        "Code: 00000000  8c420000  00000000 <80420010> 00000000  80430001",
        "[   61.000000] Code: 8c420000 <80420010>",
        "Code: e1a0c00d e92dd800 (80420010) 80420010",
        "Instruction dump:\n60000000 80420010 XXXXXXXX\n80420010 <80420010> 7d2903a6",
        "[    1.0] Code:\n[    1.0]  80420010 80420010",
        "Krnl Code: 80420010: a7f4fff5\t\tbrc\t15,80420010\n          >80420014: 80420018\t\tbasr\t1,0",
    ],
)
def test_words_of_code_are_no_addresses(log: str) -> None:
    assert not any(annotated(WORD_32, log))
    assert annotated(WORD_32, f"{log}\nepc   : 80420010\n")[-1] == "some_function+0x10/0x20000"


def test_an_address_that_could_not_be_read_is_one() -> None:
    log = "Code: Unable to access opcode bytes at 0x80420010.\n"
    assert annotated(WORD_32, log) == ["some_function+0x10/0x20000"]


@pytest.mark.parametrize(
    "line",
    [
        "pc : [<00000000>]    lr : [<00000000>]    psr: 80420013",
        "Control: 80420010  Table: 8000406a  DAC: 80420010",
        "[00000000] *pgd=80420831, *pte=80420010",
        "EAX: 00000001 EFLAGS: 80420246 CR0: 80420033 CR2: 00000000 CR3: 80420000",
        "Status: 80420403\tKERNEL EXL IE",
        "Cause : 80420010 (ExcCode 02)",
    ],
)
def test_registers_of_state_hold_no_addresses(line: str) -> None:
    assert annotated(WORD_32, line) == [""]
