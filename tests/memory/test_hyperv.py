"""Hyper-V's saved states: what Microsoft's description asks for, read by dissect too, and what is wrong in one line."""

from __future__ import annotations

import io
import random
import re
import struct
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from dissect.hypervisor.descriptor.hyperv import HyperVFile
from dissect.util.compression import lzxpress
from hypothesis import given, settings
from hypothesis import strategies as st

from kallsift.errors import SourceError
from kallsift.memory.formats.hyperv import key_value_store
from kallsift.memory.formats.hyperv import saved_state as hyperv
from kallsift.memory.formats.hyperv.ram_blocks import BLOCK, PAGES, codec, unpacked
from kallsift.memory.memory import AddressSpace
from tests.examples import examples
from tests.memory.opened import open_bytes, ranges, read_or_refuse, refusal, view_of
from tests.memory.strategies import damaged
from tests.memory.writers.hyperv import (
    arm64,
    chunk,
    header,
    packed_block,
    packed_page,
    partition,
    run,
    saved_state,
    store,
    x86,
)

PAGE = 4096
WORDS = b"".join(struct.pack("<QQ", number, 7) for number in range(BLOCK // 16))
NOISE = random.Random(1).randbytes(PAGE)
RAM = WORDS + bytes(BLOCK) + WORDS[: BLOCK // 2] + NOISE + b"8 bytes " * 512 * 3 + WORDS[: 124 * PAGE] + WORDS
RUNS = [(3 * PAGES, 0, 0), (PAGES, 3 * PAGES, 1 << 20)]
"""Three MiB at 0, one at 4 GiB."""
PLACED = {0: RAM[: 3 * BLOCK], 1 << 32: RAM[3 * BLOCK :]}
REGISTERS = {"rip": 1 << 63, "cr0": 0x80050033, "cr3": 0x1000, "cr4": 0x20, "gs_base": 5, "idt_base": 6, "gdt_base": 7}


@pytest.mark.parametrize("packed", [True, False])
def test_blocks_are_where_the_runs_of_pages_belong(packed: bool) -> None:
    assert len(RAM) == 4 * BLOCK
    content = saved_state(RAM, RUNS, partition([x86(0, REGISTERS), x86(2, {"cr3": 0x2000})]), packed)
    memory = open_bytes(hyperv, content)
    assert (memory.container, memory.space, memory.notes) == ("Hyper-V saved state", AddressSpace.PHYSICAL, ())
    assert ranges(memory) == PLACED
    assert [(cpu.number, cpu.registers["cr3"]) for cpu in memory.hints.cpus] == [(0, 0x1000), (2, 0x2000)]
    assert memory.hints.cpus[0].registers == REGISTERS


def test_dissect_reads_what_the_writer_writes() -> None:
    arrays = {
        f"a folder/inner{number % 7}/value {number}": bytes([number % 251]) * (9 * number) for number in range(600)
    }
    theirs: Any = HyperVFile(io.BytesIO(store(arrays, per_table=50)))
    ours = key_value_store.storage("test", view := view_of(store(arrays, per_table=50))).arrays
    assert {path: view[value.offset :][: value.size].tobytes() for path, value in ours.items()} == arrays
    for path, value in arrays.items():
        folder, inner, name = path.split("/")
        assert theirs[folder][inner][name].value == value


@pytest.mark.parametrize(
    "data", [WORDS[:PAGE], NOISE, b"a" * PAGE, b"abc" * 1365 + b"a", b"x" * 30 + NOISE[:4000] + b"y" * 66, NOISE[:9]]
)
def test_a_page_unpacks_to_what_dissect_says(data: bytes) -> None:
    packed = packed_page(data)
    assert lzxpress.decompress(packed)[: len(data)] == data
    assert codec()(packed, len(data)) == data


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"ab" * 400, bytes(900), NOISE[:50]])), max_size=40))
@settings(max_examples=examples(60))
def test_any_page(parts: list[bytes]) -> None:
    data = b"".join(parts)[:PAGE].ljust(PAGE, b"\x55")
    packed = packed_page(data)
    assert lzxpress.decompress(packed)[:PAGE] == data
    assert codec()(packed, PAGE) == data


def test_a_piece_of_a_page_and_pages_that_repeat() -> None:
    small = packed_page(b"ab" * 300)
    data = struct.pack("<III", 0xFFFFFFFC, 600, len(small)) + small
    data += struct.pack("<III", 0xFFFFFFFC, 3496, 3496) + bytes(3496)
    data += struct.pack("<I8sI", 0xFFFFFFFD, b"12345678", 3) + struct.pack("<I8s", 0xFFFFFFFE, b"87654321")
    expected = b"ab" * 300 + bytes(3496) + b"12345678" * 1536 + b"87654321" * 512
    block, lost = unpacked(view_of(data), 5 * PAGE, codec())
    assert (block.tobytes(), lost) == (expected, [])


GOOD, BAD = (
    struct.pack("<I8s", 0xFFFFFFFE, b"87654321"),
    struct.pack("<I", 8) + bytes([0, 0, 0, 0x80, 0xFF, 0xFF, 0, 0]),
)


