"""Processors in a Hyper-V saved state: the registers that the hypervisor's record of the partition has.

Format: Microsoft's openvmm, hvdef::save_restore (the hypervisor's own vm.h) and the builder of the record beside it.
All words are little-endian: a descriptor, then chunks, each with its kind and length before it. A guest's own kernel
runs at the lowest virtual trust level; what is above it is not of the guest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from kallsift.memory.memory import CpuState

DESCRIPTOR = struct.Struct("<QQQ")
"""Size of the descriptor, of all before the chunks but for `SKIPPED`, and of the whole."""
SKIPPED = 16
CHUNK = struct.Struct("<II8x")
"""Kind, and bytes that follow."""
LIMIT = 1 << 16
"""Chunks of a record: a processor has about twenty."""

PROLOG, EPILOG = 0, 0xF0000000
VENDOR, ARM = 8, 0x10
"""Where the prolog tells whose processors they are, and what it says of arm64."""
PROCESSOR, TRUST_LEVEL = 0x30001000, 0x3001A000
"""Chunks that say of which processor, and of which level, those behind them are."""

X86_REGISTERS = {
    0x30005000: {"rip": 128},
    0x30007000: {"cr0": 0, "cr3": 16, "cr4": 24},
    0x30009000: {"gs_base": 80},
    0x3000A000: {"idt_base": 8, "gdt_base": 24},
}
ARM_REGISTERS = {0x3000A000: {"ttbr0": 0, "ttbr1": 8, "vbar": 16}}
"""By kind of chunk: what `Hints` call a register, and where the chunk has it."""


def processors(record: bytes) -> tuple[CpuState, ...]:
    """The processors of a partition; none where its record is not as it is known."""
    chunks = list(_chunks(record))
    if not chunks or chunks[0][0] != PROLOG or chunks[-1][0] != EPILOG:
        return ()
    vendor = int.from_bytes(chunks[0][1][VENDOR : VENDOR + 4], "little")
    known = ARM_REGISTERS if vendor == ARM else X86_REGISTERS
    found: dict[int, dict[str, int]] = {}
    number = level = -1
    for kind, data in chunks:
        if kind == PROCESSOR:
            number, level = int.from_bytes(data[:4], "little"), 0
        elif kind == TRUST_LEVEL:
            level = int.from_bytes(data[:1], "little")
        elif level == 0:
            for register, place in known.get(kind, {}).items():
                if place + 8 <= len(data):
                    found.setdefault(number, {})[register] = int.from_bytes(data[place : place + 8], "little")
    return tuple(CpuState(each, found[each]) for each in sorted(found))


def _chunks(record: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each chunk, up to the epilog."""
    if len(record) < DESCRIPTOR.size:
        return
    _, place, _ = DESCRIPTOR.unpack_from(record)
    place += SKIPPED
    for _ in range(LIMIT):
        if place + CHUNK.size > len(record):
            return
        kind, size = CHUNK.unpack_from(record, place)
        place += CHUNK.size
        yield kind, record[place : place + size]
        if kind == EPILOG:
            return
        place += size
