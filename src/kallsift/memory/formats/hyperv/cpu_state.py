"""Read the processors in a Hyper-V saved state from the hypervisor's record of the partition.

Format: Microsoft's openvmm, hvdef::save_restore (the hypervisor's own vm.h) and the builder of the record beside it.
All words are little-endian: a descriptor, then chunks, each with its kind and length before it. A guest's own kernel
runs at the lowest virtual trust level; higher levels do not belong to the guest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from kallsift.memory.memory import CpuState

DESCRIPTOR = struct.Struct("<QQQ")
"""Size of the descriptor, size of everything before the chunks without `SKIPPED`, and size of the whole."""
SKIPPED = 16
CHUNK = struct.Struct("<II8x")
"""Kind of a chunk, and number of bytes that follow."""
LIMIT = 1 << 16
"""Highest number of chunks of a record: a processor has about twenty."""

PROLOG, EPILOG = 0, 0xF0000000
VENDOR, ARM = 8, 0x10
"""Offset of the processors' vendor in the prolog, and its value for arm64."""
PROCESSOR, TRUST_LEVEL = 0x30001000, 0x3001A000
"""Chunks with the number of the processor, and of the level, of the chunks behind them."""

X86_REGISTERS = {
    0x30005000: {"rip": 128},
    0x30007000: {"cr0": 0, "cr3": 16, "cr4": 24},
    0x30009000: {"gs_base": 80},
    0x3000A000: {"idt_base": 8, "gdt_base": 24},
}
ARM_REGISTERS = {0x3000A000: {"ttbr0": 0, "ttbr1": 8, "vbar": 16}}
"""Registers by kind of chunk: the name in `Hints`, and the offset in the chunk."""


def processors(record: bytes) -> tuple[CpuState, ...]:
    """Return the processors of a partition; none if its record has an unknown form."""
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
    """Yield kind and content of each chunk, up to the epilog."""
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
