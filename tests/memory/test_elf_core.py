"""ELF cores: read back identical, agreeing with pyelftools, and damage or the wrong kind of file named."""

from __future__ import annotations

import io
import struct
import time
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment
from hypothesis import given
from hypothesis import strategies as st

from kallsift.errors import SourceError, UnmappedError
from kallsift.memory import run_budget
from kallsift.memory.formats import elf_core, elf_headers, elf_notes
from kallsift.memory.formats.registry import open_mapped
from kallsift.memory.memory import Memory
from kallsift.memory.remarks import MAX_REMARKS
from tests.memory.builders import Bits, ByteOrder, Program, Range, elf, load, note
from tests.memory.builders import notes as note_program
from tests.memory.strategies import damaged, ranges

ALL_BITS: list[Bits] = [32, 64]
ALL_ORDERS: list[ByteOrder] = ["<", ">"]


def read(content: bytes) -> Memory:
    assert elf_core.probe(content[:4096])
    return elf_core.open("dump", np.frombuffer(content, np.uint8), lambda: None)


def refusal(content: bytes) -> str:
    with pytest.raises(SourceError) as caught:
        read(content)
    assert str(caught.value).isprintable()
    return str(caught.value)


def content_of(memory: Memory) -> list[Range]:
    return [(segment.start, segment.read().tobytes()) for segment in memory.segments]


def joined(content: list[Range]) -> list[Range]:
    """Ranges with those made one that touch."""
    result: list[Range] = []
    for start, data in sorted(content):
        if result and result[-1][0] + len(result[-1][1]) == start:
            result[-1] = (result[-1][0], result[-1][1] + data)
        else:
            result.append((start, data))
    return result


@given(ranges(highest=2**32), st.sampled_from(ALL_BITS), st.sampled_from(ALL_ORDERS), st.booleans())
def test_reads_back(expected: list[Range], bits: Bits, order: ByteOrder, extended: bool) -> None:
    programs = [note_program(note(b"X", 1, b"y", order)), *(load(start, data) for start, data in expected)]
    memory = read(elf(programs, bits=bits, order=order, extended_count=extended))
    assert content_of(memory) == joined(expected)
    assert memory.notes == ()
    for (start, data), (following, _) in pairwise(joined(expected)):
        assert memory.read(start, len(data)).tobytes() == data
        with pytest.raises(UnmappedError):
            memory.read(start, following - start)


@given(ranges(touching=False), st.randoms())
def test_order_in_the_file_does_not_matter(expected: list[Range], random: Random) -> None:
    shuffled = list(expected)
    random.shuffle(shuffled)
    assert content_of(read(elf([load(start, data) for start, data in shuffled]))) == sorted(expected)


@given(ranges(highest=2**32, touching=False), st.sampled_from(ALL_BITS), st.sampled_from(ALL_ORDERS), st.booleans())
def test_agrees_with_pyelftools(content: list[Range], bits: Bits, order: ByteOrder, extended: bool) -> None:
    programs = [
        note_program(note(b"VMCOREINFO", 0, b"OSRELEASE=1\n", order), note(b"CORE", 1, b"abc", order)),
        *(load(start, data) for start, data in content),
    ]
    file = elf(programs, bits=bits, order=order, extended_count=extended)
    theirs = ELFFile(io.BytesIO(file))
    if not extended:  # pyelftools looks for a section table where there is only the first header of one
        assert theirs.num_segments() == len(programs)
    loads = [theirs._make_segment(theirs._get_segment_header(place)) for place in range(1, len(programs))]
    assert content_of(read(file)) == [(one["p_paddr"], one.data()) for one in loads]
    their_notes = theirs._make_segment(theirs._get_segment_header(0))
    assert isinstance(their_notes, NoteSegment)
    ours, whole = elf_notes.parse(programs[0].data, order)
    assert whole
    assert [(one.name, one.data) for one in ours] == [
        (one["n_name"].encode(), one["n_descdata"]) for one in their_notes.iter_notes()
    ]


def test_data_are_views() -> None:
    content = np.frombuffer(elf([load(0, b"abcd")]), np.uint8)
    memory = elf_core.open("dump", content, lambda: None)
    assert np.shares_memory(memory.segments[0].read(), content)


def test_what_only_memory_has_stays_a_gap() -> None:
    memory = read(elf([Program(1, b"abcd", 0x1000, 0x1000, memory_size=0x2000), load(0x8000, b"x")]))
    assert content_of(memory) == [(0x1000, b"abcd"), (0x8000, b"x")]
    assert memory.notes == ()
    with pytest.raises(UnmappedError):
        memory.read(0x1000, 5)