@pytest.mark.parametrize(
    ("data", "lost"),
    [
        (b"", range(2 * PAGE)),
        (struct.pack("<I", 0xFFFFFFFF), range(2 * PAGE)),
        (struct.pack("<I", 100) + bytes(50), range(2 * PAGE)),
        (GOOD + struct.pack("<I", 5000) + bytes(5000), range(PAGE, 2 * PAGE)),
        (GOOD + struct.pack("<III", 0xFFFFFFFC, 5000, 5000) + bytes(5000), range(PAGE, 2 * PAGE)),
        (struct.pack("<I", 0) + bytes(PAGE), range(2 * PAGE)),
        (struct.pack("<I8sI", 0xFFFFFFFD, bytes(8), 0xFFFFFFFF), range(2 * PAGE)),
        (BAD + GOOD, range(PAGE)),
    ],
)
def test_what_does_not_unpack_is_lost_alone(data: bytes, lost: range) -> None:
    block, found = unpacked(view_of(data), 2 * PAGE, codec())
    assert found == [lost]
    expected = np.frombuffer(b"87654321" * (2 * PAGE // 8), np.uint8).copy()
    expected[lost.start : lost.stop] = 0
    assert (block == expected).all()


def test_blocks_that_are_missing_are_not_mapped() -> None:
    arrays = {"savedstate/RamMemoryBlock0": run(4 * PAGES, 0, 16)}
    arrays |= {f"savedstate/RamBlock{number}": WORDS for number in (0, 1, 3)}
    assert ranges(open_bytes(hyperv, store(arrays))) == {16 * PAGE: WORDS * 2, 16 * PAGE + 3 * BLOCK: WORDS}


def test_runs_need_not_begin_with_a_block() -> None:
    arrays = {"savedstate/RamMemoryBlock0": run(160, 0, 0), "savedstate/RamMemoryBlock1": run(352, 160, 0x1000)}
    arrays |= {f"savedstate/RamBlock{number}": WORDS for number in range(2)}
    memory = open_bytes(hyperv, store(arrays))
    assert ranges(memory) == {0: WORDS[: 160 * PAGE], 0x1000 * PAGE: (WORDS * 2)[160 * PAGE :]}


def test_old_states_have_no_folder() -> None:
    arrays = {"RamMemoryBlock0": run(PAGES, 0, 0), "RamBlock0": WORDS}
    assert ranges(open_bytes(hyperv, store(arrays))) == {0: WORDS}


def test_processors_of_arm64() -> None:
    memory = open_bytes(hyperv, saved_state(RAM, RUNS, partition([arm64(1, 2, 3, 4)], arm=True)))
    assert [(cpu.number, cpu.registers) for cpu in memory.hints.cpus] == [(1, {"ttbr0": 2, "ttbr1": 3, "vbar": 4})]


def test_a_higher_trust_level_is_not_of_the_guest() -> None:
    head, *registers = (x86(0, {"cr3": 0x1000})[:32], x86(0, {"cr3": 0x1000})[32:], x86(0, {"cr3": 0x2000})[32:])
    levels = [chunk(0x3001A000, struct.pack("<B15x", level)) for level in (0, 2)]
    both = head + levels[0] + registers[0] + levels[1] + registers[1]
    [cpu] = open_bytes(hyperv, saved_state(RAM, RUNS, partition([both]))).hints.cpus
    assert cpu.registers["cr3"] == 0x1000


@pytest.mark.parametrize("record", [b"", bytes(24), bytes(60), partition([])[:-16], b"\xff" * 5000])
def test_a_record_that_is_not_known_tells_nothing(record: bytes) -> None:
    assert open_bytes(hyperv, saved_state(RAM, RUNS, record)).hints.cpus == ()


def test_the_newer_header_that_is_whole_counts() -> None:
    content = saved_state(RAM, RUNS, packed=False)
    for broken in (slice(0, PAGE), slice(PAGE, 2 * PAGE)):
        half = bytearray(content)
        half[broken] = content[:8] + bytes(PAGE - 8)
        assert ranges(open_bytes(hyperv, bytes(half))) == PLACED
    assert "both headers" in refusal(hyperv, content[:8] + bytes(PAGE - 8) + content[:8] + bytes(PAGE - 8))
    for older, newer in pairwise((0xFFFE, 0xFFFF, 0, 1)):
        for headers in (header(older, 77) + header(newer, 99), header(newer, 99) + header(older, 77)):
            found = key_value_store._header("test", view_of(headers))
            assert found["log"] == 99


def test_a_file_that_was_not_closed_says_so() -> None:
    arrays = {"savedstate/RamMemoryBlock0": run(PAGES, 0, 0), "savedstate/RamBlock0": WORDS}
    [note] = open_bytes(hyperv, store(arrays, unmade=3)).notes
    assert "3 changes exist only in its log" in note


def test_a_file_that_is_cut_short_says_so() -> None:
    content = saved_state(RAM, RUNS, packed=False)
    memory = open_bytes(hyperv, content[: len(content) - BLOCK])
    assert len(memory.notes) == 1
    assert ranges(memory) == {0: RAM[: 3 * BLOCK]}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"configuration/x": b"1"}, "holds no memory; give the .vmrs file"),
        ({"savedstate/RamBlock0": WORDS}, "holds no memory"),
        ({"savedstate/RamBlock0": WORDS, "savedstate/RamMemoryBlock0": bytes(20)}, "RamMemoryBlock0 of .* cut short"),
        (
            {"savedstate/RamBlock0": WORDS, "savedstate/RamMemoryBlock0": bytes(48)},
            "its pages are left out",
        ),
        (
            {"savedstate/RamBlock0": WORDS, "savedstate/RamMemoryBlock0": run(9, 9, 0)},
            "damaged: its pages are left out",
        ),
        (
            {"savedstate/RamBlock0": WORDS, "savedstate/RamMemoryBlock0": run(1 << 41, 0, 0)},
            "damaged: its pages are left out",
        ),
        ({"savedstate/RamBlock9": WORDS, "savedstate/RamMemoryBlock0": run(PAGES, 0, 0)}, "none of the saved memory"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arrays: dict[str, bytes], message: str) -> None:
    assert re.search(message, refusal(hyperv, store(arrays)))


