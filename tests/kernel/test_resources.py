"""RAM is divided as resources in it say: of every word width, and never by what only looks like resources."""

from __future__ import annotations

import random
import struct
import time

import numpy as np
import pytest

from kallsift.kernel.ram import iomem
from kallsift.kernel.ram.layout_candidates import arrangements
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.ram_layouts import Piece
from kallsift.memory.segments import BytesSegment

NAME, PARENT = 0x80123458, 0x80200000
RANGES = [(0x1000, 0x9BFF), (0x10000, 0x1FFFF), (0x40000, 0x403FF)]
SIZE = sum(end - start + 1 for start, end in RANGES)
PIECES = (Piece(0, 0x1000, 0x8C00), Piece(0x8C00, 0x10000, 0x10000), Piece(0x18C00, 0x40000, 0x400))

FORMS = {"64 bits": "QQQQQQ", "32 bits": "IIIIII", "32 bits, PAE": "QQIIII"}
"""Start, end, name, flags, and two of what follows them."""


def ram(
    form: str, order: str, ranges: list[tuple[int, int]], *, flags: int = 0x81000200, size: int = SIZE
) -> BytesSegment:
    """RAM with such resources here and there in it."""
    data = bytearray(random.Random(form).randbytes(size))
    for number, (start, end) in enumerate(ranges):
        struct.pack_into(f"{order}{form}", data, 0x104 + 0x1234 * number, start, end, NAME, flags, 0, PARENT)
        struct.pack_into(f"{order}{form}", data, 0x208 + 0x1234 * number, start, start + 9, NAME + 8, flags, 0, PARENT)
    return BytesSegment(0, np.frombuffer(bytes(data), np.uint8))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("flags", [0x81000200, 0x80000200, 0x85000200])
def test_as_resources_have_it(form: str, order: str, flags: int) -> None:
    found = list(iomem.ram_maps(ram(form, order, RANGES[::-1], flags=flags)))
    assert found[0][:4] == (PIECES, False, 0, NAME)
    assert all(each.missing for each in found[1:])


@pytest.mark.parametrize("batch", [0x100, 0x1000])
def test_wherever_the_passes_end(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(iomem, "BATCH", batch)
    assert next(iomem.ram_maps(ram("QQQQQQ", "<", RANGES))).pieces == PIECES


def test_a_file_that_is_cut_short() -> None:
    (found,) = iomem.ram_maps(ram("QQQQQQ", "<", RANGES, size=SIZE - 0x600))
    assert found[:4] == ((PIECES[0], Piece(0x8C00, 0x10000, 0xFE00)), False, 0x600, NAME)


@pytest.mark.parametrize(
    ("ranges", "flags"),
    [
        (RANGES[:2], 0x81000200),  # less than there is
        ([*RANGES, (0x9000, 0xFFFF)], 0x81000200),  # overlapping
        (RANGES, 0x01000200),  # not in use
        (RANGES, 0x81000201),
        ([(end, start) for start, end in RANGES], 0x81000200),
        ([(start + (1 << 52), end + (1 << 52)) for start, end in RANGES], 0x81000200),
    ],
)
def test_what_is_none(ranges: list[tuple[int, int]], flags: int) -> None:
    assert not list(iomem.ram_maps(ram("QQQQQQ", "<", ranges, flags=flags)))


LOW = [(0x1000, 0x9BFF), (0x10000, 0x1EFFF)]


@pytest.mark.parametrize(
    ("behind", "expected"),
    [
        ([(1 << 32, (1 << 32) + 0x7FFF)], (Piece(0, 0, 0x20000), Piece(0x20000, 1 << 32, 0x8000))),
        ([(1 << 32, (1 << 32) + 0x8FFF)], (Piece(0, 0, 0x1F000), Piece(0x1F000, 1 << 32, 0x9000))),
        ([(1 << 32, (1 << 32) + 0x9FFF)], None),  # no room is left for what lies in front of it
        ([(1 << 32, (1 << 32) + 0x70FF)], None),
        ([((1 << 32) + 0x1000, (1 << 32) + 0x8FFF)], None),
        ([(1 << 32, (1 << 32) + 0xFFF), ((1 << 32) + 0x2000, (1 << 32) + 0x2FFF)], None),
        ([(0x20000, 0x27FFF)], None),
    ],
)
def test_all_ram_without_its_hole(behind: list[tuple[int, int]], expected: tuple[Piece, ...] | None) -> None:
    found = list(iomem.ram_maps(ram("QQQQQQ", "<", [*LOW, *behind], size=0x28000)))
    assert [each[:4] for each in found] == ([(expected, True, 0, NAME)] if expected else [])


def test_the_memory_that_comes_of_it() -> None:
    bare = ram("QQQQQQ", "<", RANGES)
    (found,) = arrangements(Memory("test", "raw", AddressSpace.PHYSICAL, (bare,)))
    assert found.check.name == "ranges"
    assert "0x8c00 bytes at 0x1000, 0x10000 bytes at 0x10000, 0x400 bytes at 0x40000" in found.check.detail
    for offset in (0, 0x8BFF, 0x8C00, 0x18BFF, 0x18C00):
        assert found.memory.read(found.address(offset), 1)[0] == bare.data[offset]


def test_one_range_alone_is_left_to_the_page_table() -> None:
    bare = ram("QQQQQQ", "<", [(0x40000000, 0x40000000 + SIZE - 1)])
    assert list(iomem.ram_maps(bare))
    assert not list(arrangements(Memory("test", "raw", AddressSpace.PHYSICAL, (bare,))))


def test_memory_full_of_them_takes_no_time() -> None:
    record = struct.pack("<QQQQ", 0, 1 << 40, 1, 0x81000200)
    many = np.tile(np.frombuffer(record, np.uint8), 1 << 20)
    many.view("<u8")[2::4] = np.arange(1, 1 + (1 << 20))
    begin = time.process_time()
    assert len(list(iomem.ram_maps(BytesSegment(0, many)))) <= iomem.MAX_MAPS
    assert time.process_time() - begin < 10


@pytest.mark.parametrize("size", [0, 1, 3, 4, 31, 32, 33])
def test_hardly_any_memory(size: int) -> None:
    data = np.frombuffer((b"\x00\x02\x00\x81" * 9)[:size], np.uint8)
    assert not list(iomem.ram_maps(BytesSegment(0, data)))