def test_the_last_addresses_of_all() -> None:
    assert read(elf([load(2**64 - 4, b"last")])).read(2**64 - 4, 4).tobytes() == b"last"
    assert read(elf([load(2**32 - 4, b"last")], bits=32)).read(2**32 - 4, 4).tobytes() == b"last"
    assert "past the end of all addresses" in refusal(elf([load(2**64 - 3, b"last")]))
    assert "past the end of all addresses" in refusal(elf([load(2**32 - 3, b"last")], bits=32))
    memory = read(elf([load(0, b"first"), load(2**64 - 3, b"last"), load(16, b"second")]))
    assert content_of(memory) == [(0, b"first"), (16, b"second")]
    (remark,) = memory.notes
    assert remark == "range 0xfffffffffffffffd-0x10000000000000000 runs past the end of all addresses, and is left out"


def test_ranges_that_overlap_are_clipped_and_the_first_wins() -> None:
    memory = read(elf([load(0x10, b"AAAA"), load(0x18, b"BBBB"), load(0x0E, b"cccccccccccccccc"), load(0x11, b"dd")]))
    assert content_of(memory) == [
        (0x0E, b"cc"),
        (0x10, b"AAAA"),
        (0x14, b"cccc"),
        (0x18, b"BBBB"),
        (0x1C, b"cc"),
    ]
    assert memory.notes == (
        "range 0xe-0x1d repeats 8 bytes of ranges before it: those were kept",
        "range 0x11-0x12 repeats 2 bytes of ranges before it: those were kept",
    )


def test_the_same_bytes_named_again_are_dropped_without_a_word() -> None:
    first = load(0x1000, b"abcd", virtual=0x1000)
    offset = 64 + 2 * 56
    again = Program(1, b"", 0x1000, 2**63, file_size=4, offset=offset)
    memory = read(elf([first, again]))
    assert content_of(memory) == [(0x1000, b"abcd")]
    assert memory.notes == ()


def test_a_range_that_shares_bytes_costs_no_other_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_budget, "RUN_COST", 1 << 40)
    own = [load(number * 0x1000, bytes([number]) * 16) for number in range(1, 40)]
    shared = Program(1, b"", 0x100000, 0, file_size=8, offset=64 + 40 * 56)
    memory = read(elf([shared, *own]))
    # the range that comes first has the bytes, and the one that begins with them is left out
    assert [segment.start for segment in memory.segments] == [*(0x1000 * number for number in range(2, 40)), 0x100000]
    assert "left out: 1 ranges of the same bytes" in memory.notes[0]


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 20)), min_size=1, max_size=12))
def test_any_overlap_gives_the_first_writer_of_each_byte(places: list[tuple[int, int]]) -> None:
    expected: dict[int, int] = {}
    programs = []
    for number, (start, size) in enumerate(places):
        programs.append(load(start, bytes([number]) * size))
        for address in range(start, start + size):
            expected.setdefault(address, number)
    memory = read(elf(programs))
    found = {
        segment.start + step: int(value) for segment in memory.segments for step, value in enumerate(segment.read())
    }
    assert found == expected


SMALL = elf([note_program(note(b"X", 7, b"abcdef")), load(0x1000, b"first range"), load(0x9000, b"second")])


@pytest.mark.sampled(30)
@pytest.mark.parametrize("length", range(4, len(SMALL)))
def test_truncated_everywhere(length: int) -> None:
    headers = 64 + 3 * 56
    first = headers + 12 + 4 + 8
    second = first + 11
    cut = SMALL[:length]
    if length < headers:
        assert "past the end of the file" in refusal(cut) or "broken ELF header" in refusal(cut)
        return
    if length <= first:
        assert "holds no memory" in refusal(cut)
        return
    memory = read(cut)
    kept = [(0x1000, cut[first:second]), (0x9000, cut[second:])]
    assert content_of(memory) == [(start, data) for start, data in kept if data]
    remarks = [f"range 0x9000-0x9005 is cut short: {max(0, length - second)} of 6 bytes present"]
    if length < second:
        remarks.insert(0, f"range 0x1000-0x100a is cut short: {length - first} of 11 bytes present")
    assert memory.notes == tuple(remarks)


