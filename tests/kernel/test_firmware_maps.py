"""RAM is divided as e820 tables and the log's lines say, and never by what only looks like them."""

from __future__ import annotations

import random
import struct
import time

import numpy as np
import pytest

from kallsift.kernel.ram import firmware_memory_map
from kallsift.kernel.ram.iomem import MAX_MAPS
from kallsift.kernel.ram.layout_candidates import arrangements
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.ram_layouts import Piece
from kallsift.memory.segments import BytesSegment

Entry = tuple[int, int, int]
"""First address, size, type."""

TABLE: list[Entry] = [
    (0, 0x1000, 2),
    (0x1000, 0x9EC00, 1),
    (0x9FC00, 0x400, 2),
    (0x100000, 0x20000, 1),
    (0x120000, 0x10000, 3),
    (0x130000, 0x8000, 128),
    (1 << 36, 1 << 36, 0xEFFFFFFF),
]
PIECES = (Piece(0, 0x1000, 0x9EC00), Piece(0x9EC00, 0x100000, 0x20000), Piece(0xBEC00, 0x130000, 0x8000))
SIZE = sum(piece.size for piece in PIECES)
MODERN = ("[mem 0x{:016x}-0x{:016x}]", "usable")
LATEST = ("[mem 0x{:016x}-0x{:016x}]", " System RAM")


def packed(table: list[Entry]) -> bytes:
    return b"".join(struct.pack("<QQI", *entry) for entry in table)


def ram(*parts: bytes, size: int = SIZE) -> BytesSegment:
    """RAM that holds such parts, and nothing else of sense."""
    data = bytearray(random.Random(1).randbytes(size))
    for number, part in enumerate(parts):
        place = 0x1004 + 0x8000 * number
        data[place - 0x40 : place + len(part) + 0x40] = bytes(0x40) + part + bytes(0x40)
    return BytesSegment(0, np.frombuffer(bytes(data), np.uint8))


def lines(table: list[Entry], form: tuple[str, str] = MODERN) -> bytes:
    """As a kernel logs what its firmware told."""
    told = [
        (form[0].format(first, first + size - 1), form[1] if kind == 1 else "reserved") for first, size, kind in table
    ]
    return b"\0junk\0".join(f"BIOS-e820: {part} {kind}".encode() for part, kind in told)


def test_as_a_table_has_it() -> None:
    (found,) = firmware_memory_map.firmware_maps(ram(packed(TABLE)))
    assert (found.pieces, found.hole, found.missing, found.name) == (PIECES, False, 0, None)
    assert found.teller == "e820 tables"


def test_only_as_many_entries_as_there_are() -> None:
    """What lies behind the last entry may be left over from a longer list."""
    stale = [*TABLE[:-1], (0x138000, 0x1000, 1)]
    number = struct.pack("<I", len(stale) - 1)
    assert PIECES in [each.pieces for each in firmware_memory_map.firmware_maps(ram(number + packed(stale)))]
    assert PIECES not in [
        each.pieces for each in firmware_memory_map.firmware_maps(ram(packed(stale))) if not each.missing
    ]


def test_page_0_is_taken_from_what_the_firmware_has() -> None:
    table = [(0, 0x9FC00, 1), *TABLE[2:]]
    found = list(firmware_memory_map.firmware_maps(ram(packed(table))))
    assert found[0].pieces == PIECES
    assert [each.missing for each in found] == [0, 0x1000]


@pytest.mark.parametrize("form", [MODERN, LATEST])
def test_as_the_log_has_it(form: tuple[str, str]) -> None:
    table = [entry for entry in TABLE if entry[2] != 128]
    size = SIZE - PIECES[-1].size
    (found,) = firmware_memory_map.firmware_maps(ram(lines(table, form), size=size))
    assert (found.pieces, found.missing, found.teller) == (PIECES[:2], 0, "the kernel's log lines")
    (found,) = firmware_memory_map.firmware_maps(ram(packed(table), lines(table, form), size=size))
    assert (found.pieces, found.teller) == (PIECES[:2], "e820 tables and the kernel's log lines")


def test_as_memblock_has_it_in_the_log() -> None:
    """As kernels without e820 log their RAM."""
    text = b"  node   0: [mem 0x0000000040000000-0x00000000400fffff]\0" * 2
    text += b"  node   1: [mem 0x0000000080000000-0x000000008001ffff]\n"
    found = next(firmware_memory_map.firmware_maps(ram(text, size=0x120000)))
    assert found.pieces == (Piece(0, 0x40000000, 0x100000), Piece(0x100000, 0x80000000, 0x20000))


