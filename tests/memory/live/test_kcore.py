"""/proc/kcore: what of it is RAM, whatever the age of the kernel; blocks that it refuses; copies, whole and damaged."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kallsift
from kallsift.errors import SourceError
from kallsift.memory.formats import proc_kcore
from kallsift.memory.live.open import open_live
from kallsift.memory.memory import AddressSpace, Memory
from tests.fuzz.samples import SAMPLES
from tests.memory.builders import Program, elf, load, note, notes
from tests.memory.opened import open_bytes, ranges, read_or_refuse, refusal
from tests.memory.strategies import damaged

NOWHERE = (1 << 64) - 1
DIRECT, IMAGE, VMALLOC, MODULES = 0xFFFF888000000000, 0xFFFFFFFF81000000, 0xFFFFC90000000000, 0xFFFFFFFFC0000000
RAM = bytes(range(256)) * 64
TEXT = notes(note(b"CORE", 1, bytes(336)), note(b"VMCOREINFO", 0, b"OSRELEASE=1\n"))


def x86(*, image: int, ram: int, mapped: int) -> list[Program]:
    """As x86-64 lists them, with these physical addresses: the image first, which is in RAM as well."""
    return [
        TEXT,
        Program(1, RAM[4096:8192], image, IMAGE),
        Program(1, b"", mapped, VMALLOC, file_size=1 << 45, offset=1 << 46),
        Program(1, b"", mapped, MODULES, file_size=1 << 30, offset=1 << 47),
        Program(1, RAM, ram, DIRECT + 0x1000),
    ]


NEW = elf(x86(image=0x2000, ram=0x1000, mapped=NOWHERE))


def live(tmp_path: Path, content: bytes) -> Memory:
    (tmp_path / "kcore").write_bytes(content)
    return proc_kcore.open_live("kcore", str(tmp_path / "kcore"))


def test_ram_is_at_its_physical_addresses(tmp_path: Path) -> None:
    with live(tmp_path, NEW) as memory:
        assert (memory.space, memory.container) == (AddressSpace.PHYSICAL, "/proc/kcore")
        assert ranges(memory) == {0x1000: RAM}
        assert memory.hints.vmcoreinfo == b"OSRELEASE=1\n"
        assert memory.hints.cpus == ()
        assert memory.refreshed is not None
        assert ranges(memory.refreshed()) == {0x1000: RAM}


@pytest.mark.parametrize("physical", [0, NOWHERE])
def test_ram_is_where_the_direct_map_has_it_if_nothing_tells_more(tmp_path: Path, physical: int) -> None:
    """Of kernels before 4.11; what is mapped page by page is no RAM, nor is the image, which is in RAM as well."""
    programs = [
        *x86(image=physical, ram=physical, mapped=physical),
        Program(1, b"array of pages", physical, 0xFFFFEA0000000000),
        Program(1, RAM[:4096], physical, DIRECT + 0x1_0000_0000),
    ]
    content = elf(programs)
    with live(tmp_path, content) as memory:
        assert memory.space is AddressSpace.PHYSICAL
        assert ranges(memory) == {0x1000: RAM, 0x1_0000_0000: RAM[:4096]}
    assert ranges(open_bytes(proc_kcore, content)) == {0x1000: RAM, 0x1_0000_0000: RAM[:4096]}


@pytest.mark.parametrize("big", [False, True])
def test_copies_of_32_bits_without_physical_addresses(big: bool) -> None:
    programs = [
        TEXT,
        Program(1, RAM, 0, 0xC0001000),
        Program(1, RAM, 0, 0xC0100000),
        Program(1, b"vmalloc", 0, 0xF8800000),
    ]
    content = elf(programs, bits=32, machine=3, order=">" if big else "<")
    assert proc_kcore.probe(content)
    memory = open_bytes(proc_kcore, content)
    assert (memory.space, ranges(memory)) == (AddressSpace.PHYSICAL, {0x1000: RAM, 0x100000: RAM})


def test_a_programs_core_is_no_copy() -> None:
    assert not proc_kcore.probe(elf([TEXT, Program(1, RAM, 0, 0x400000), Program(1, RAM, 0, 0xFFFFFFFFFF600000)]))
    assert not proc_kcore.probe(elf([TEXT, Program(1, RAM, 0, 0x8048000), Program(1, RAM, 0, 0xBFFF0000)], bits=32))
    assert not proc_kcore.probe(elf([TEXT, Program(1, RAM, 0, DIRECT)]))


def test_the_image_is_read_where_it_is_mapped_without_a_direct_map(tmp_path: Path) -> None:
    programs = x86(image=0, ram=0, mapped=0)[:-1]
    with live(tmp_path, elf(programs)) as memory:
        assert (memory.space, ranges(memory)) == (AddressSpace.VIRTUAL, {IMAGE: RAM[4096:8192]})


def test_other_architectures_without_physical_addresses(tmp_path: Path) -> None:
    programs = [TEXT, Program(1, b"", 0, VMALLOC, file_size=1 << 45, offset=1 << 46), Program(1, RAM, 0, 0x80000000)]
    with live(tmp_path, elf(programs, bits=64, machine=8)) as memory:
        assert (memory.space, ranges(memory)) == (AddressSpace.VIRTUAL, {0x80000000: RAM})


def test_nothing_is_read_once_it_is_closed(tmp_path: Path) -> None:
    with live(tmp_path, NEW) as memory:
        pass
    with pytest.raises(SourceError, match="kcore: is closed; open it again, and read it before it is closed"):
        memory.read(memory.segments[0].start, 1)
    memory.close()


def test_what_the_kernel_refuses_is_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = elf(
        [TEXT, load(0x1000, RAM, DIRECT), Program(1, b"", NOWHERE, VMALLOC, file_size=1 << 45, offset=1 << 46)]
    )
    start = content.index(RAM)
    refused = range(start // 4096 * 4096 + 4096, start // 4096 * 4096 + 8192)
    read = os.preadv

    def preadv(descriptor: int, buffers: list[memoryview], place: int) -> int:
        if place in refused:
            raise OSError(14, "Bad address")
        return read(descriptor, [buffers[0][: refused.start - place] if place < refused.start else buffers[0]], place)

    monkeypatch.setattr(os, "preadv", preadv)
    with live(tmp_path, content) as memory:
        found = memory.read(0x1000, len(RAM)).tobytes()
    low, high = refused.start - start, refused.stop - start
    assert found == RAM[:low] + bytes(4096) + RAM[high:]


def test_copies() -> None:
    memory = open_bytes(proc_kcore, NEW)
    assert (memory.container, ranges(memory), memory.notes) == ("copy of /proc/kcore", {0x1000: RAM}, ())
    cut = open_bytes(proc_kcore, NEW[:-100])
    assert ranges(cut) == {0x1000: RAM[:-100]}
    assert cut.notes == ("100 bytes of RAM are beyond the end of this copy",)
    assert "holds no RAM" in refusal(proc_kcore, NEW[: NEW.index(RAM)])


def test_copies_are_told_by_their_headers(tmp_path: Path) -> None:
    (tmp_path / "anything").write_bytes(NEW)
    with kallsift.open(tmp_path / "anything") as memory:
        assert memory.container == "copy of /proc/kcore"
    assert not proc_kcore.probe(elf([TEXT, load(0x1000, RAM)]))
    assert not proc_kcore.probe(elf([]))
    assert not proc_kcore.probe(elf([Program(1, b"", NOWHERE)], kind=2))
    assert not proc_kcore.probe(b"\x7fELF")


def test_only_what_takes_no_room_is_alive(tmp_path: Path) -> None:
    path = tmp_path / "kcore"
    path.write_bytes(NEW)
    os.sync()
    assert not proc_kcore.lives(str(path))
    path.write_bytes(b"")
    assert proc_kcore.lives(str(path))
    assert not proc_kcore.lives(str(tmp_path))
    assert not proc_kcore.lives("\0")
    with pytest.raises(SourceError, match="kcore"):
        open_live(path)


def test_nobody_may_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    (tmp_path / "kcore").write_bytes(b"")
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SourceError, match=r"Operation not permitted.*run as root"):
        proc_kcore.open_live("/proc/kcore", str(tmp_path / "kcore"))


def test_ranges_that_overlap_or_leave_the_address_space() -> None:
    far = Program(1, RAM, NOWHERE - 1000, DIRECT)
    programs = [TEXT, far, load(0x1000, RAM), load(0x3000, RAM), Program(1, b"x", NOWHERE, VMALLOC)]
    assert ranges(open_bytes(proc_kcore, elf(programs))) == {0x1000: RAM}


@given(st.data())
def test_damaged_copies(data: st.DataObject) -> None:
    (sample,) = SAMPLES["proc_kcore"]
    read_or_refuse(proc_kcore, data.draw(damaged(sample())))


def test_views_are_of_the_copy() -> None:
    (segment,) = open_bytes(proc_kcore, NEW).segments
    assert not np.asarray(segment.read()).flags.owndata