def test_damaged_notes_are_remarked_on_and_nothing_more() -> None:
    broken = note(b"CORE", 1, b"whole") + struct.pack("<III", 5, 2**32 - 1, 1) + b"CORE\0\0\0\0"
    memory = read(elf([note_program(broken), load(0x1000, b"abcd")]))
    assert memory.notes == ("note segment at file offset 0xb0 is damaged: 1 notes could be read",)
    cut = Program(4, file_size=2**40, offset=176)
    assert "note segment at file offset 0xb0 is cut short" in read(elf([cut, load(0x1000, b"abcd")])).notes[0]


def test_remarks_are_bounded() -> None:
    memory = read(elf([load(0, bytes(1000)), *(load(place, b"ab") for place in range(900))]))
    assert len(memory.notes) == MAX_REMARKS + 1
    assert memory.notes[-1] == "and 884 more remarks of this kind"


def information(fields: bytes, name: bytes) -> bytes:
    """NT_PRPSINFO of a 64-bit machine or, with fewer fields, of a 32-bit one."""
    return note(b"CORE", elf_notes.NT_PRPSINFO, fields + name.ljust(16, b"\0") + bytes(80))


@pytest.mark.parametrize("kind", [elf_notes.NT_AUXV, elf_notes.NT_SIGINFO, elf_notes.NT_FILE])
@pytest.mark.parametrize("fields", [28, 32, 40])
def test_core_of_a_program_by_its_notes(kind: int, fields: int) -> None:
    own = note_program(information(bytes(fields), b"sl\x1beep"), note(b"CORE", kind, bytes(8)))
    text = refusal(elf([own, Program(1, b"abcd", 0, 0x400000)]))
    assert r"is the core of a user program (sl\x1beep), not of a machine" in text


def test_core_of_a_program_by_its_addresses() -> None:
    text = refusal(elf([Program(1, b"abcd", 0, 0x400000), Program(1, b"abcd", 0, 0x7FFFFFFF0000)]))
    assert "is the core of a user program (name unknown)" in text


def test_low_virtual_addresses_alone_do_not_make_a_program() -> None:
    machine = note_program(note(b"VMCOREINFO", 0, b"OSRELEASE=1\n"))
    assert content_of(read(elf([machine, Program(1, b"abcd", 0, 0x400000)]))) == [(0, b"abcd")]
    assert content_of(read(elf([load(0, b"abcd")]))) == [(0, b"abcd")]
    assert content_of(read(elf([Program(1, b"abcd", 0, 0xFFFF888000000000)]))) == [(0, b"abcd")]


@pytest.mark.parametrize("physical", [0, 2**64 - 1])
def test_copy_of_kcore(physical: int) -> None:
    vmcoreinfo = note_program(note(b"VMCOREINFO", 0, b"OSRELEASE=1\n"))
    loads = [Program(1, b"abcd", physical, 0xFFFFC90000000000), Program(1, b"abcd", 0, 0xFFFF888000000000)]
    assert "is a copy of /proc/kcore" in refusal(elf([vmcoreinfo, *loads]))


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_programs(kind: int) -> None:
    assert "is an ELF program, not a memory dump" in refusal(elf([load(0, b"abcd")], kind=kind))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x7fELF\x03\x01\x01".ljust(64, b"\0"), "broken ELF header"),
        (b"\x7fELF\x02\x03\x01".ljust(64, b"\0"), "broken ELF header"),
        (elf([], kind=0xFE00), "unknown type 65024"),
        (elf([]), "holds no memory"),
        (elf([note_program(note(b"X", 1, b""))]), "holds no memory"),
        (elf([Program(1, b"", 0x1000, 0x1000, memory_size=0x1000)]), "holds no memory"),
        (elf([])[:40] + b"\xff" * 8 + elf([])[48:56] + b"\xff\xff" + elf([])[58:], "first section header"),
    ],
)
def test_refused(content: bytes, message: str) -> None:
    assert message in refusal(content)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_damaged_header_is_read_by_its_program_headers(bits: Bits, order: ByteOrder) -> None:
    ranges = [(0x1000, b"a" * 4096), (0x9000, b"b" * 8192), (0x100000, b"c" * 100)]
    programs = [note_program(note(b"X", 1, b"12345678")), *(load(*each) for each in ranges)]
    content = elf(programs, bits=bits, order=order)
    size = elf_headers.FILE_HEADER[bits].itemsize
    whole = range(size)
    fields = [range(place, place + 2) for place in whole[::2]]
    for lost in (whole, *fields):
        for filler in (0x00, 0xFF, 0x5A):
            damaged_file = content[: lost.start] + bytes([filler]) * len(lost) + content[lost.stop :]
            memory = open_mapped("test", np.frombuffer(damaged_file, np.uint8))
            assert memory.container == "ELF core"
            assert content_of(memory) == joined(ranges)


