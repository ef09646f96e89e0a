"""Migration streams: every form of a page, the last copy of each, the machine's holes, and registers by description."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kallsift.memory.formats.qemu import migration_stream, resync
from kallsift.memory.memory import AddressSpace
from tests.examples import examples
from tests.memory.opened import open_bytes, ranges, read_or_refuse, refusal
from tests.memory.strategies import damaged
from tests.memory.writers.qemu import PAGE, Page, Section, flat, stream

MIB = 1 << 20
bounded = settings(derandomize=True, max_examples=examples(150))


def plain(number: int, value: int = 0, block: str = "mach-virt.ram", size: int = PAGE) -> Page:
    """A page of bytes that tell its number and ``value``."""
    return Page(block, number, struct.pack("<QQ", number, value) * (size // 16))


def filled(number: int, value: int = 0, block: str = "mach-virt.ram") -> Page:
    return Page(block, number, bytes([value]) * PAGE, "filled")


def virt(rounds: list[list[Page]], pages: int = 16, **options: Any) -> bytes:
    """A stream of a machine whose RAM begins at 1 GiB and has no hole."""
    return stream({"mach-virt.ram": pages * PAGE}, rounds, **({"machine": "virt-7.2"} | options))


def test_pages_of_every_form_come_out() -> None:
    packed = Page("mach-virt.ram", 2, plain(2, 7).data, "compressed")
    pages = [plain(0), filled(1), packed, filled(3, 0xAB)]
    memory = open_bytes(migration_stream, virt([pages], 4))
    assert (memory.container, memory.space, memory.notes) == ("QEMU migration stream", AddressSpace.PHYSICAL, ())
    assert ranges(memory) == {1 << 30: b"".join(page.data for page in pages)}


@bounded
@given(st.data())
def test_the_last_copy_of_a_page_counts(data: st.DataObject) -> None:
    """Long runs of one kind, which are indexed as arrays, and single pages between them, in any order and again."""
    count = 300
    expected: dict[int, bytes] = {}
    rounds = []
    for turn in range(data.draw(st.integers(1, 3))):
        pages = []
        for _ in range(data.draw(st.integers(1, 6))):
            first = data.draw(st.integers(0, count - 1))
            kind = data.draw(st.sampled_from(["plain", "zero", "filled", "compressed"]))
            for number in range(first, min(count, first + data.draw(st.sampled_from([1, 2, 8, 9, 80, 300])))):
                page = plain(number, turn) if kind in ("plain", "compressed") else filled(number, kind == "filled")
                pages.append(Page(page.block, number, page.data, "compressed") if kind == "compressed" else page)
                expected[number] = page.data
        rounds.append(pages)
    memory = open_bytes(migration_stream, virt(rounds, count))
    found = {}
    for start, content in ranges(memory).items():
        for place in range(0, len(content), PAGE):
            found[(start - (1 << 30) + place) // PAGE] = content[place : place + PAGE]
    assert found == expected


def test_pages_that_were_not_sent_are_no_memory() -> None:
    memory = open_bytes(migration_stream, virt([[plain(1), plain(2), plain(5)]]))
    assert [(segment.start - (1 << 30), segment.size) for segment in memory.segments] == [
        (PAGE, 2 * PAGE),
        (5 * PAGE, PAGE),
    ]


@pytest.mark.parametrize(
    ("machine", "size", "pieces"),
    [
        ("pc-q35-7.2", 64, [(0, 0, 64)]),
        ("pc-q35-7.2", 2815, [(0, 0, 2815)]),
        ("pc-q35-7.2", 4096, [(0, 0, 2048), (2048, 4096, 2048)]),
        ("pc-i440fx-7.2", 3583, [(0, 0, 3583)]),
        ("pc-i440fx-7.2", 4096, [(0, 0, 3072), (3072, 4096, 1024)]),
        ("microvm", 4096, [(0, 0, 3072), (3072, 4096, 1024)]),
    ],
)
def test_a_pc_has_its_hole(machine: str, size: int, pieces: list[tuple[int, int, int]]) -> None:
    """In MiB: from where in the RAM, to which address, how many."""
    block = "microvm.ram" if machine == "microvm" else "pc.ram"
    wanted = [number * MIB // PAGE for offset, _, length in pieces for number in (offset + 1, offset + length - 1)]
    content = stream({block: size * MIB}, [[plain(number, 1, block) for number in wanted]], machine=machine)
    memory = open_bytes(migration_stream, content)
    for offset, address, length in pieces:
        for place in (1, length - 1):
            read = memory.read((address + place) * MIB, 16).tobytes()
            assert read == plain((offset + place) * MIB // PAGE, 1).data[:16]


def test_a_pcs_display_is_no_memory() -> None:
    content = stream({"pc.ram": MIB}, [[plain(number, 0, "pc.ram") for number in range(256)]])
    assert [(s.start, s.end) for s in open_bytes(migration_stream, content).segments] == [(0, 0xA0000), (0xC0000, MIB)]


def test_nodes_follow_each_other_and_devices_are_told() -> None:
    blocks = {"/objects/ram-node0": 4 * PAGE, "vga.vram": 4 * PAGE, "ram-node1": 4 * PAGE, "dimm0": 4 * PAGE}
    pages = [plain(0, value, block) for value, block in enumerate(blocks)]
    memory = open_bytes(migration_stream, stream(blocks, [pages], machine="virt-7.2"))
    assert ranges(memory) == {1 << 30: pages[0].data, (1 << 30) + 4 * PAGE: pages[2].data}
    assert memory.notes == ("dimm0 (16 KiB) is left out: its address is not in the stream",)


def test_an_unknown_machine_is_told() -> None:
    memory = open_bytes(migration_stream, stream({"board.ram": PAGE}, [[plain(0, 0, "board.ram")]], machine="board-1"))
    assert memory.segments[0].start == 0
    assert "board-1" in memory.notes[0]


def test_pages_of_another_size() -> None:
    pages = [plain(number, size=1 << 14) for number in range(40)]
    memory = open_bytes(migration_stream, virt([pages], 160, page_bits=14))
    assert ranges(memory) == {1 << 30: b"".join(page.data for page in pages)}


@pytest.mark.parametrize("footers", [True, False])
def test_no_configuration_and_no_footers(footers: bool) -> None:
    content = stream({"pc.ram": 2 * PAGE}, [[plain(0), plain(1)]], machine=None, footers=footers, described=False)
    assert "no RAM is called 'mach-virt.ram'" in refusal(migration_stream, content)
    pages = [plain(0, 0, "pc.ram"), plain(1, 0, "pc.ram")]
    content = stream({"pc.ram": 2 * PAGE}, [pages], machine=None, footers=footers, described=False)
    assert ranges(open_bytes(migration_stream, content)) == {0: b"".join(page.data for page in pages)}


def test_other_devices_between_the_ram() -> None:
    """Their sections hold what looks like a footer and is none."""
    other = Section("spapr/htab", 0, b"\1\2\x7e\0\0\0\3\xff" * 9)
    pages = [plain(number) for number in range(20)]
    memory = open_bytes(migration_stream, virt([pages[:7], pages[7:]], 20, others=(other,)))
    assert ranges(memory) == {1 << 30: b"".join(page.data for page in pages)}


def test_ram_that_is_laid_out_flat() -> None:
    rng = np.random.default_rng(1)
    data = b"".join(bytes(PAGE) if number % 3 else rng.bytes(PAGE) for number in range(100))
    memory = open_bytes(migration_stream, flat({"mach-virt.ram": data, "virt.flash0": bytes(PAGE)}, "virt-9.0"))
    assert ranges(memory) == {1 << 30: data}


X86_FIELDS: list[tuple[str, int, int, list[tuple[str, int]]]] = [
    ("env.regs", 8, 16, []),
    ("env.eip", 8, 1, []),
    ("env.segs", 20, 6, [("selector", 4), ("base", 8), ("limit", 4), ("flags", 4)]),
    ("env.idt", 20, 1, [("selector", 4), ("base", 8), ("limit", 4), ("flags", 4)]),
    ("env.cr[3]", 8, 1, []),
    ("env.lstar", 8, 1, []),
]


def processor(number: int) -> Section:
    """A processor whose registers depend on its number."""
    segments = b"".join(struct.pack(">IQII", 0, 0x100 * each + number, 0, 0) for each in range(6))
    content = bytes(128) + struct.pack(">Q", 0xE1 + number) + segments
    content += struct.pack(">IQII", 0, 0x1D7 + number, 0, 0) + struct.pack(">QQ", 0xC3000 + number, 0x157A + number)
    fields: list[dict[str, Any]] = []
    for name, size, count, inner in X86_FIELDS:
        item: dict[str, Any] = {"name": name, "type": "uint64", "size": size}
        if count > 1:
            item["array_len"] = count
        if inner:
            item["struct"] = {"fields": [{"name": part, "size": width} for part, width in inner]}
        fields.append(item)
    return Section("cpu", number, content, fields)


def test_registers_are_found_by_description() -> None:
    devices = (Section("timer", 0, bytes(24)), processor(0), Section("apic", 0, bytes(99)), processor(1))
    cpus = open_bytes(migration_stream, virt([[plain(0)]], devices=devices)).hints.cpus
    assert [cpu.number for cpu in cpus] == [0, 1]
    assert cpus[1].registers == {
        "rip": 0xE2,
        "cr3": 0xC3001,
        "lstar": 0x157B,
        "idt_base": 0x1D8,
        "gs_base": 0x501,
    }


def test_a_description_of_something_else_gives_no_registers() -> None:
    short = processor(0)
    devices = (Section("cpu", 0, short.content[:-1], short.fields),)
    assert open_bytes(migration_stream, virt([[plain(0)]], devices=devices)).hints.cpus == ()
    assert open_bytes(migration_stream, virt([[plain(0)]], devices=(short,), described=False)).hints.cpus == ()


def test_a_stream_that_is_cut_short_keeps_what_it_sent() -> None:
    pages = [plain(number) for number in range(64)]
    content = virt([pages], 64)
    end = content.index(pages[40].data) + 100
    memory = open_bytes(migration_stream, content[:end])
    assert ranges(memory) == {1 << 30: b"".join(page.data for page in pages[:40])}
    assert "cut short" in memory.notes[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (virt([[Page("mach-virt.ram", 0, bytes(9), "xbzrle")]]), "xbzrle"),
        (virt([[plain(0)]], capabilities=("x-ignore-shared",)), "without the RAM"),
        (virt([[plain(16)]]), "no page of RAM"),
        (virt([]), "no page of RAM"),
        (virt([[plain(0)]])[:30], "before any RAM"),
        (b"QEVM\0\0\0\2" + bytes(100), "version 2"),
        (virt([[plain(0)]]).replace(b"QEVM\0\0\0\3\7\0\0\0\x08virt-7.2", b"QEVM\0\0\0\3\x55"), "no section"),
        (stream({f"block{n}": PAGE for n in range(5000)}, [[]]), "more than 4096 blocks"),
        (stream({"mach-virt.ram": 1 << 62}, [[plain(1 << 48)]]), "no page of RAM"),
    ],
)
def test_what_cannot_be_read_is_told(content: bytes, reason: str) -> None:
    assert reason in refusal(migration_stream, content)


SOME = [
    *map(plain, range(12)),
    *(Page("mach-virt.ram", number, plain(number).data, "compressed") for number in range(12, 24)),
    *(filled(number, number) for number in range(24, 40)),
    *map(plain, range(40, 48)),
]


def pages_of(content: bytes) -> tuple[dict[int, bytes], tuple[str, ...]]:
    memory = open_bytes(migration_stream, content)
    found = {
        (start - (1 << 30) + place) // PAGE: data[place : place + PAGE]
        for start, data in ranges(memory).items()
        for place in range(0, len(data), PAGE)
    }
    return found, memory.remarks


def records(content: bytes) -> list[int]:
    """Where the record of each of `SOME` begins, but for the first, which names its block."""
    places = []
    for page in SOME[1:]:
        flags = {"plain": 0x28, "filled": 0x22, "compressed": 0x120}[page.form]
        places.append(content.index(struct.pack(">Q", page.number * PAGE | flags)))
    return places


@pytest.mark.sampled(8)
@pytest.mark.parametrize("place", range(8))
@pytest.mark.parametrize("bit", [0x01, 0x02, 0x08, 0x40, 0x80])
def test_a_damaged_record_costs_its_page(place: int, bit: int) -> None:
    whole = virt([SOME], 48)
    for number, start in enumerate(records(whole)[:-1], 1):
        content = bytearray(whole)
        content[start + place] ^= bit
        found, remarks = pages_of(bytes(content))
        wrong = [page.number for page in SOME if found.get(page.number, page.data) != page.data]
        missing = [page.number for page in SOME if page.number not in found]
        # an address that is another page's puts it there; nothing tells that
        elsewhere = struct.unpack_from(">Q", content, start)[0] // PAGE
        assert wrong in ([], [elsewhere]), number
        assert set(missing) <= {number - 1, number, number + 1}
        assert remarks or elsewhere < 48 or not missing


def test_a_section_of_damaged_records_is_passed_over() -> None:
    whole = virt([SOME, [plain(3, 1), plain(4, 1)]], 48)
    begin = records(whole)[2]
    content = whole[:begin] + bytes(64) + whole[begin + 64 :]
    found, remarks = pages_of(content)
    assert found[3] == plain(3, 1).data
    assert found[7] == plain(7).data
    assert remarks == ("1 records of the stream are damaged: their pages are missing or out of date",)


def test_the_search_for_a_record_looks_at_likely_ones_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    record, tried = resync._record, list[int]()

    def counted(view: NDArray[np.uint8], position: int, page: int) -> tuple[int | None, int]:
        tried.append(position)
        return record(view, position, page)

    monkeypatch.setattr(resync, "_record", counted)
    whole = virt([SOME], 48)
    start = records(whole)[2]
    content = np.frombuffer(whole, np.uint8)
    assert resync.next_record(content, start - 2000, PAGE, SOME[2].number) == start
    assert len(tried) < 100
    assert resync.next_record(content, len(content) - 4, PAGE, 2) is None


def test_what_is_behind_all_records_is_told() -> None:
    whole = virt([SOME], 48)
    content = whole[: records(whole)[30]] + b"\x01" * 500
    found, remarks = pages_of(content)
    assert sorted(found) == list(range(31))
    assert "the pages after that are missing or out of date" in remarks[0]


SAMPLE = virt(
    [
        [plain(0), filled(1), *map(plain, range(2, 14))],
        [plain(3, 1), Page("mach-virt.ram", 14, bytes(PAGE), "compressed")],
    ],
    devices=(processor(0),),
    others=(Section("htab", 0, b"1234"),),
)


@bounded
@given(st.one_of(damaged(SAMPLE), damaged(flat({"mach-virt.ram": bytes(PAGE) + b"\1" * PAGE}))))
def test_damaged_streams_are_read_or_refused(content: bytes) -> None:
    read_or_refuse(migration_stream, content)