@pytest.mark.parametrize("batch", [0x1000, 0x1010, 0x10000])
def test_wherever_the_passes_end(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(firmware_memory_map, "BATCH", batch)
    table = [entry for entry in TABLE if entry[2] != 128]
    found = next(firmware_memory_map.firmware_maps(ram(packed(table), lines(table), size=SIZE - PIECES[-1].size)))
    assert (found.pieces, found.teller) == (PIECES[:2], "e820 tables and the kernel's log lines")


@pytest.mark.parametrize(
    "table",
    [
        TABLE[1:3],  # nothing at 1 MiB
        [*TABLE[1:3], (0x100000, 0x20000, 2)],
        [*TABLE[1:3], (0x100000, 0, 1)],
        [(0x1000, 0x9EC00, 1), (0x9F000, 0xC00, 2), *TABLE[3:]],  # overlapping
        [*TABLE[:4], (0x120000, 0x10000, 0), TABLE[5]],  # of no type
        [*TABLE[:4], TABLE[6], TABLE[5]],  # not in order
        [TABLE[3], TABLE[5]],  # less than there is
    ],
)
def test_what_is_none(table: list[Entry]) -> None:
    found = firmware_memory_map.firmware_maps(ram(packed(table)))
    assert PIECES not in [each.pieces for each in found if not each.missing]


@pytest.mark.parametrize(
    "line",
    [
        b"BIOS-e820: [mem 0x0000000000200000-0x0000000000100000] usable",
        b"BIOS-e820: [mem 0x0000000000100000-0xffffffffffffffff] usable",
        b"BIOS-e820: [mem 0x0000000000100000-0x00000000fffffffff] reserved",
        b"BIOS-e820: [mem 0x100000-",
        b"[mem 0x0000000000100000-0x00000000ffffffff] usable",
    ],
)
def test_lines_that_are_none(line: bytes) -> None:
    assert not list(firmware_memory_map.firmware_maps(ram(line)))


def test_the_memory_that_comes_of_it() -> None:
    bare = ram(packed(TABLE), lines(TABLE))
    found = next(arrangements(Memory("test", "raw", AddressSpace.PHYSICAL, (bare,))))
    assert (found.check.name, found.is_from_memory, found.name) == ("ranges", True, None)
    assert "e820 tables have 0x9ec00 bytes at 0x1000, 0x20000 bytes at 0x100000" in found.check.detail
    for offset in (0, 0x9EBFF, 0x9EC00, SIZE - 1):
        assert found.memory.read(found.address(offset), 1)[0] == bare.data[offset]


@pytest.mark.parametrize(
    "part", [packed(TABLE[3:4]), packed([(0x100000, 1 << 50, 1)]), lines(TABLE[3:4]) + b"\0", b"[mem 0x"]
)
def test_memory_full_of_them_takes_no_time(part: bytes) -> None:
    many = np.tile(np.frombuffer(part, np.uint8), (1 << 24) // len(part))
    begin = time.process_time()
    assert len(list(firmware_memory_map.firmware_maps(BytesSegment(0, many)))) <= MAX_MAPS
    assert time.process_time() - begin < 10


def test_endless_tables_take_no_time() -> None:
    """Each entry begins where the last one ended, and all of them are read from many anchors."""
    entries = np.zeros(1 << 18, firmware_memory_map.ENTRY)
    entries["start"], entries["size"], entries["type"] = np.arange(1 << 18) + 1, 1, 1
    entries["start"][::2] = firmware_memory_map.ANCHOR
    begin = time.process_time()
    assert len(list(firmware_memory_map.firmware_maps(BytesSegment(0, entries.view(np.uint8))))) <= MAX_MAPS
    assert time.process_time() - begin < 10


@pytest.mark.parametrize("size", [0, 1, 3, 4, 19, 20, 21, 40, 41])
def test_hardly_any_memory(size: int) -> None:
    for part in (packed(TABLE[3:5]), lines(TABLE[3:5])):
        list(firmware_memory_map.firmware_maps(BytesSegment(0, np.frombuffer(part[:size], np.uint8))))
        list(firmware_memory_map.firmware_maps(BytesSegment(0, np.frombuffer(part, np.uint8)[:size])))
