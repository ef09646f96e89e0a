"""Read the notes of ELF cores: registers of processors, VMCOREINFO, and whether it is a machine's or a program's core.

Notes are hints, so a note that cannot be read is left out and is never an error.

Sources: notes in general, System V gABI, chapter 5, "Note Section"; the note "QEMU", QEMU's target/i386/arch_dump.c
(struct QEMUCPUState, checked against QEMU's own ``info registers``); VBCORE and VBCPU, VirtualBox' dbgfcorefmt.h and
DBGFCoreWrite.cpp (checked against Tetrane's reader of versions 4 to 6); NT_PRSTATUS and NT_PRPSINFO, Linux'
include/linux/elfcore.h with struct user_regs_struct of x86-64 and struct user_pt_regs of arm64; VMCOREINFO, Linux'
Documentation/admin-guide/kdump/vmcoreinfo.rst.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kallsift.memory.formats.core_notes import CoreNotes
from kallsift.memory.memory import CpuState, Hints, printable

ByteOrder = Literal["<", ">"]
"""Byte order as NumPy and `struct` spell it."""

NOTE_LIMIT = 1 << 16
"""Highest number of notes: thousands of processors with a handful each; more only waste time."""

MACHINE_386 = 3
MACHINE_X86_64 = 62
MACHINE_ARM64 = 183

NT_PRSTATUS = 1
NT_PRPSINFO = 3
NT_AUXV = 6
NT_SIGINFO = 0x53494749
NT_FILE = 0x46494C45

PROCESSOR_NOTES = (b"CORE", b"LINUX", b"QEMU")
"""Names of notes with registers, of all architectures (include/uapi/linux/elf.h)."""

NOTE_HEADER = np.dtype([("name_size", "u4"), ("data_size", "u4"), ("kind", "u4")])

_QEMU_NAMED = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp"]
_QEMU_GENERAL = [*_QEMU_NAMED, *(f"r{number}" for number in range(8, 16)), "rip", "rflags"]
_QEMU_SEGMENTS = ["cs", "ds", "es", "fs", "gs", "ss", "ldt", "tr", "gdt", "idt"]
_QEMU_FIELDS = [
    ("version", "<u4"),
    ("size", "<u4"),
    *((register, "<u8") for register in _QEMU_GENERAL),
    *(
        (f"{segment}_{part}", width)
        for segment in _QEMU_SEGMENTS
        for part, width in (("selector", "<u4"), ("limit", "<u4"), ("flags", "<u4"), ("pad", "<u4"), ("base", "<u8"))
    ),
    *((f"cr{number}", "<u8") for number in range(5)),
    ("kernel_gs_base", "<u8"),
]
QEMU_CPU = np.dtype(_QEMU_FIELDS)
"""QEMU's state of one x86 processor, 440 bytes."""
QEMU_CPU_WITHOUT_KERNEL_GS = np.dtype(_QEMU_FIELDS[:-1])
"""The state from QEMU before it wrote ``kernel_gs_base``, 432 bytes; the version number is the same."""
QEMU_CPU_VERSION = 1
_QEMU_NO_REGISTERS = {"version", "size", *(f"{segment}_pad" for segment in _QEMU_SEGMENTS)}

