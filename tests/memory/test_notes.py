"""Notes: the layouts against notes that QEMU really wrote, and hostile ones against the bounds."""

from __future__ import annotations

import base64
import struct
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kallsift.memory.formats.elf_notes import (
    MACHINE_386,
    MACHINE_ARM64,
    MACHINE_X86_64,
    NOTE_LIMIT,
    NT_PRPSINFO,
    NT_PRSTATUS,
    QEMU_CPU,
    QEMU_CPU_WITHOUT_KERNEL_GS,
    Note,
    hints,
    parse,
    program_name,
)
from tests.memory.builders import ByteOrder, note


def unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


# Written by QEMU 7.2 for processor 1 of a Debian 5.10 guest; the values beside it are what its monitor's
# "info registers" showed at the same moment.
QEMU_X86 = unpacked(
    "eNpjZGBg2MHIwOCwFkgAAYQE8j0/z3OZ9v9/0B4Ivx0qDpP/YMfhsG7P//8N95QbQerc0ORJBXyqH9f/BwI3JghfAIhBfIbZ6xnoAz6A/SsBs3fy"
    "eezKmlC5DqCwARLMnVCBB8wMDP+A+oGgHlnhAYT4f340M4HixgysDchCok0RUPM0WMAUXymKFgBeSznM"
)
QEMU_X86_REGISTERS = {
    "rax": 0x1AD40,
    "rbx": 1,
    "rcx": 0xFFFF96449EF34940,
    "rdx": 0xBC52,
    "rsi": 0x87,
    "rdi": 1,
    "rbp": 0xFFFF96448123DE80,
    "rsp": 0xFFFFBCAE40083EF0,
    "r8": 0x46,
    "r9": 1,
    "rip": 0xFFFFFFFFAFF1250E,
    "rflags": 0x246,
    "cs_selector": 0x10,
    "cs_limit": 0xFFFFFFFF,
    "cs_flags": 0xAF9B00,
    "ss_selector": 0x18,
    "gs_base": 0xFFFF96449EF00000,
    "tr_base": 0xFFFFFE000003E000,
    "gdt_base": 0xFFFFFE000003C000,
    "gdt_limit": 0x7F,
    "idt_base": 0xFFFFFE0000000000,
    "idt_limit": 0xFFF,
    "cr0": 0x80050033,
    "cr2": 0x588215,
    "cr3": 0x428E000,
    "cr4": 0x750EE0,
    "kernel_gs_base": 0,
}

# The same for an arm64 guest that ran "mov x0, #0x1234; mov sp, x0; mov x15, #0x5678; b ." from 0x40101000.
QEMU_ARM64 = unpacked("eNpjYMAPGBmoC0yEGAYEVIQxDCiA+ZtHQMABRB9lZnBADl8A8XsC0Q==")
QEMU_ARM64_REGISTERS = {"x0": 0x1234, "x1": 0, "x15": 0x5678, "sp": 0x1234, "pc": 0x4010100C, "pstate": 0x400003C5}


def test_layout_of_qemu() -> None:
    assert QEMU_CPU.itemsize == len(QEMU_X86) == 440
    assert QEMU_CPU_WITHOUT_KERNEL_GS.itemsize == 432


@pytest.mark.parametrize("machine", [MACHINE_X86_64, MACHINE_386])
def test_qemu_x86(machine: int) -> None:
    (cpu,) = hints([Note(b"QEMU", 0, QEMU_X86)], machine, "<").cpus
    assert cpu.number == 0
    assert {name: cpu.registers[name] for name in QEMU_X86_REGISTERS} == QEMU_X86_REGISTERS
    assert not {"version", "size", "cs_pad"} & set(cpu.registers)


def test_qemu_x86_of_old() -> None:
    (cpu,) = hints([Note(b"QEMU", 0, QEMU_X86[:432])], MACHINE_X86_64, "<").cpus
    assert cpu.registers["cr4"] == 0x750EE0
    assert "kernel_gs_base" not in cpu.registers


@pytest.mark.parametrize(
    "odd", [Note(b"QEMU", 0, QEMU_X86[:431]), Note(b"QEMU", 0, b"\2" + QEMU_X86[1:]), Note(b"QEMU", 1, QEMU_X86)]
)
def test_qemu_notes_of_another_layout_are_left_alone(odd: Note) -> None:
    assert hints([odd], MACHINE_X86_64, "<").cpus == ()


