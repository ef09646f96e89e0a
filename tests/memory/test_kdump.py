"""kdump files: every layout, packing and version, what is left out, parts, and what is wrong with them in one line."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

import kallsift
from kallsift.budget import MIN_OUTPUT
from kallsift.memory import run_budget
from kallsift.memory.formats.kdump import descriptors, missing_blocks, repair
from kallsift.memory.formats.kdump import header as kdump_header
from kallsift.memory.formats.kdump import parts as kdump_parts
from kallsift.memory.formats.kdump import reader as kdump
from kallsift.memory.reassembled_file import Content
from tests.examples import examples
from tests.memory.builders import ByteOrder, note
from tests.memory.kdump_pages import expected, page, some_pages
from tests.memory.opened import open_bytes, ranges, read_or_refuse, refusal, view_of
from tests.memory.strategies import damaged
from tests.memory.writers import kdump as writer
from tests.memory.writers.kdump import PACKED, SUB_HEADERS, Kdump

pytestmark = pytest.mark.sampled(6)

VMCOREINFO = b"OSRELEASE=7.2.13\nPAGESIZE=4096\n"


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("size", [4096, 16384, 65536])
def test_every_packing(packing: str, size: int) -> None:
    pages = some_pages(size)
    memory = open_bytes(kdump, writer.kdump(pages, Kdump(packing=packing, page=size)))
    assert (memory.container, memory.notes) == ("kdump", ())
    assert ranges(memory) == expected(pages, size)


def test_blank_pages_are_known_once_one_was_seen() -> None:
    pages = {number: bytes(4096) for number in range(64)} | {number: page(number) for number in range(64, 80)}
    (segment,) = open_bytes(kdump, writer.kdump(pages)).segments
    assert not segment.blank(0, 4096)
    assert not segment.read(0, 64 << 12).any()
    assert segment.blank(0, 64 << 12)
    assert segment.blank(5, (64 << 12) - 5)
    assert not segment.blank(0, (64 << 12) + 1)
    assert not segment.moved(0, 4096).blank(62 << 12, (63 << 12) + 1)
    # many pages at once, in the middle of blocks
    assert segment.read(0x5003, 0x4F123).tobytes() == b"".join(pages.values())[0x5003:0x4F123]


@pytest.mark.parametrize("layout", SUB_HEADERS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", range(1, 7))
def test_every_layout(layout: str, order: ByteOrder, version: int) -> None:
    pages = some_pages()
    how = Kdump(layout=layout, order=order, version=version)
    if version >= 3:
        how.vmcoreinfo = VMCOREINFO
    memory = open_bytes(kdump, writer.kdump(pages, how))
    assert ranges(memory) == expected(pages)
    assert memory.hints.vmcoreinfo == (VMCOREINFO if version >= 3 else None)


def test_a_diskdump_with_one_bitmap() -> None:
    pages = some_pages() | {4096 * 8 - 1: page(7)}
    memory = open_bytes(kdump, writer.kdump(pages, Kdump(mark=b"DISKDUMP", version=1, one_bitmap=True)))
    assert memory.container == "diskdump"
    assert ranges(memory) == expected(pages)


@pytest.mark.parametrize(("size", "register"), [(336, "rip"), (392, "pc")])
def test_notes_are_hints(size: int, register: str) -> None:
    status = bytearray(size)
    place = 112 + 8 * (16 if register == "rip" else 32)
    status[place : place + 8] = struct.pack("<Q", 0xFFFFFFFF81000000)
    notes = note(b"CORE", 1, bytes(status)) + note(b"VMCOREINFO", 0, VMCOREINFO)
    hints = open_bytes(kdump, writer.kdump(some_pages(), Kdump(notes=notes))).hints
    assert [cpu.registers[register] for cpu in hints.cpus] == [0xFFFFFFFF81000000]
    assert hints.vmcoreinfo == VMCOREINFO


def test_parts_of_a_split_dump_find_each_other(tmp_path: Path) -> None:
    pages = some_pages()
    for name, bounds in (("b", (30, 110)), ("a", (0, 30)), ("c", (110, 137))):
        (tmp_path / name).write_bytes(writer.kdump(pages, Kdump(split=bounds)))
    (tmp_path / "a copy").write_bytes((tmp_path / "b").read_bytes())
    (tmp_path / "another").write_bytes(writer.kdump(pages, Kdump(split=(0, 137), status=4)))
    for name in "abc":
        with kallsift.open(tmp_path / name) as memory:
            assert memory.notes == ()
            assert b"".join(ranges(memory).values()) == b"".join(pages[number] for number in sorted(pages))
    (tmp_path / "b").unlink()
    (tmp_path / "a copy").unlink()
    with kallsift.open(tmp_path / "a") as memory:
        assert "is one part of a split dump" in memory.notes[0]
    (tmp_path / "c").unlink()
    with kallsift.open(tmp_path / "a") as memory:
        assert ranges(memory) == expected({number: pages[number] for number in pages if number < 30})
        assert "from 0x0 to 0x1e000" in memory.notes[0]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize(
    "damage", [range(4096, 8192), range(4096, 4112), range(16, 8192), range(0, 3), range(416, 468)]
)
def test_a_part_with_a_damaged_header_is_told_by_the_others(tmp_path: Path, number: int, damage: range) -> None:
    pages = {number: page(number * 7) for number in (*range(2000, 2400), *range(70000, 70300))}
    for name, bounds in (("a", (0, 2100)), ("b", (2100, 70050)), ("c", (70050, 70300))):
        content = bytearray(writer.kdump(pages, Kdump(split=bounds, vmcoreinfo=VMCOREINFO)))
        if name == "abc"[number]:
            content[damage.start : damage.stop] = bytes(len(damage))
        (tmp_path / name).write_bytes(content)
    for name in "abc":
        with kallsift.open(tmp_path / name) as memory:
            assert b"".join(ranges(memory).values()) == b"".join(pages[number] for number in sorted(pages))
            if damage.start == 4096:
                assert any("the part is read as the pages that all others lack" in note for note in memory.notes)


@pytest.mark.parametrize("missing", ["b", "d"])
def test_a_damaged_part_that_fits_two_gaps_is_left_out(tmp_path: Path, missing: str) -> None:
    pages = {number: page(number * 7) for number in range(400)}
    bounds = {"a": (0, 100), "b": (100, 200), "c": (200, 300), "d": (300, 400)}
    for name, bound in bounds.items():
        content = bytearray(writer.kdump(pages, Kdump(split=bound)))
        if name != missing:
            content[4096:8192] = content[4096:8192] if name in "ac" else bytes(4096)
            (tmp_path / name).write_bytes(content)
    with kallsift.open(tmp_path / "a") as memory:
        assert ranges(memory) == expected({number: pages[number] for number in (*range(100), *range(200, 300))})
        assert any("is left out: its header is damaged" in note for note in memory.notes)


def test_the_folder_of_a_whole_kdump_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(writer.kdump(some_pages()))
    listed = list[Path]()

    def listing(path: Path) -> Iterator[Path]:
        listed.append(path)
        return iter(())

    monkeypatch.setattr(Path, "iterdir", listing)
    with kallsift.open(tmp_path / "a") as memory:
        assert ranges(memory) == expected(some_pages())
    assert not listed


def test_other_files_are_read_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, bounds in (("a", (0, 30)), ("b", (30, 137))):
        (tmp_path / name).write_bytes(writer.kdump(some_pages(), Kdump(split=bounds)))
    monkeypatch.setattr(kdump_parts, "MAX_READ", 4096)
    with kallsift.open(tmp_path / "a") as memory:
        assert "is one part of a split dump" in memory.notes[0]


@pytest.mark.parametrize("lost", [8, 16, 4096])
def test_a_kdump_without_its_mark_is_read(tmp_path: Path, lost: int) -> None:
    how = Kdump(vmcoreinfo=VMCOREINFO)
    content = writer.kdump(MANY, how)
    path = tmp_path / "dump"
    path.write_bytes(bytes(lost) + content[lost:])
    with kallsift.open(path) as memory:
        assert ranges(memory) == expected(MANY)
        assert memory.container == "kdump"
        assert "first bytes are damaged" in memory.notes[0]
    path.write_bytes(b"KXUMP   " + content[8:])
    with kallsift.open(path) as memory:
        assert ranges(memory) == expected(MANY)


@pytest.mark.parametrize("layout", SUB_HEADERS)
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_sub_header_in_any_layout_tells_of_a_kdump(layout: str, order: ByteOrder) -> None:
    # by the layout of 64 bits, the offset of the notes on i386 is that of VMCOREINFO
    how = Kdump(layout=layout, order=order, notes=note(b"CORE", 1, bytes(100)), vmcoreinfo=VMCOREINFO)
    assert repair.is_kdump(view_of(bytes(4096) + writer.kdump(some_pages(), how)[4096:]))


def test_of_a_whole_kdump_only_the_last_descriptors_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    content = view_of(writer.kdump({number: page(number) for number in range(3000)}))
    header = kdump_header.read_header(content)
    assert header is not None
    counts = list[int]()

    def rows_at(content: Content, start: int, count: int, order: ByteOrder) -> descriptors.Rows:
        counts.append(count)
        return descriptors.rows_at(content, start, count, order)

    monkeypatch.setattr(missing_blocks, "rows_at", rows_at)
    assert missing_blocks.without_missing_blocks(content, header, []) is content
    assert max(counts) <= missing_blocks.MAX_END_ROWS


def test_a_part_without_pages_says_so() -> None:
    content = writer.kdump({1: page(1)}, Kdump(split=(2, 4), highest=4))
    assert "is one part of a split dump" in refusal(kdump, content)


def test_a_dump_that_is_cut_short_keeps_what_is_there() -> None:
    pages = {number: page(number) for number in range(64)}
    content = writer.kdump(pages)
    memory = open_bytes(kdump, content[: -len(content) // 100])
    (found,) = ranges(memory).values()
    held = len(found) // 4096
    assert 0 < held < 64
    assert found == b"".join(pages[number] for number in range(held))
    assert memory.notes == (f"the kdump is cut short: {held} of 64 pages present",)


def test_descriptors_that_were_never_written_are_no_pages() -> None:
    pages = {number: page(number) for number in range(64)}
    content = bytearray(writer.kdump(pages, Kdump(status=8)))
    table = 4096 * 4
    content[table + 24 * 10 : table + 24 * 20] = bytes(24 * 10)
    assert ranges(open_bytes(kdump, bytes(content))) == expected({n: pages[n] for n in pages if not 10 <= n < 20})


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("bit", [0, 3, 50, 135, 300])
def test_a_damaged_bit_of_a_bitmap_is_mended_by_the_other(which: int, bit: int) -> None:
    pages = some_pages()
    content = bytearray(writer.kdump(pages))
    ram, dumped = 2 * 4096, 3 * 4096
    # nothing was left out
    content[ram:dumped] = content[dumped : dumped + 4096]
    content[(ram, dumped)[which] + bit // 8] ^= 1 << bit % 8
    memory = open_bytes(kdump, bytes(content))
    assert (ranges(memory), memory.notes) == (expected(pages), ())


@pytest.mark.parametrize(("bit", "marked"), [(5, -1), (50, 1)])
def test_a_damaged_bit_that_nothing_mends_is_told(bit: int, marked: int) -> None:
    pages = some_pages()
    content = bytearray(writer.kdump(pages))
    content[3 * 4096 + bit // 8] ^= 1 << bit % 8
    notes = open_bytes(kdump, bytes(content)).notes
    counts = f"it marks {len(pages) + marked} pages, but the file has {len(pages)}"
    assert notes[0].startswith(f"the kdump's bitmap is damaged: {counts}")


def descriptor(offset: int | None = None, size: int | None = None, flags: int | None = None) -> bytes:
    """A file whose first page's descriptor says something else."""
    content = bytearray(writer.kdump({number: page(number) for number in range(4)}))
    for place, width, value in ((0, 8, offset), (8, 4, size), (12, 4, flags)):
        if value is not None:
            content[4 * 4096 + place : 4 * 4096 + place + width] = value.to_bytes(width, "little")
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (writer.kdump(some_pages())[:5000], "broken kdump header"),
        (b"KDUMP   " + bytes(9000), "broken kdump header"),
        (writer.kdump({}, Kdump(highest=1)), "before its first page"),
        (descriptor(size=1 << 31), "first page"),
        (descriptor(offset=0), "first page"),
    ],
)
def test_what_is_wrong_is_told(content: bytes, reason: str) -> None:
    if reason == "first page":
        # what lies outside of the file makes it one that is cut short
        memory = open_bytes(kdump, content)
        assert memory.notes == ("the kdump is cut short: 3 of 4 pages present",)
    else:
        assert reason in refusal(kdump, content)


