"""Write the notes of a dump: the registers of each processor, and VMCOREINFO.

If the offsets of the registers are known (x86-64, arm64), notes are made as QEMU writes them. For all other
architectures the source's own notes are copied, if it is a core.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kallsift.memory.formats.core_notes import CoreNotes
from kallsift.memory.formats.elf_notes import (
    MACHINE_ARM64,
    MACHINE_X86_64,
    NT_PRSTATUS,
    PROCESS_STATUS,
    QEMU_CPU,
    QEMU_CPU_VERSION,
    ByteOrder,
    Note,
    encoded,
)
from kallsift.memory.memory import CpuState
from kallsift.output.dumps.machine_facts import Facts
from kallsift.output.elf.machines import MACHINES, UNKNOWN

KNOWN = {"x86-64": MACHINE_X86_64, "arm64": MACHINE_ARM64}
"""ELF machine numbers of architectures with known offsets of registers in notes."""

PROCESS = 32
"""Offset of the process's number in NT_PRSTATUS.

QEMU stores there the number of the processor, counted from 1.
"""


def dump_notes(facts: Facts) -> bytes:
    """Return all notes, one after the other.

    They are the NT_PRSTATUS notes of all processors, QEMU's notes of all processors, and VMCOREINFO.
    """
    vmcoreinfo = [] if facts.vmcoreinfo is None else [Note(b"VMCOREINFO", 0, facts.vmcoreinfo)]
    own = _own_notes(facts)
    made = () if own is not None else _made_notes(facts)
    registers = own.data if own is not None else b""
    return registers + b"".join(encoded(note, facts.byte_order) for note in (*made, *vmcoreinfo))


def left_out(facts: Facts) -> str | None:
    """Describe the source's registers that the notes lack; None if they lack nothing."""
    if _own_notes(facts) is not None:
        return None
    if facts.core is not None and not facts.cpus:
        return f"the registers of {_processors(facts.core.count)}, because it is unknown whether they are this kernel's"
    layout = PROCESS_STATUS.get(KNOWN.get(facts.architecture or "", 0))
    lacking: dict[str, None] = {}
    for cpu in facts.cpus:
        places = {*(layout.names or () if layout else ()), *(QEMU_CPU.names or () if "cr3" in cpu.registers else ())}
        lacking |= dict.fromkeys(name for name in cpu.registers if name not in places)
    if not lacking:
        return None
    count = _processors(len(facts.cpus))
    return f"the registers {', '.join(sorted(lacking))} of {count}, which do not fit into notes"


def registers_of(facts: Facts) -> str | None:
    """Describe the registers that a source records; None if it records none."""
    count = len(facts.cpus) or (facts.core.count if facts.core else 0)
    return f"the registers of {_processors(count)}" if count else None


def _processors(count: int) -> str:
    return "1 processor" if count == 1 else f"{count} processors"


def _own_notes(facts: Facts) -> CoreNotes | None:
    """Return the source's own notes, if they fit and no better ones can be made.

    They must be notes of the machine that is written.
    """
    core = facts.core
    if core is None or facts.architecture in KNOWN or core.byte_order != facts.byte_order:
        return None
    return core if core.machine in (0, MACHINES.get(facts.architecture or "", UNKNOWN).number) else None


def _made_notes(facts: Facts) -> Iterator[Note]:
    order: ByteOrder = facts.byte_order
    layout = PROCESS_STATUS.get(KNOWN.get(facts.architecture or "", 0))
    if layout is not None:
        for cpu in facts.cpus:
            status = bytearray(_record(cpu, layout.newbyteorder(order)))
            number = int.to_bytes(cpu.number + 1, 4, "big" if order == ">" else "little")
            status[PROCESS : PROCESS + 4] = number
            yield Note(b"CORE", NT_PRSTATUS, bytes(status))
    for cpu in facts.cpus:
        if "cr3" in cpu.registers:
            yield Note(b"QEMU", 0, _record(cpu, QEMU_CPU, version=QEMU_CPU_VERSION, size=QEMU_CPU.itemsize))


def _record(cpu: CpuState, layout: np.dtype[np.void], **others: int) -> bytes:
    """Return a structure with the known registers; the others are 0."""
    record = np.zeros(1, layout)
    values = {**cpu.registers, **others}
    for name in layout.names or ():
        record[name] = values.get(name, 0) & (1 << 8 * layout[name].itemsize) - 1
    return record.tobytes()