def test_qemu_note_wins_over_process_status() -> None:
    status = Note(b"CORE", NT_PRSTATUS, bytes(336))
    qemu = Note(b"QEMU", 0, QEMU_X86)
    cpus = hints([status, status, qemu, qemu], MACHINE_X86_64, "<").cpus
    assert [cpu.number for cpu in cpus] == [0, 1]
    assert all("cr3" in cpu.registers for cpu in cpus)


def test_process_status_of_x86() -> None:
    words = list(range(100, 127))
    data = bytes(112) + struct.pack("<27Q", *words) + bytes(8)
    (cpu,) = hints([Note(b"CORE", NT_PRSTATUS, data)], MACHINE_X86_64, "<").cpus
    assert cpu.registers["r15"] == 100
    assert (cpu.registers["rip"], cpu.registers["rsp"], cpu.registers["gs_base"]) == (116, 119, 122)


def test_process_status_of_arm64() -> None:
    (cpu,) = hints([Note(b"CORE", NT_PRSTATUS, QEMU_ARM64)], MACHINE_ARM64, "<").cpus
    assert {name: cpu.registers[name] for name in QEMU_ARM64_REGISTERS} == QEMU_ARM64_REGISTERS
    swapped = QEMU_ARM64[:112] + struct.pack(">34Q", *struct.unpack_from("<34Q", QEMU_ARM64, 112)) + bytes(8)
    assert hints([Note(b"CORE", NT_PRSTATUS, swapped)], MACHINE_ARM64, ">").cpus == (cpu,)


@pytest.mark.parametrize("machine", [MACHINE_X86_64, MACHINE_ARM64, 0])
def test_process_status_of_another_size_is_left_alone(machine: int) -> None:
    assert hints([Note(b"CORE", NT_PRSTATUS, bytes(144))], machine, "<").cpus == ()


def test_vmcoreinfo() -> None:
    text = b"OSRELEASE=5.10.0-32-amd64\nPAGESIZE=4096\n"
    parsed, whole = parse(note(b"CORE", 1, b"x") + note(b"VMCOREINFO", 0, text), "<")
    assert whole
    assert hints(parsed, MACHINE_X86_64, "<").vmcoreinfo == text
    assert hints(parsed[:1], MACHINE_X86_64, "<").vmcoreinfo is None


def test_program_name_needs_room() -> None:
    assert program_name([Note(b"CORE", NT_PRPSINFO, bytes(95))]) == ""
    assert program_name([Note(b"CORE", NT_PRPSINFO, b"ab\xff\0".ljust(96, b"\0"))]) == r"ab\xff"


NAMES = st.binary(max_size=12).map(lambda name: name.replace(b"\0", b"x"))
NOTES = st.lists(st.tuples(NAMES, st.integers(0, 2**32 - 1), st.binary(max_size=20)), max_size=6)


@given(NOTES, st.sampled_from(["<", ">"]))
def test_notes_read_back(expected: list[tuple[bytes, int, bytes]], order: ByteOrder) -> None:
    data = b"".join(note(name, kind, content, order) for name, kind, content in expected)
    parsed, whole = parse(data, order)
    assert whole
    assert [(one.name, one.kind, one.data) for one in parsed] == expected
    # Linux leaves zeros behind the notes of a processor.
    assert parse(data + bytes(40), order) == (parsed, True)


@given(st.binary(max_size=200), st.sampled_from(["<", ">"]))
def test_any_bytes_can_be_parsed(data: bytes, order: ByteOrder) -> None:
    parsed, _ = parse(data, order)
    for machine in (MACHINE_X86_64, MACHINE_ARM64):
        hints(parsed, machine, order)
    assert sum(len(one.data) for one in parsed) <= len(data)


@pytest.mark.parametrize("field", [0, 4])
def test_sizes_beyond_the_end(field: int) -> None:
    data = bytearray(note(b"CORE", 1, b"abcd") * 2)
    struct.pack_into("<I", data, len(data) // 2 + field, 2**32 - 1)
    parsed, whole = parse(bytes(data), "<")
    assert [one.data for one in parsed] == [b"abcd"]
    assert not whole


def test_number_of_notes_is_bounded() -> None:
    data = note(b"X", 1, b"") * (NOTE_LIMIT + 10)
    begin = time.process_time()
    parsed, whole = parse(data, "<")
    assert time.process_time() - begin < 10
    assert len(parsed) == NOTE_LIMIT
    assert not whole