VIRTUALBOX_CORE, VIRTUALBOX_CPU_NOTE = (b"VBCORE", 0xB00), (b"VBCPU", 0xB01)
"""Name and kind of the note on the whole core, and of that on each processor."""
VIRTUALBOX_MAGIC = 0xC01AC0DE
VIRTUALBOX_VERSIONS = (0x00010004, 0x00010005, 0x00010006)
"""DBGFCORE_FMT_VERSION of cores whose DBGFCORECPU begins as `VIRTUALBOX_CPU`; 4.0's has VirtualBox' internal state."""
VIRTUALBOX_DESCRIPTOR = np.dtype([("magic", "<u4"), ("version", "<u4")])
_VIRTUALBOX_OFFSETS = {
    "rip": 112,
    "gs_base": 240,
    "cr0": 288,
    "cr3": 304,
    "cr4": 312,
    "gdt_base": 384,
    "idt_base": 400,
    "lstar": 512,
    "kernel_gs_base": 536,
}
VIRTUALBOX_CPU = np.dtype(
    {
        "names": list(_VIRTUALBOX_OFFSETS),
        "formats": ["<u8"] * len(_VIRTUALBOX_OFFSETS),
        "offsets": list(_VIRTUALBOX_OFFSETS.values()),
        "itemsize": 544,
    }
)
"""VirtualBox' state of one processor, as far as it is the same in all versions."""


def _process_status(size: int, registers: str) -> np.dtype[np.void]:
    """Return the dtype of NT_PRSTATUS on a 64-bit machine.

    Args:
        size: size in bytes.
        registers: names of the registers in their order, which are words from byte 112 on.
    """
    names = registers.split()
    return np.dtype(
        {
            "names": names,
            "formats": ["u8"] * len(names),
            "offsets": [112 + 8 * position for position in range(len(names))],
            "itemsize": size,
        }
    )


PROCESS_STATUS = {
    MACHINE_X86_64: _process_status(
        336,
        "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs_selector rflags rsp ss_selector "
        "fs_base gs_base ds_selector es_selector fs_selector gs_selector",
    ),
    MACHINE_ARM64: _process_status(392, " ".join([*(f"x{number}" for number in range(31)), "sp pc pstate"])),
}
"""Layout of NT_PRSTATUS by ELF machine number."""


@dataclass(frozen=True)
class Note:
    """One note: its writer's name (without the closing NUL), its kind, and its bytes."""

    name: bytes
    kind: int
    data: bytes


def parse(data: bytes, byte_order: ByteOrder, limit: int = NOTE_LIMIT) -> tuple[tuple[Note, ...], bool]:
    """Return the notes in ``data``, and whether all of it could be read.

    Names and data are padded to 4 bytes, in ELF64 too, as Linux and QEMU write them. An entry without a name ends the
    list, because Linux fills the unused rest of a processor's notes with zeros.
    """
    layout = NOTE_HEADER.newbyteorder(byte_order)
    notes: list[Note] = []
    position = 0
    while position + layout.itemsize <= len(data):
        header = np.frombuffer(data, layout, 1, position)[0]
        name_size, data_size, kind = (int(field) for field in header)
        if not name_size:
            break
        name_start = position + layout.itemsize
        data_start = name_start + _padded(name_size)
        if data_start + data_size > len(data) or len(notes) == limit:
            return tuple(notes), False
        name = data[name_start : name_start + name_size].rstrip(b"\0")
        notes.append(Note(name, kind, data[data_start : data_start + data_size]))
        position = data_start + _padded(data_size)
    return tuple(notes), True


def hints(notes: Iterable[Note], machine: int, byte_order: ByteOrder, bits: int | None = None) -> Hints:
    """Return the hints about a machine in notes.

    Processors are numbered in the order of their notes. VirtualBox writes only notes of its own. QEMU writes both
    NT_PRSTATUS and a note of its own on x86; its own is preferred, because only that one has control registers.

    Args:
        notes: all notes of the core.
        machine: ELF machine number; 0 if it is unknown.
        byte_order: byte order of the core.
        bits: width of its words; None if it is unknown.
    """
    notes = tuple(notes)
    states = [
        state
        for note in notes
        if note.name == b"QEMU" and note.kind == 0 and machine in (MACHINE_386, MACHINE_X86_64)
        if (state := _qemu_registers(note.data))
    ]
    states = states or _virtualbox_states(notes)
    layout = PROCESS_STATUS.get(machine)
    if not states and layout is not None:
        layout = layout.newbyteorder(byte_order)
        states = [
            _registers(note.data, layout)
            for note in notes
            if note.name == b"CORE" and note.kind == NT_PRSTATUS and len(note.data) == layout.itemsize
        ]
    return Hints(
        cpus=tuple(CpuState(number, registers) for number, registers in enumerate(states)),
        vmcoreinfo=next((note.data for note in notes if note.name == b"VMCOREINFO"), None),
        core=_of_processors(notes, machine, byte_order, bits),
    )


