"""A damaged byte in what is packed costs its own page: all others are read, and it is a hole that is told once."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from kallsift.errors import UnmappedError
from kallsift.memory.formats import avml
from kallsift.memory.formats.hyperv import saved_state
from kallsift.memory.formats.kdump import reader as kdump
from kallsift.memory.formats.qemu import migration_stream
from kallsift.memory.formats.registry import Container
from kallsift.memory.unreadable import UNREADABLE, UnreadablePages
from tests.memory.opened import open_bytes
from tests.memory.writers import avml as avml_writer
from tests.memory.writers import hyperv as hyperv_writer
from tests.memory.writers import kdump as kdump_writer
from tests.memory.writers import qemu

PAGE = 4096
WORDS = b"".join(struct.pack("<II", number, number * 2654435761 % 2**32) for number in range(1 << 15))
"""64 pages, none like another, which shrink a little."""
NOISE = np.random.default_rng(7).integers(0, 256, 16 * PAGE, np.uint8).tobytes()
RAM = WORDS + NOISE + WORDS[::-1]


def _pages(data: bytes) -> list[bytes]:
    return [data[place : place + PAGE] for place in range(0, len(data), PAGE)]


def _kdump() -> bytes:
    return kdump_writer.kdump(dict(enumerate(_pages(RAM))), kdump_writer.Kdump(packing="zlib"))


def _qemu() -> bytes:
    pages = [qemu.Page("mach-virt.ram", number, page, "compressed") for number, page in enumerate(_pages(RAM))]
    return qemu.stream({"mach-virt.ram": len(RAM)}, [pages], machine="virt-7.2")


def _hyperv() -> bytes:
    return hyperv_writer.saved_state(RAM.ljust(hyperv_writer.BLOCK, b"\0"), [(256, 0, 0)])


PACKED: dict[str, tuple[Container, bytes, int]] = {
    "AVML": (avml, avml_writer.avml([(0, RAM)]), 1 << 16),
    "kdump": (kdump, _kdump(), PAGE),
    "QEMU": (migration_stream, _qemu(), PAGE),
}
"""Formats with a checksum for what is lost at once, a file of each, and how much that is."""


@pytest.mark.parametrize("form", PACKED)
def test_a_damaged_byte_costs_its_page(form: str) -> None:
    module, content, unit = PACKED[form]
    (whole,) = open_bytes(module, content).segments
    # in the middle of what is packed, away from headers
    data = bytearray(content)
    data[len(data) * 3 // 4] ^= 0x10
    memory = open_bytes(module, bytes(data))
    assert not memory.remarks
    expected, found = whole.read(), memory.segments[0].read()
    units = np.flatnonzero((expected != found).reshape(-1, unit).any(axis=1))
    assert len(units) == 1
    low = int(units[0]) * unit
    assert not found[low : low + unit].any()
    total = -(-len(RAM) // unit)
    assert memory.remarks == (f"1 of {total} pages did not unpack; they are read as holes",)
    assert memory.remarks == memory.moved(1 << 20).remarks

    # who asks by address is told that there is nothing
    for moved in (memory, memory.moved(1 << 32), memory.moved(-PAGE)):
        start = moved.segments[0].end - len(RAM) + low
        for address in (start, start + unit - 8, start - 4):
            with pytest.raises(UnmappedError):
                moved.read(address, 8)
        assert moved.read(start - 8, 8).tobytes() == expected[low - 8 : low].tobytes()
        places = np.array([start - 8, start - 4, start, start + unit - 4, start + unit], np.uint64)
        values, held = moved.words(places, np.dtype("<u8"))
        assert held.tolist() == [True, False, False, False, True]
        assert values[1:4].tolist() == [0, 0, 0]


def test_each_page_of_a_kdump_stands_alone() -> None:
    module, content, _ = PACKED["kdump"]
    data = bytearray(content)
    chance = np.random.default_rng(1)
    for place in chance.integers(len(data) // 4, len(data), 16).tolist():
        data[place] ^= 1 << (place % 8)
    memory = open_bytes(module, bytes(data))
    found = _pages(memory.segments[0].read().tobytes())
    wrong = [(page, true) for page, true in zip(found, _pages(RAM), strict=True) if page != true]
    # those of noise are stored as they are: nothing tells that one is damaged
    assert 8 <= sum(page == bytes(PAGE) for page, _ in wrong) <= 16
    assert all(page == bytes(PAGE) or true in _pages(NOISE) for page, true in wrong)


def test_a_page_of_hyper_v_is_lost_alone() -> None:
    content = _hyperv()
    packed = hyperv_writer.packed_page(WORDS[PAGE : 2 * PAGE])
    damaged = content.replace(packed, b"\0\0\0\x80\xff\xff\0\0".ljust(len(packed), b"\0"), 1)
    memory = open_bytes(saved_state, damaged)
    found = memory.segments[0].read().tobytes()
    assert found[:PAGE] + found[2 * PAGE : len(RAM)] == RAM[:PAGE] + RAM[2 * PAGE :]
    assert found[PAGE : 2 * PAGE] == bytes(PAGE)
    assert memory.remarks == ("1 of 256 pages did not unpack; they are read as holes",)


def test_what_is_lost_is_counted_once() -> None:
    pages = UnreadablePages(problem=UNREADABLE)
    assert not pages
    assert pages.remark(1 << 20) is None
    for _ in range(2):
        pages.add(3, 5 * PAGE, 6 * PAGE)
        pages.add(3, 100 * PAGE - 1, 100 * PAGE + 1)
    pages.add(4, 0, 1)
    assert pages
    assert pages.remark(1 << 20) == "4 of 256 pages could not be read; they are read as holes"
    # a page of the last one is there in part
    assert pages.remark(1) == "4 of 4 pages could not be read; they are read as holes"
    offsets = np.array([0, 5, 6, 99, 100, 101, 1 << 40]) * PAGE
    assert pages.mask(3, offsets, 1).tolist() == [False, True, False, True, True, False, False]
    assert pages.mask(3, offsets, PAGE + 1).tolist() == [False, True, False, True, True, False, False]
    assert pages.mask(3, offsets, 6 * PAGE).tolist() == [True, True, False, True, True, False, False]
    assert pages.mask(5, offsets, 1).tolist() == [False] * 7