@pytest.mark.parametrize("lost", [range(64, 400), range(32, 400)])
def test_without_program_headers_pages_show_themselves(lost: range) -> None:
    chance = np.random.default_rng(1)
    pages = chance.integers(1, 256, (400, 4096), np.uint8)
    pages[:, 2048:] = 0
    content = bytearray(elf([note_program(note(b"CORE", 1, bytes(336))), load(0x100000, pages.tobytes())]))
    start = len(content) - pages.size
    assert start % 4096
    content[lost.start : lost.stop] = bytes(len(lost))
    memory = open_mapped("dump", np.frombuffer(content, np.uint8))
    (segment,) = memory.segments
    assert "headers are lost" in memory.notes[0]
    assert memory.is_headerless
    assert segment.read()[start // 4096 * 4096 :].tobytes() == bytes(content[start:])


def test_more_program_headers_than_the_header_tells_of_are_read() -> None:
    content = bytearray(elf([load(0x1000, b"a" * 4096), load(0x9000, b"b" * 4096)]))
    struct.pack_into("<H", content, 56, 1)
    memory = read(bytes(content))
    assert [segment.start for segment in memory.segments] == [0x1000, 0x9000]
    assert memory.notes == ("the ELF header is damaged: the program headers were found by what they say of themselves",)


def test_a_core_whose_number_of_program_headers_is_lost_is_none_of_xen() -> None:
    content = bytearray(elf([load(0x1000, b"a" * 4096)]))
    content[56:62] = struct.pack("<HHH", 0, 64, 2)
    memory = open_mapped("test", np.frombuffer(bytes(content), np.uint8))
    assert content_of(memory) == [(0x1000, b"a" * 4096)]


def many(count: int) -> bytes:
    """A core of ``count`` program headers by PN_XNUM, one byte each, every second address, highest first."""
    content = bytearray(elf([], extended_count=True))
    table = np.zeros(count, elf_headers.PROGRAM_HEADER[64])
    table["type"], table["offset"], table["file_size"] = 1, 0, 1
    table["physical"] = np.arange(count, 0, -1) * 2
    section = bytearray(content[64:128])
    struct.pack_into("<I", section, 44, count)
    struct.pack_into("<QQ", content, 32, 128, 64)
    return bytes(content[:64] + section) + table.tobytes()


def test_more_program_headers_than_their_field_holds() -> None:
    memory = read(many(70_000))
    assert f"{70_000 - len(memory.segments):,} ranges of the same bytes" in memory.notes[-1]


def test_number_of_program_headers_is_bounded() -> None:
    assert "more than any dump has" in refusal(many(elf_headers.PROGRAM_LIMIT + 1))


@pytest.mark.slow
def test_as_many_program_headers_as_there_may_be_take_bounded_time() -> None:
    begin = time.process_time()
    memory = read(many(elf_headers.PROGRAM_LIMIT))
    assert f"{elf_headers.PROGRAM_LIMIT - len(memory.segments):,} ranges of the same bytes" in memory.notes[-1]
    assert time.process_time() - begin < 20


def test_note_segments_that_name_the_same_bytes_again_and_again_take_no_time() -> None:
    filling = note(b"CORE", 1, b"") * 2000
    program = note_program(filling)
    offset = 64 + 56 * 2002
    repeated = [Program(4, file_size=len(filling), offset=offset) for _ in range(2000)]
    begin = time.process_time()
    read(elf([program, *repeated, load(0x1000, b"abcd")]))
    assert time.process_time() - begin < 10


FUZZED = [
    elf(
        [
            note_program(note(b"CORE", 1, bytes(336)), note(b"QEMU", 0, bytes(440))),
            load(0x1000, b"ab"),
            load(0x90, b"c"),
        ]
    ),
    elf([note_program(note(b"VMCOREINFO", 0, b"A=1")), load(0x1000, b"ab")], bits=32, machine=3),
    elf([load(0x1000, b"ab", 7), load(0x1001, b"c")], order=">", machine=183, extended_count=True),
]


@pytest.mark.parametrize("whole", FUZZED)
@given(data=st.data())
def test_damage_is_an_error_of_the_source_or_none(whole: bytes, data: st.DataObject) -> None:
    content = data.draw(damaged(whole))
    if not elf_core.probe(content[:4096]):
        return
    try:
        memory = read(content)
    except SourceError:
        return
    assert all(0 <= segment.start < segment.end <= 2**64 for segment in memory.segments)
    assert all(remark.isprintable() for remark in memory.notes)
