"""What is known of another boot, and the distance that follows from it."""

from __future__ import annotations

import pytest

from kallsift.analysis.boot_offset import LogAddresses, UnknownBaseError, base_in_line, distance_from
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
    with pytest.raises(UnknownBaseError, match="link address"):
        distance_from(table(ROWS), 0x1000000, None)
    with pytest.raises(UnknownBaseError, match="no symbol _text or _stext"):
        distance_from(table(ROWS[2:]), TEXT, LINKED)
    with pytest.raises(UnknownBaseError, match="--from-base"):
        base_in_line(b"Kernel Offset: disabled", None)


OFFSET = b"Kernel Offset: 0x2be00000 from 0xffffffff81000000"


@pytest.mark.parametrize(
    "prefix",
    [
        b"",
        b"> > ",
        b"[  123.456789] ",
        b"[  123.456789][    C0] ",
        b"[  123.456789][ T1234] ",
        b"<0>[    1.000000] ",
        b"<4>",
        b"0,1234,5678901,-;",
        b"0,1234,5678901,-,caller=T12;",
        b"kern  :emerg : [    1.000000] ",
        b"kern  :emerg : ",
        b"[Mon Nov 30 06:44:38 2026] ",
        b"[Nov30 06:44] ",
        b"[  +0.000004] ",
        b"2026-11-30T06:44:38,123456+00:00 ",
        b"2026-11-30T06:44:38.123456+00:00 host kernel: [    1.000000] ",
        b"Nov 30 06:44:38 host kernel: [    1.000000] ",
        b"Nov  3 06:44:38 host kernel: ",
        b"[2026-11-30 06:44:38] [    1.000000] ",
    ],
)
@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_what_stands_before_the_line(prefix: bytes, ending: bytes) -> None:
    assert base_in_line(prefix + OFFSET + ending, LINKED) == 0xFFFFFFFFACE00000


@pytest.mark.parametrize(
    "line",
    [
        b"[  1.0] systemd[1]: " + OFFSET,
        b"[  1.0] the kernel said: " + OFFSET,
        b"Nov 30 06:44:38 host user[12]: " + OFFSET,
        b"Nov 30 06:44:38 host sudo: " + OFFSET,
        b"user  :warn  : [    1.000000] " + OFFSET,
        b"<12>" + OFFSET,
        b"12,1234,5678901,-;" + OFFSET,
        b"x" + OFFSET,
        b"echo '" + OFFSET + b"'",
        OFFSET + b" and more",
        OFFSET + b"\nmore",
        b"[grep] " + OFFSET,
        b"log.txt:12:" + OFFSET,
    ],
)
def test_a_line_of_somebody_else(line: bytes) -> None:
    assert base_in_line(line + b"\n", LINKED) is None


SYMBOLS: list[Row] = [
    *ROWS[:2],
    (TEXT + 0x20000, "t", "f"),
    (TEXT + 0x30000, "t", "f"),
    (TEXT + 0x2000000, "B", "_end"),
]
MOVED = 0x4000000


def log(*lines: str) -> LogAddresses:
    addresses = LogAddresses(table(SYMBOLS))
    for line in lines:
        addresses.add(line.encode())
    return addresses


@pytest.mark.parametrize(
    ("addresses", "fits"),
    [
        ((), True),
        ((0x1234,), True),
        ((TEXT + MOVED + 0x100,), True),
        ((TEXT + 0x100,), False),
        ((TEXT + MOVED, TEXT + MOVED + 8, TEXT + 0x100), True),
        ((TEXT + MOVED, TEXT + 0x100), False),
    ],
)
def test_addresses_that_fit(addresses: tuple[int, ...], fits: bool) -> None:
    """Those of the other boot's image must be more than those of the image at hand."""
    lines = log(*(f"RAX: {address:016x} RBX: 0000000000000000" for address in addresses))
    assert lines.fit(-MOVED) is fits
    assert lines.fit(0)


def test_the_line_is_no_address_of_its_log() -> None:
    assert log(OFFSET.decode().replace("0xffffffff81000000", f"{TEXT + 0x100:#x}")).fit(-MOVED)


@pytest.mark.parametrize(
    ("offsets", "fits"),
    [((MOVED,), True), ((0,), False), ((MOVED, MOVED, 0), True), ((MOVED, 0), False), ((MOVED + 16,), False)],
)
@pytest.mark.parametrize("form", ["[<{0:016x}>] f+0x10/0x20", " [<{0:016x}>] ? f+0x10/0x20", "{0:#x}: (f+0x10/0x20)"])
def test_addresses_with_names(offsets: tuple[int, ...], fits: bool, form: str) -> None:
    """What the kernel called them must be what most are; it decides against all else."""
    lines = [form.format(TEXT + 0x30010 + offset) for offset in offsets]
    others = [f"RAX: {TEXT + (0 if fits else MOVED):016x}"] * 9
    assert log(*lines, *others).fit(-MOVED) is fits
    unknown = [line.replace("f+", "g+") for line in lines]
    assert log(*unknown).fit(-MOVED) == (2 * sum(1 for offset in offsets if offset) > len(offsets))