@pytest.mark.parametrize("packing", ["zlib", "lzo", "snappy", "zstd"])
def test_bombs_are_given_up(packing: str) -> None:
    flag, pack = PACKED[packing]
    bomb = pack(bytes(1 << 16))
    content = bytearray(writer.kdump({0: page(0)}))
    content += bomb
    content[4 * 4096 : 4 * 4096 + 16] = struct.pack("<QII", len(content) - len(bomb), len(bomb), flag)
    memory = open_bytes(kdump, bytes(content))
    assert ranges(memory) == {0: bytes(4096)}
    assert memory.unreadable.remark(memory.size) == "1 of 1 pages did not unpack; they are read as holes"


@pytest.mark.parametrize("how", [{"size": 0}, {"size": 9}, {"flags": 2}, {"flags": 3}])
def test_a_damaged_descriptor_costs_its_page(how: dict[str, int]) -> None:
    memory = open_bytes(kdump, descriptor(**how))
    found = ranges(memory)[0]
    assert found[4096:] == b"".join(page(number) for number in range(1, 4))
    assert found[:4096] == bytes(4096)
    assert memory.unreadable.remark(memory.size) == "1 of 4 pages did not unpack; they are read as holes"


def test_of_billions_of_runs_the_largest_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    content = writer.kdump(
        {number: page(number) for number in (*range(0, 99, 2), 100, 101, 102, 103, *range(105, 300, 2))}
    )
    monkeypatch.setattr(run_budget, "RUN_SIZE", MIN_OUTPUT // 40)
    memory = open_bytes(kdump, content)
    assert 1 <= len(memory.segments) <= 41
    assert memory.read(100 * 4096, 4 * 4096).tobytes() == b"".join(page(number) for number in range(100, 104))
    assert any("runs of pages" in note for note in memory.notes)


def test_structures_have_the_published_sizes() -> None:
    assert {bits: layout.itemsize for bits, layout in kdump_header.HEADER.items()} == {64: 464, 32: 452}
    assert [layout.itemsize for _, layout in kdump_header.SUB_HEADERS] == [104, 80, 96]
    assert kdump_header.DESCRIPTOR.itemsize == 24


SMALL = writer.kdump(
    {**{number: page(number) for number in range(2, 9)}, 12: bytes(4096)}, Kdump(notes=note(b"A", 1, b""))
)


@settings(derandomize=True, max_examples=examples(200))
@given(damaged(SMALL))
def test_damaged_files_are_read_or_refused(content: bytes) -> None:
    read_or_refuse(kdump, content)


def without(content: bytes, low: int, high: int) -> bytes:
    """A file that lacks a block."""
    return content[:low] + content[high:]


MANY = {number: page(number * 7) for number in (*range(32768, 34000), *range(70000, 70100))} | {
    number: bytes(4096) for number in range(33000, 33100)
}
"""Pages of RAM that begins at 128 MiB, so that the first block of the bitmaps is blank."""


@cache
def whole(packing: str = "zlib", size: int = 4096) -> bytes:
    how = Kdump(packing=packing, page=size, notes=note(b"CORE", 1, bytes(336)))
    pages = MANY if size == 4096 else {number: page(number, size) for number in range(100, 200)}
    bits = writer.kdump(pages, how)
    # RAM is what is in the file, and the last page
    header = kdump_header.read_header(view_of(bits))
    assert header is not None
    low, size = header.bitmap - header.bitmap_size, header.bitmap_size
    ram = bytearray(bits[low + size : low + 2 * size])
    return bits[:low] + bytes(ram) + bits[low + size :]


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("size", [4096, 65536])
@pytest.mark.parametrize("field", range(424, 464, 4))
def test_a_field_of_the_header_that_is_damaged_costs_nothing(packing: str, size: int, field: int) -> None:
    content = bytearray(whole(packing, size))
    true = ranges(open_bytes(kdump, bytes(content)))
    for value in (0, 1, 0x5A5A5A5A, int.from_bytes(content[field : field + 4], "little") ^ 0x2000):
        content[field : field + 4] = value.to_bytes(4, "little")
        memory = open_bytes(kdump, bytes(content))
        assert ranges(memory) == true
        assert all(
            note.startswith(("the kdump's header is damaged", "the kdump is cut short")) for note in memory.notes
        )


@pytest.mark.parametrize("packing", PACKED)
def test_headers_that_are_lost_cost_what_they_alone_have(packing: str) -> None:
    content = whole(packing)
    true = ranges(open_bytes(kdump, content))
    for lost in (range(8, 4096), range(4096, 8192), range(8, 8192)):
        memory = open_bytes(kdump, content[: lost.start] + bytes(len(lost)) + content[lost.stop :])
        assert ranges(memory) == true
        assert memory.notes[0].startswith("the kdump's header is damaged")
        assert not memory.hints.cpus


@pytest.mark.parametrize("packing", ["zlib", "lzo", "snappy", "zstd"])
@pytest.mark.parametrize("blocks", [1, 4])
def test_a_block_that_is_missing_costs_the_pages_in_it(packing: str, blocks: int) -> None:
    content = whole(packing)
    header = kdump_header.read_header(view_of(content))
    assert header is not None
    first = header.descriptors + len(MANY) * 24
    true = ranges(open_bytes(kdump, content))
    for start in range(header.descriptors + 4096, len(content) - blocks * 4096, 4096):
        if start < first < start + blocks * 4096:
            continue
        memory = open_bytes(kdump, without(content, start, start + blocks * 4096))
        assert f"{blocks * 4096} bytes are missing from the kdump" in memory.notes[0]
        found = ranges(memory)
        assert sorted(found) == sorted(true)
        rows = np.frombuffer(content[header.descriptors : first], kdump_header.DESCRIPTOR)
        ends = rows["offset"] + rows["size"]
        # a descriptor that is cut, or a page, and one beside it
        numbers = np.arange(len(rows)) * 24 + header.descriptors
        lost = (numbers + 24 > start) & (numbers < start + blocks * 4096)
        lost |= (ends > start) & (rows["offset"] < start + blocks * 4096)
        pages = np.frombuffer(b"".join(true.values()), np.uint8).reshape(-1, 4096)
        ours = np.frombuffer(b"".join(found[address] for address in true), np.uint8).reshape(-1, 4096)
        changed = (pages != ours).any(axis=1)
        assert not ours[changed].any()
        assert np.count_nonzero(changed & ~lost) <= 4
        assert memory.unreadable or not changed.any()


@pytest.mark.parametrize("packing", ["zlib", "lzo", "snappy", "zstd"])
@pytest.mark.parametrize("blocks", [((0.3, 1), (0.6, 2)), ((0.1, 1), (0.45, 1), (0.8, 2)), ((-0.5, 2), (0.5, 1))])
def test_blocks_that_are_missing_cost_the_pages_in_them(packing: str, blocks: tuple[tuple[float, int], ...]) -> None:
    content = whole(packing)
    header = kdump_header.read_header(view_of(content))
    assert header is not None
    first = header.descriptors + len(MANY) * 24
    true = ranges(open_bytes(kdump, content))
    rows = np.frombuffer(content[header.descriptors : first], kdump_header.DESCRIPTOR)
    numbers = np.arange(len(rows)) * 24 + header.descriptors
    cut, lost = content, np.zeros(len(rows), np.bool_)
    for share, count in reversed(blocks):
        # in the descriptors if it is negative
        size = len(content) - first if share > 0 else first - header.descriptors
        start = int((first + size * share) // 4096) * 4096
        cut = without(cut, start, start + count * 4096)
        lost |= (numbers + 24 > start) & (numbers < start + count * 4096)
        lost |= (rows["offset"] + rows["size"] > start) & (rows["offset"] < start + count * 4096)
    memory = open_bytes(kdump, cut)
    assert sum("bytes are missing from the kdump" in note for note in memory.notes) == len(blocks)
    found = ranges(memory)
    pages = np.frombuffer(b"".join(true.values()), np.uint8).reshape(-1, 4096)
    ours = np.frombuffer(b"".join(found[address] for address in true), np.uint8).reshape(-1, 4096)
    changed = (pages != ours).any(axis=1)
    assert not ours[changed].any()
    assert np.count_nonzero(changed & ~lost) <= 4 * len(blocks)


@pytest.mark.parametrize("packing", ["zlib", "zstd"])
@pytest.mark.parametrize("blocks", [1, 3])
def test_without_the_blocks_behind_its_header_a_dump_is_read(packing: str, blocks: int) -> None:
    content = whole(packing)
    memory = open_bytes(kdump, without(content, 4096, 4096 + blocks * 4096))
    assert ranges(memory) == ranges(open_bytes(kdump, content))
    assert memory.notes == (f"{blocks * 4096} bytes are missing before the kdump's page descriptors",)


@pytest.mark.parametrize("length", [*range(32768, 32768 + 24 * len(MANY), 1001), *range(65000, 119000, 5003)])
def test_a_dump_cut_short_anywhere_is_read_or_refused(length: int) -> None:
    read_or_refuse(kdump, whole()[:length])
