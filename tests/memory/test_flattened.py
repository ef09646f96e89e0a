"""Flattened streams: pieces in any order, over each other, cut short; and what is wrong with them in one line."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kallsift.errors import UnmappedError
from kallsift.memory.formats import makedumpfile_flat
from kallsift.memory.reassembled_file import ReassembledFile
from tests.examples import examples
from tests.memory.builders import elf, load, note, notes
from tests.memory.kdump_pages import expected, page, some_pages
from tests.memory.opened import open_bytes, ranges, read_or_refuse, refusal, view_of
from tests.memory.strategies import damaged
from tests.memory.writers import kdump as writer
from tests.memory.writers.kdump import cut

pytestmark = pytest.mark.sampled(12)

KDUMP = writer.kdump(some_pages())
RAM = {0x1000: page(5) * 40, 1 << 32: page(7) * 3}
ELF = elf([notes(note(b"VMCOREINFO", 0, b"OSRELEASE=1\n")), *(load(start, data) for start, data in RAM.items())])


@pytest.mark.parametrize("size", [999, 16384, 1 << 20])
def test_a_kdump_in_pieces(size: int) -> None:
    pieces = cut(KDUMP, size)
    random.Random(1).shuffle(pieces)
    memory = open_bytes(makedumpfile_flat, writer.flattened(pieces))
    assert (memory.container, memory.notes) == ("flattened kdump", ())
    assert ranges(memory) == expected(some_pages())


@pytest.mark.parametrize("size", [999, 16384, 1 << 20])
def test_an_elf_core_in_pieces(size: int) -> None:
    memory = open_bytes(makedumpfile_flat, writer.flattened(reversed(cut(ELF, size))))
    assert memory.container == "flattened ELF core"
    assert memory.hints.vmcoreinfo == b"OSRELEASE=1\n"
    assert ranges(memory) == RAM
    (first, _) = memory.segments
    assert first.read(4000, 5000).tobytes() == RAM[0x1000][4000:5000]


def test_a_header_that_is_written_again_counts() -> None:
    content = writer.flattened([(0, b"\0" * 4096), *cut(ELF, 5000), (0, ELF[:64])])
    assert ranges(open_bytes(makedumpfile_flat, content)) == RAM


def test_a_stream_that_is_cut_short_says_so() -> None:
    content = writer.flattened(cut(ELF, 4096))
    memory = open_bytes(makedumpfile_flat, content[:-5000])
    assert memory.notes[0] == "the flattened stream is cut short"
    assert ranges(memory)[0x1000] == RAM[0x1000]


@given(st.lists(st.tuples(st.integers(0, 60), st.binary(min_size=1, max_size=30)), min_size=1, max_size=12))
def test_later_pieces_win(pieces: list[tuple[int, bytes]]) -> None:
    whole = bytearray(max(offset + len(data) for offset, data in pieces))
    for offset, data in pieces:
        whole[offset : offset + len(data)] = data
    stream = b"".join(data for _, data in pieces)
    sizes = np.array([len(data) for _, data in pieces])
    offsets = np.array([offset for offset, _ in pieces])
    content = ReassembledFile(view_of(stream), offsets, sizes, np.cumsum(sizes) - sizes)
    assert len(content) == len(whole)
    for start in range(0, len(whole), 7):
        assert content[start : start + 20].tobytes() == whole[start : start + 20]
    assert content[:].tobytes() == whole


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (writer.flattened([]), "before its first piece"),
        (writer.flattened([(0, b"hello")]), "neither a kdump nor an ELF core"),
        (writer.flattened([(0, ELF)]).replace(struct.pack(">qq", 1, 1), struct.pack(">qq", 1, 9), 1), "unknown type"),
    ],
)
def test_what_is_wrong_is_told(content: bytes, reason: str) -> None:
    assert reason in refusal(makedumpfile_flat, content)


@pytest.mark.parametrize(
    "content",
    [
        writer.flattened([(0, ELF), (-5, b"x")]),
        writer.flattened([(0, ELF)])[:-16] + struct.pack(">qq", 0, -9),
        writer.flattened([(0, ELF), (1 << 60, b"x")]),
    ],
)
def test_a_piece_that_belongs_nowhere_is_left_out(content: bytes) -> None:
    memory = open_bytes(makedumpfile_flat, content)
    assert ranges(memory) == RAM
    assert "is damaged: it is left out" in " ".join(memory.notes)


@pytest.mark.parametrize("number", range(1, 12))
@pytest.mark.parametrize("place", [0, 1, *range(8, 16)])
def test_a_damaged_header_of_a_piece_costs_nothing_where_one_lacks(number: int, place: int) -> None:
    content = bytearray(writer.flattened(cut(KDUMP, 2000)))
    start = 4096 + number * (16 + 2000)
    content[start + place] ^= 0x80
    if place == 15 and number in (4, 5):
        return  # what follows the shorter piece passes for a header: page descriptors are such small numbers
    memory = open_bytes(makedumpfile_flat, bytes(content))
    assert (ranges(memory), memory.notes) == (expected(some_pages()), ())


def test_two_damaged_headers_cost_their_pieces() -> None:
    content = bytearray(writer.flattened(cut(KDUMP, 1500)))
    for number in (13, 15):
        content[4096 + number * (16 + 1500)] ^= 0x80
    memory = open_bytes(makedumpfile_flat, bytes(content))
    assert sum("is left out" in note for note in memory.notes) == 2
    wrong = right = 0
    for start, data in expected(some_pages()).items():
        found = ranges(memory)[start]
        for low in range(0, len(data), 4096):
            wrong += found[low : low + 4096] != data[low : low + 4096]
            right += found[low : low + 4096] == data[low : low + 4096]
            assert found[low : low + 4096] in (data[low : low + 4096], bytes(4096))
    assert wrong
    assert right
    assert memory.remarks[-1].startswith(f"{wrong} of {wrong + right} pages did not unpack")


def test_billions_of_pieces_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(makedumpfile_flat, "PIECE_LIMIT", 100)
    assert "more than 100 pieces" in refusal(makedumpfile_flat, writer.flattened((0, b"x") for _ in range(101)))


SMALL = writer.flattened(cut(writer.kdump({number: page(number) for number in range(9)}), 3000))


@settings(derandomize=True, max_examples=examples(100))
@given(st.one_of(damaged(SMALL), damaged(writer.flattened(cut(ELF, 4000)))))
def test_damaged_files_are_read_or_refused(content: bytes) -> None:
    read_or_refuse(makedumpfile_flat, content)


def test_pages_of_a_core_that_are_lost_are_holes() -> None:
    content = bytearray(writer.flattened(cut(ELF, 5000)))
    for number in (3, 9):
        content[4096 + number * (16 + 5000)] ^= 0x80
    memory = open_bytes(makedumpfile_flat, bytes(content))
    found = ranges(memory)[0x1000]
    lost = [place for place in range(0, len(found), 4096) if found[place : place + 4096] != RAM[0x1000][place:][:4096]]
    assert memory.remarks[-1] == f"{len(lost)} of 43 pages are not in the stream; they are read as holes"
    with pytest.raises(UnmappedError):
        memory.read(0x1000 + lost[0], 8)
    assert memory.read(0x1000, 4096).tobytes() == RAM[0x1000][:4096]