@pytest.mark.parametrize(
    "broken", [b"", bytes(20), bytes(48), run(9, 9, 0), run(1 << 41, 100, 0), run(100, 100, 50), run(20, 100, 0)]
)
def test_a_run_that_cannot_be_costs_its_pages(broken: bytes) -> None:
    arrays = {
        "savedstate/RamBlock0": WORDS,
        "savedstate/RamMemoryBlock0": run(100, 0, 0),
        "savedstate/RamMemoryBlock1": broken,
        "savedstate/RamMemoryBlock2": run(56, 200, 1 << 20),
    }
    memory = open_bytes(hyperv, store(arrays))
    assert ranges(memory) == {0: WORDS[: 100 * PAGE], 1 << 32: WORDS[200 * PAGE :]}
    assert len(memory.notes) == 1
    assert memory.notes[0].startswith("RamMemoryBlock1 of the Hyper-V file")


def test_a_damaged_table_costs_what_it_leads_to() -> None:
    arrays = {"savedstate/RamMemoryBlock0": run(4 * PAGES, 0, 0)}
    arrays |= {f"savedstate/RamBlock{number}": WORDS for number in range(3)}
    # another table of keys begins between them
    arrays |= {f"configuration/{number}": bytes(40) for number in range(100)} | {"savedstate/RamBlock3": WORDS}
    content = bytearray(store(arrays, per_table=2))
    sizes = []
    for table in (place for place in range(0x3000, len(content), PAGE) if content[place : place + 2] == b"\2\0"):
        damaged = bytearray(content)
        damaged[table] ^= 1
        try:
            memory = open_bytes(hyperv, bytes(damaged))
        except SourceError:
            continue  # what holds the folder, or says where the RAM belongs
        assert memory.notes == ("1 tables of the Hyper-V file are damaged: the keys in them are left out",)
        assert all(data == WORDS * (len(data) // len(WORDS)) for data in ranges(memory).values())
        sizes.append(memory.size // BLOCK)
    assert sizes


def test_hostile_tables() -> None:
    content = saved_state(RAM, RUNS, packed=False)
    many = bytearray(content)
    struct.pack_into("<I", many, 0x2004, 0xFFFFFFFF)
    assert "objects, more than" in refusal(hyperv, bytes(many))
    loop = bytearray(content)
    struct.pack_into("<BIQIB", loop, 0x2008 + 18 * 200, 1, 0, 0x2000, PAGE, 1)
    assert ranges(open_bytes(hyperv, bytes(loop))) == PLACED
    huge = bytearray(content)
    struct.pack_into("<I", huge, 0x2008 + 13, 0xFFFFFFFF)
    assert "holds no memory" in refusal(hyperv, bytes(huge))
    struct.pack_into("<QI", huge, 0x2008 + 5, 0, len(huge))
    struct.pack_into("<BIQI", huge, 0x2008 + 18, 2, 0, 0, len(huge))
    assert "key tables claim to be larger" in refusal(hyperv, bytes(huge))


def test_a_key_that_is_its_own_folder_is_in_none() -> None:
    content = bytearray(SMALL)
    (table,) = struct.unpack_from("<Q", content, 0x2008 + 5)
    place = content.find(b"RamBlock0\0") - 21
    struct.pack_into("<HI", content, place + 6, 1, place - table)
    assert "holds no memory" in refusal(hyperv, bytes(content))


SMALL = store({"savedstate/RamMemoryBlock0": run(PAGES, 0, 0), "savedstate/RamBlock0": packed_block(WORDS)})


@settings(max_examples=examples(150))
@given(damaged(SMALL))
def test_damaged_files(content: bytes) -> None:
    read_or_refuse(hyperv, content)


def test_random_tables_of_keys() -> None:
    chance = np.random.default_rng(3)
    for _ in range(50):
        content = bytearray(SMALL)
        for place in chance.integers(0x2000, 0x8000, 40).tolist():
            content[place] = int(chance.integers(256))
        read_or_refuse(hyperv, bytes(content))