def encoded(note: Note, byte_order: ByteOrder) -> bytes:
    """Return a note's bytes, its name closed by a NUL, all padded to 4 bytes."""
    name = note.name + b"\0"
    header = np.array([(len(name), len(note.data), note.kind)], NOTE_HEADER.newbyteorder(byte_order)).tobytes()
    return header + name + bytes(-len(name) % 4) + note.data + bytes(-len(note.data) % 4)


def _of_processors(notes: tuple[Note, ...], machine: int, byte_order: ByteOrder, bits: int | None) -> CoreNotes | None:
    """Return the notes with registers; None if there are none."""
    own = [note for note in notes if note.name in PROCESSOR_NOTES]
    count = sum(note.kind == NT_PRSTATUS and note.name == b"CORE" for note in own)
    if not count:
        return None
    return CoreNotes(machine, bits, byte_order, count, b"".join(encoded(note, byte_order) for note in own))


def of_machine(notes: Iterable[Note]) -> bool:
    """Tell whether any of the notes occurs only in cores of machines."""
    return any(note.name in (b"QEMU", b"VMCOREINFO", b"VBCORE", b"Xen") for note in notes)


def of_program(notes: Iterable[Note]) -> bool:
    """Tell whether any of the notes occurs only in cores of user programs."""
    return any(note.name == b"CORE" and note.kind in (NT_AUXV, NT_SIGINFO, NT_FILE) for note in notes)


def program_name(notes: Iterable[Note]) -> str:
    """Return the name of the program that dumped core, safe to print.

    It is empty if no note tells.
    """
    for note in notes:
        if note.name == b"CORE" and note.kind == NT_PRPSINFO and len(note.data) >= 96:
            # The width of the fields before differs between machines; pr_fname[16] and pr_psargs[80] always come last.
            return printable(note.data[-96:-80].split(b"\0")[0].decode("utf-8", "backslashreplace"))
    return ""


def _padded(size: int) -> int:
    return size + -size % 4


def _qemu_registers(data: bytes) -> dict[str, int]:
    for layout in (QEMU_CPU, QEMU_CPU_WITHOUT_KERNEL_GS):
        if len(data) >= layout.itemsize:
            fields = _registers(data, layout)
            if fields["version"] != QEMU_CPU_VERSION:
                break
            return {name: value for name, value in fields.items() if name not in _QEMU_NO_REGISTERS}
    return {}


def _virtualbox_states(notes: tuple[Note, ...]) -> list[dict[str, int]]:
    """Return the registers of VirtualBox' processors; none if the version is unknown."""
    descriptors = (note.data for note in notes if (note.name, note.kind) == VIRTUALBOX_CORE)
    descriptor = _registers(next(descriptors, b"").ljust(VIRTUALBOX_DESCRIPTOR.itemsize, b"\0"), VIRTUALBOX_DESCRIPTOR)
    if descriptor["magic"] != VIRTUALBOX_MAGIC or descriptor["version"] not in VIRTUALBOX_VERSIONS:
        return []
    return [
        _registers(note.data, VIRTUALBOX_CPU)
        for note in notes
        if (note.name, note.kind) == VIRTUALBOX_CPU_NOTE and len(note.data) >= VIRTUALBOX_CPU.itemsize
    ]


def _registers(data: bytes, layout: np.dtype[np.void]) -> dict[str, int]:
    record = np.frombuffer(data, layout, 1)[0]
    return {name: int(record[name]) for name in layout.names or ()}
