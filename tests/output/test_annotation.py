"""Annotated logs: what is said, and that nothing else changes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kallsift.output.annotation import Annotator
from kallsift.questions.dynamic import Dynamic, Group
from kallsift.questions.resolver import Resolver
from tests.output.sample import Row, table

ROWS: list[Row] = [
    (0xFFFFFFFF81000000, "T", "_stext"),
    (0xFFFFFFFF81234500, "t", "schedule"),
    (0xFFFFFFFF81234600, "t", "twin"),
    (0xFFFFFFFF81234700, "t", "twin"),
    (0xFFFFFFFF81234800, "t", "bell\x07"),
    (0xFFFFFFFF82000000, "B", "_end"),
]
MODULE = Group("xfs", table([(0xFFFFFFFFC0000000, "t", "xfs_read")]), (range(0xFFFFFFFFC0000000, 0xFFFFFFFFC0001000),))
RESOLVER = Resolver(table(ROWS), Dynamic((MODULE,)))


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
