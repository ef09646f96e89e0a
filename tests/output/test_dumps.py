"""Dumps that are written: read back they are the same memory, and other programs' readers find what is in them."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment
from hypothesis import given, settings
from numpy.typing import NDArray

import kallsift
from kallsift.cli.output_file import PRIVATE, output_file
from kallsift.errors import KallsiftError
from kallsift.memory.formats import elf_core, elf_notes, lime, raw
from kallsift.memory.formats.elf_notes import Note
from kallsift.memory.formats.kdump import reader as kdump
from kallsift.memory.formats.registry import Container
from kallsift.memory.memory import AddressSpace, CpuState, Hints, Memory
from kallsift.memory.segments import BytesSegment
from kallsift.output.dumps import chunks as dump_pieces
from kallsift.output.dumps.chunks import Piece
from kallsift.output.dumps.formats import DUMPS, format_of
from kallsift.output.dumps.kdump import PACKINGS, kdump_dump
from kallsift.output.dumps.machine_facts import Facts, memory_facts
from kallsift.output.dumps.notes import dump_notes, left_out
from tests.examples import examples
from tests.memory.builders import Range
from tests.memory.opened import open_bytes, ranges
from tests.memory.strategies import ranges as some_ranges
from tests.output.sample import kernel

pytestmark = pytest.mark.sampled(4)

VMCOREINFO = b"OSRELEASE=7.2.13\nPAGESIZE=4096\nNUMBER(phys_base)=-501219328\n"
CPUS = (
    CpuState(0, {"rip": 0xFFFFFFFF81000000, "cr3": 0x1000, "gs_base": 1 << 63, "idt_base": 7, "version": 9}),
    CpuState(1, {"rip": 5, "cr3": 0x2000}),
)
HINTS = Hints(CPUS, VMCOREINFO)
READERS: dict[str, Container] = {"raw": raw, "lime": lime, "elf": elf_core, "kdump": kdump}


def memory_of(parts: Iterable[Range], **changes: Any) -> Memory:
    """Physical memory with these ranges."""
    segments = tuple(BytesSegment(start, np.frombuffer(data, np.uint8)) for start, data in parts)
    return Memory("test", "made", AddressSpace.PHYSICAL, segments, **changes)


def file_of(pieces: Iterable[Piece]) -> bytes:
    """The file that pieces make."""
    file = io.BytesIO()
    for offset, data in pieces:
        file.seek(offset)
        file.write(data)
    return file.getvalue()


def pages(*numbers: int) -> bytes:
    return b"".join(struct.pack("<Q", number) * 512 if number else bytes(4096) for number in numbers)


PARTS = [(0x3000, pages(1, 0, 2, 0)), (0x7000, pages(9)), (1 << 32, pages(*range(700)))]


@pytest.mark.parametrize("form", DUMPS)
def test_what_is_written_is_read_back(form: str) -> None:
    memory = memory_of(PARTS, hints=HINTS)
    seen: list[tuple[int, int]] = []
    content = file_of(
        DUMPS[form].write(memory, memory_facts(memory, None), lambda _, done, total: seen.append((done, total)))
    )
    found = open_bytes(READERS[form], content)
    assert seen[-1] == (memory.size, memory.size)
    assert found.notes == ()
    if form == "raw":
        assert all(found.read(start, len(data)).tobytes() == data for start, data in PARTS)
        return
    assert b"".join(ranges(found).values()) == b"".join(data for _, data in PARTS)
    assert ranges(found)[1 << 32] == PARTS[2][1]
    if form in ("elf", "kdump"):
        assert found.hints.vmcoreinfo == VMCOREINFO
        assert [cpu.registers["rip"] for cpu in found.hints.cpus] == [0xFFFFFFFF81000000, 5]
        assert [cpu.registers["cr3"] for cpu in found.hints.cpus] == [0x1000, 0x2000]
        assert found.hints.cpus[0].registers["gs_base"] == 1 << 63


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("word_size", [4, 8])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("architecture", ["x86", "arm", None])
def test_kdumps_of_other_machines(packing: str, word_size: int, order: Any, architecture: str | None) -> None:
    facts = Facts(architecture, order, word_size, 16384, vmcoreinfo=VMCOREINFO, origin="note")
    parts = [(0x8000, pages(1, 0, 2, 3, *[0] * 16, 5, 5, 5, 5)), (0x400000, pages(*range(2000)))]
    content = file_of(kdump_dump(memory_of(parts), facts, packing=packing))
    found = open_bytes(kdump, content)
    assert ranges(found) == dict(parts)
    assert found.hints.vmcoreinfo == VMCOREINFO


def test_a_kdump_has_whole_pages_only() -> None:
    memory = memory_of([(0x1800, bytes(0x1000)), (0x5001, b"x" * 0x3000), (0xA000, b"y" * 0x1FFF)])
    found = open_bytes(kdump, file_of(kdump_dump(memory, Facts())))
    assert ranges(found) == {0x6000: b"x" * 0x2000, 0xA000: b"y" * 0x1000}
    with pytest.raises(KallsiftError, match="no whole page"):
        file_of(kdump_dump(memory_of([(0x1800, bytes(0x1000))]), Facts()))
    with pytest.raises(KallsiftError, match="beyond"):
        file_of(kdump_dump(memory_of([(1 << 60, bytes(4096))]), Facts()))


def test_blank_pages_are_in_a_kdump_once() -> None:
    content = file_of(kdump_dump(memory_of([(0, bytes(4096 * 1000))]), Facts()))
    assert len(content) < 4 * 4096 + 24 * 1000 + 100


@settings(max_examples=examples(50))
@given(some_ranges(highest=1 << 63))
def test_elf_and_lime_keep_every_byte(parts: list[Range]) -> None:
    memory = memory_of(parts)
    for form in ("elf", "lime"):
        assert ranges(open_bytes(READERS[form], file_of(DUMPS[form].write(memory, Facts(), None)))) == dict(parts)


@pytest.mark.parametrize(
    "count", [3, pytest.param(0xFFFE, marks=pytest.mark.slow), 0xFFFF, pytest.param(70000, marks=pytest.mark.slow)]
)
def test_as_many_ranges_as_there_are(count: int) -> None:
    memory = memory_of((number * 0x2000, b"page") for number in range(count))
    content = file_of(DUMPS["elf"].write(memory, Facts("arm64", cpus=CPUS), None))
    assert len(open_bytes(elf_core, content).segments) == count
    file = ELFFile(io.BytesIO(content))
    assert (file["e_type"], file["e_machine"]) == ("ET_CORE", "EM_AARCH64")


def test_pyelftools_reads_the_notes() -> None:
    content = file_of(DUMPS["elf"].write(memory_of(PARTS), Facts("x86-64", cpus=CPUS, vmcoreinfo=VMCOREINFO), None))
    file = ELFFile(io.BytesIO(content))
    (segment,) = (each for each in file.iter_segments() if isinstance(each, NoteSegment))
    found = [(note["n_name"], note["n_descsz"]) for note in segment.iter_notes()]
    assert found == [("CORE", 336), ("CORE", 336), ("QEMU", 440), ("QEMU", 440), ("VMCOREINFO", len(VMCOREINFO))]
    loads = [(each["p_paddr"], each.data()) for each in list(file.iter_segments())[1:]]
    assert loads == PARTS


def test_vmcoreinfo_is_the_notes_only_if_it_speaks_of_the_kernel() -> None:
    own = b"OSRELEASE=7.2.13\nPAGESIZE=16384\nSYMBOL(_stext)=ffffffff9fa00000\n"
    facts = memory_facts(memory_of(PARTS, hints=Hints((), own)), kernel())
    assert (facts.vmcoreinfo, facts.origin, facts.page_size) == (own, "note", 16384)
    other = own.replace(b"9fa00000", b"9fb00000")
    facts = memory_facts(memory_of(PARTS, hints=Hints((), other)), kernel())
    assert facts.origin == "rebuilt"
    lines = (facts.vmcoreinfo or b"").splitlines()
    assert lines[0] == b"OSRELEASE=7.2.13"
    assert b"PAGESIZE=4096" in lines
    assert b"SYMBOL(_stext)=ffffffff9fa00000" in lines
    assert b"KERNELOFFSET=1ea00000" in lines
    assert f"NUMBER(phys_base)={0x5E00000 - (0xFFFFFFFF9FA00000 - 0xFFFFFFFF80000000)}".encode() in lines


def test_chunks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump_pieces, "CHUNK", 8192)
    sizes = [len(data) for _, _, data in dump_pieces.chunks(memory_of(PARTS))]
    assert max(sizes) == 8192
    assert sum(sizes) == memory_of(PARTS).size


@pytest.mark.parametrize(
    ("name", "form"),
    [("a.LIME", "lime"), ("b.raw", "raw"), ("c.core", "elf"), ("vmcore.kdump", "kdump"), ("d", None), ("e.txt", None)],
)
def test_suffixes(name: str, form: str | None) -> None:
    assert format_of(name) == form


STATUS, FLOATS, MORE = bytes(range(125)) * 4, b"floats" * 22, b"prefix"
FOREIGN = (Note(b"CORE", 1, STATUS), Note(b"CORE", 2, FLOATS), Note(b"LINUX", 0x305, MORE), Note(b"CORE", 1, STATUS))


@pytest.mark.parametrize(
    ("architecture", "machine", "order", "bits"),
    [
        ("s390x", 22, ">", 64),
        ("ppc64", 21, "<", 64),
        ("riscv64", 243, "<", 64),
        ("x86", 3, "<", 32),
        ("mips", 8, ">", 32),
    ],
)
@pytest.mark.parametrize("form", ["elf", "kdump"])
def test_registers_of_every_architecture(form: str, architecture: str, machine: int, order: Any, bits: int) -> None:
    """The notes of a core go into another one as they are, as do those of a kdump, which does not tell its machine."""
    hints = elf_notes.hints([*FOREIGN, Note(b"VMCOREINFO", 0, VMCOREINFO)], machine, order, bits)
    facts = memory_facts(memory_of(PARTS[:2], hints=hints), None)
    assert (facts.architecture, facts.byte_order, 8 * facts.word_size) == (architecture, order, bits)
    assert left_out(facts) is None
    found = open_bytes(READERS[form], file_of(DUMPS[form].write(memory_of(PARTS[:2], hints=hints), facts, None)))
    assert found.hints.vmcoreinfo == VMCOREINFO
    assert found.hints.core is not None
    assert found.hints.core.data == b"".join(elf_notes.encoded(note, order) for note in FOREIGN)
    again = memory_facts(found, None)
    assert elf_notes.parse(dump_notes(again), order)[0][:-1] == FOREIGN


def test_what_notes_have_no_place_for_is_named() -> None:
    named = Facts("x86-64", cpus=(CpuState(0, {"cr3": 1, "rip": 2, "lstar": 3}), CpuState(1, {"efer": 1, "cr3": 5})))
    assert left_out(named) == "the registers efer, lstar of 2 processors, which do not fit into notes"
    assert left_out(Facts("arm64", cpus=(CpuState(0, {"pc": 1, "ttbr1": 2}),))) == (
        "the registers ttbr1 of 1 processor, which do not fit into notes"
    )
    assert left_out(Facts("riscv64", cpus=(CpuState(0, {"pc": 1}),))) == (
        "the registers pc of 1 processor, which do not fit into notes"
    )
    assert left_out(Facts("x86-64", cpus=CPUS[1:])) is None
    core = elf_notes.hints(FOREIGN, 22, ">", 64).core
    assert left_out(Facts("s390x", ">", core=core)) is None
    other = "the registers of 2 processors, because it is unknown whether they are this kernel's"
    assert left_out(Facts("riscv64", "<", core=core)) == other


@pytest.mark.parametrize("form", ["raw", "lime", "elf", "kdump"])
def test_holes_of_sparse_files_are_not_read(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are holes, or one blank page, of the copy too; progress counts what there is to read."""
    source, target = tmp_path / "source", tmp_path / "target"
    size, grain = 4 << 30, 1 << 20
    parts = {grain + 8: b"some", (2 << 30) - 4: b"across", size - 4096: b"end " * 1024} | (
        {} if form == "raw" else {size - 3 * grain: b"x"}
    )
    with source.open("wb") as file:
        file.truncate(size + 5 * grain)
        for place, data in parts.items():
            file.seek(place)
            file.write(data)
    if source.stat().st_blocks * 512 > size:
        pytest.skip("this file system stores holes")
    count = 0
    told: list[tuple[int, int]] = []
    read = BytesSegment.read

    def counted(self: BytesSegment, low: int = 0, high: int | None = None) -> NDArray[np.uint8]:
        nonlocal count
        part = read(self, low, high)
        count += len(part)
        return part

    with kallsift.open(source) as memory:
        monkeypatch.setattr(BytesSegment, "read", counted)
        facts = memory_facts(memory, None)
        pieces = DUMPS[form].write(memory, facts, lambda _, done, total: told.append((done, total)))
        output_file(target, permissions=PRIVATE).write_pieces(pieces)
        assert count < 8 * grain
        assert told[-1] == (memory.stored_size, memory.stored_size)
        assert told == sorted(told)
        monkeypatch.undo()
    assert target.stat().st_blocks * 512 < 32 * grain
    with kallsift.open(target) as copy:
        assert copy.size == size + 5 * grain
        for place, data in parts.items():
            around = copy.read(place - 64, 128 + len(data)).tobytes()
            assert around.strip(b"\0") == data
        assert not copy.read(3 << 30, grain).any()
        assert not copy.read(size, 5 * grain).any()
