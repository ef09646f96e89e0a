"""A real guest's memory in ELF cores as /proc/vmcore has them, of 64 and of 32 bits.

The program headers are those of kexec-tools: notes, the kernel's image, then the RAM, at the virtual addresses of the
kernel's image and direct map.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import kallsift
from tests.memory.builders import Bits, Program, elf, note, notes
from tests.real.comparison import text_of
from tests.real.conftest import Taken
from tests.real.ram import AT_ONCE, assert_same, ranges_of

DIRECT_MAP: dict[Bits, int] = {64: 0xFFFF888000000000, 32: 0xC0000000}

IMAGE = re.compile(rb"^ +([0-9a-f]+)-[0-9a-f]+ : Kernel code$.*?^ +[0-9a-f]+-([0-9a-f]+) : Kernel bss$", re.M | re.S)


@pytest.mark.parametrize(("guest", "bits"), [("amd64-7.2", 64), ("amd64-5.10", 64), ("i386-6.1-686", 32)])
@pytest.mark.parametrize("extended_count", [False, True])
def test_as_proc_vmcore(taken: Taken, tmp_path: Path, guest: str, bits: Bits, extended_count: bool) -> None:
    capture = taken(guest)
    ranges = ranges_of(capture)
    image = [(int(first, 16), int(last, 16)) for first, last in IMAGE.findall(capture.truth("iomem"))]
    parts = [(first, last + 1 - first) for first, last in (*image, *ranges)]
    with kallsift.open(capture.dump("elf")) as plain:
        said = [] if plain.hints.vmcoreinfo is None else [note(b"VMCOREINFO", 0, plain.hints.vmcoreinfo)]
        table = notes(note(b"CORE", 1, bytes(336 if bits == 64 else 144)), *said)
        start = 1 << 16
        programs = [table]
        for place, (address, size) in enumerate(parts):
            virtual = DIRECT_MAP[bits] + address if place else (1 << bits) - (1 << 31) + address
            programs.append(Program(1, b"", address, virtual, file_size=size, offset=start))
            start += size
        head = elf(programs, bits=bits, machine=62 if bits == 64 else 3, extended_count=extended_count)
        with (tmp_path / "vmcore").open("wb") as file:
            file.write(head.ljust(1 << 16, b"\0"))
            for address, size in parts:
                for offset in range(0, size, AT_ONCE):
                    plain.read(address + offset, min(AT_ONCE, size - offset)).tofile(file)
        with kallsift.open(tmp_path / "vmcore") as memory:
            assert memory.container == "ELF core"
            assert_same(memory, plain, ranges)
            assert memory.size == sum(size for _, size in parts[1:])
            kernel = kallsift.recover(memory)
    assert kernel.proven
    assert text_of(kernel) == capture.core_kallsyms()
