"""What is known of another boot, and the distance that follows from it."""

from __future__ import annotations

import pytest

from kallsift.questions.other_boot import UnknownBaseError, base_in_line, distance_from
from tests.output.sample import Row, table

LINKED = 0xFFFFFFFF81000000
TEXT = 0xFFFFFFFFA0E00000
ROWS: list[Row] = [(TEXT, "T", "_text"), (TEXT + 0x10000, "T", "_stext"), (TEXT + 0x100000, "B", "_end")]


@pytest.mark.parametrize(
    ("line", "base"),
    [
        (b"[  1.0] Kernel Offset: 0x2be00000 from 0xffffffff81000000 (relocation range: 0x-0x)\n", 0xFFFFFFFFACE00000),
        (b"[  1.0] Kernel Offset: 0x1fcfd6a00000 from 0xffff800080000000\n", 0xFFFF9FD056A00000),
        (b"Kernel Offset: disabled\n", LINKED),
        (b"Kernel Offset: 0x10\n", None),
        (b"nothing\n", None),
    ],
)
def test_the_line_of_a_panic(line: bytes, base: int | None) -> None:
    assert base_in_line(line, LINKED) == base


@pytest.mark.parametrize(
    ("given", "distance"),
    [
        (TEXT, 0),
        (TEXT + 0x10000, 0),  # its _stext
        (TEXT - 0x200000, 0x200000),
        (TEXT + 0x200000 + 0x10000, -0x200000),
        (0x1FE00000, 0),  # an offset
        (0, 0x1FE00000),
    ],
)
def test_the_distance(given: int, distance: int) -> None:
    assert distance_from(table(ROWS), given, LINKED) == distance


def test_what_nothing_tells() -> None:
    with pytest.raises(UnknownBaseError, match="linked"):
        distance_from(table(ROWS), 0x1000000, None)
    with pytest.raises(UnknownBaseError, match="neither _text nor _stext"):
        distance_from(table(ROWS[2:]), TEXT, LINKED)
    with pytest.raises(UnknownBaseError, match="--from-base"):
        base_in_line(b"Kernel Offset: disabled", None)
