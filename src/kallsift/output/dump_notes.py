"""The notes of a dump: the registers of each processor, as QEMU writes them, and VMCOREINFO."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kallsift.memory.model import CpuState
from kallsift.memory.notes import (
    MACHINE_ARM64,
    MACHINE_X86_64,
    NOTE_HEADER,
    NT_PRSTATUS,
    PROCESS_STATUS,
    QEMU_CPU,
    QEMU_CPU_VERSION,
    ByteOrder,
)
from kallsift.output.memory_facts import Facts

MACHINES = {"x86-64": MACHINE_X86_64, "arm64": MACHINE_ARM64}
"""ELF machine numbers of those whose registers have a known place in notes."""

PROCESS = 32
"""Where NT_PRSTATUS has the process's number; QEMU has that of the processor there, counted from 1."""


def dump_notes(facts: Facts) -> bytes:
    """All notes, one after the other: NT_PRSTATUS of each processor, QEMU's of each, VMCOREINFO."""
    order = facts.byte_order
    return b"".join(_note(order, *note) for note in _notes(facts, order))


def _notes(facts: Facts, order: ByteOrder) -> Iterator[tuple[bytes, int, bytes]]:
    layout = PROCESS_STATUS.get(MACHINES.get(facts.architecture or "", 0))
    if layout is not None:
        for cpu in facts.cpus:
            status = bytearray(_record(cpu, layout.newbyteorder(order)))
            number = int.to_bytes(cpu.number + 1, 4, "big" if order == ">" else "little")
            status[PROCESS : PROCESS + 4] = number
            yield b"CORE", NT_PRSTATUS, bytes(status)
    for cpu in facts.cpus:
        if "cr3" in cpu.registers:
            yield b"QEMU", 0, _record(cpu, QEMU_CPU, version=QEMU_CPU_VERSION, size=QEMU_CPU.itemsize)
    if facts.vmcoreinfo is not None:
        yield b"VMCOREINFO", 0, facts.vmcoreinfo


def _record(cpu: CpuState, layout: np.dtype[np.void], **others: int) -> bytes:
    """A structure with the registers that are known; the others are 0."""
    record = np.zeros(1, layout)
    values = {**cpu.registers, **others}
    for name in layout.names or ():
        record[name] = values.get(name, 0) & (1 << 8 * layout[name].itemsize) - 1
    return record.tobytes()


def _note(order: ByteOrder, name: bytes, kind: int, data: bytes) -> bytes:
    name += b"\0"
    header = np.array([(len(name), len(data), kind)], NOTE_HEADER.newbyteorder(order)).tobytes()
    return header + name + bytes(-len(name) % 4) + data + bytes(-len(data) % 4)
