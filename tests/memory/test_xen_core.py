"""Xen's dumps: pages at their places, registers, other kinds of guests, and what is wrong in one line."""

from __future__ import annotations

import struct
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kallsift.memory.formats import proc_kcore, xen_core
from tests.examples import examples
from tests.memory.builders import elf, load
from tests.memory.opened import open_bytes, ranges, read_or_refuse, refusal
from tests.memory.strategies import damaged
from tests.memory.writers import xen

PAGE = xen.PAGE


def page(number: int) -> bytes:
    return struct.pack("<Q", number) * 512


PROCESSORS = [xen.context(0xFFFFFFFF81000000 + each, {0: 0x80050033, 3: 0x1AA000 + each, 4: 6}) for each in range(2)]
FRAMES = [1, 2, 3, 0x100, 0x101, 0x100000]
CORE = xen.core([(number, page(number)) for number in FRAMES], PROCESSORS)
PLACED = {
    0x1000: page(1) + page(2) + page(3),
    0x100000: page(0x100) + page(0x101),
    1 << 32: page(0x100000),
}


def test_pages_and_registers() -> None:
    memory = open_bytes(xen_core, CORE)
    assert memory.container == "Xen core"
    assert ranges(memory) == PLACED
    assert memory.notes == ()
    assert [cpu.registers for cpu in memory.hints.cpus] == [
        {"rip": 0xFFFFFFFF81000000 + each, "cr0": 0x80050033, "cr3": 0x1AA000 + each, "cr4": 6} for each in range(2)
    ]


def test_in_any_order_with_pages_that_are_gone_and_some_twice() -> None:
    order = [0x101, xen.NOWHERE, 3, 2, 1, 0x100000, 2, 0x100]
    content = xen.core((number, page(number) if place != 6 else page(99)) for place, number in enumerate(order))
    memory = open_bytes(xen_core, content)
    joined = {
        low: b"".join(memory.read(low + at, PAGE).tobytes() for at in range(0, len(all_), PAGE))
        for low, all_ in PLACED.items()
    }
    assert joined == PLACED
    assert memory.notes == ("1 pages occur twice: the first of each was kept",)


def test_a_paravirtual_guest_is_told_and_its_registers_are_not_believed() -> None:
    content = xen.head([5, 6], PROCESSORS, host_frames=[900, 77]) + page(5) + page(6)
    memory = open_bytes(xen_core, content)
    assert ranges(memory) == {0x5000: page(5) + page(6)}
    assert "paravirtual" in memory.notes[0]
    assert memory.hints.cpus == ()


def test_larger_pages() -> None:
    memory = open_bytes(xen_core, xen.head([7], page=16384) + page(1) * 4)
    assert ranges(memory) == {7 * 16384: page(1) * 4}


def test_registers_of_other_machines_are_left_out() -> None:
    memory = open_bytes(xen_core, xen.head([7], PROCESSORS, machine=3) + page(1))
    assert memory.hints.cpus == ()


def test_cut_short() -> None:
    memory = open_bytes(xen_core, CORE[: -2 * PAGE - 1])
    assert ranges(memory) == {0x1000: PLACED[0x1000]}
    assert memory.notes == (f"the memory is cut short: {3 * PAGE} of {6 * PAGE} bytes present",)


def test_other_cores_are_not_recognised() -> None:
    assert not xen_core.probe(elf([load(0, b"abcd")]))
    assert not xen_core.probe(elf([]))
    assert not xen_core.probe(CORE[:60])
    assert not proc_kcore.probe(CORE)


def changed(place: int, value: bytes) -> bytes:
    return CORE[:place] + value + CORE[place + len(value) :]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (CORE[:300], "section header table at file offset 0x40 runs past the end"),
        (changed(60, b"\xff\xff"), "section headers"),
        (changed(62, b"\xff\x00"), "section headers"),
        (CORE.replace(b".xen_pages", b".xxx_pages"), "has neither memory segments"),
        (CORE.replace(b".xen_pfn", b".xxx_pfn"), "has neither memory segments"),
        (CORE[: -6 * PAGE], "ends before any memory"),
        (changed(CORE.index(struct.pack("<Q", len(CORE) - 6 * PAGE)), b"\xff" * 8), "ends before any memory"),
        (xen.head([7], page=12345) + bytes(12345), "pages of 12345 bytes"),
        (xen.core([(1 << 60, page(1))]), "no machine has"),
    ],
)
def test_what_is_wrong_is_told(content: bytes, reason: str) -> None:
    assert reason in refusal(xen_core, content)


def test_pages_all_over_the_place_take_no_time() -> None:
    frames = (np.arange(1 << 18, dtype=np.uint64) * 2 + 1).tolist()
    content = xen.head([*frames, 1 << 30]) + bytes(PAGE * len(frames) + PAGE)
    begin = time.process_time()
    assert "more than" in refusal(xen_core, content)
    assert time.process_time() - begin < 10


@settings(derandomize=True, max_examples=examples(200))
@given(damaged(CORE) | st.just(CORE))
def test_damaged_files_are_read_or_refused(content: bytes) -> None:
    read_or_refuse(xen_core, content)
