"""VirtualBox' cores of machines (``VBoxManage debugvm VM dumpvmcore``) by dbgfcorefmt.h and DBGFCoreWrite.cpp.

The names of notes are counted without their NUL and padded to 8 bytes; program headers have no virtual address.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

VERSION = 0x00010006
CPU_SIZES = {0x00010004: 8768, 0x00010005: 8768, 0x00010006: 8784}
"""sizeof(DBGFCORECPU) by version of the format."""

_GENERAL = "rax rbx rcx rdx rsi rdi r8 r9 r10 r11 r12 r13 r14 r15 rip rsp rbp rflags"
_SELECTORS = "cs ds es fs gs ss"
_CONTROL = "cr0 cr2 cr3 cr4 dr0 dr1 dr2 dr3 dr4 dr5 dr6 dr7"
_SPECIAL = "efer star pat lstar cstar sfmask kernel_gs_base apic_base"


def processor(registers: Mapping[str, int], version: int = VERSION) -> bytes:
    """DBGFCORECPU: base, limit, attributes and selector of each segment; base and size of the descriptor tables."""

    def words(names: str) -> bytes:
        return b"".join(struct.pack("<Q", registers.get(name, 0)) for name in names.split())

    def selector(name: str) -> bytes:
        return struct.pack("<QIIHHI", registers.get(f"{name}_base", 0), 0xFFFFFFFF, 0xC093, 16, 0, 0)

    def table(name: str) -> bytes:
        return struct.pack("<QII", registers.get(f"{name}_base", 0), 0xFFF, 0)

    data = words(_GENERAL) + b"".join(map(selector, _SELECTORS.split())) + words(_CONTROL)
    data += (
        table("gdt") + table("idt") + selector("ldt") + selector("tr") + words("sysenter_cs sysenter_eip sysenter_esp")
    )
    return (data + words(_SPECIAL)).ljust(CPU_SIZES[version], b"\x5a")


def _note(name: bytes, kind: int, data: bytes) -> bytes:
    padded = name + bytes(8 - len(name) % 8)
    return struct.pack("<III", len(name), len(data), kind) + padded + data


def head(ranges: Sequence[tuple[int, int]], processors: Sequence[bytes], version: int = VERSION) -> bytes:
    """All that stands before the memory of some ranges (first address, size)."""
    descriptor = struct.pack("<6I", 0xC01AC0DE, version, 24, 0x07001000, 157163, len(processors))
    notes = _note(b"VBCORE", 0xB00, descriptor) + b"".join(_note(b"VBCPU", 0xB01, state) for state in processors)
    count = 1 + len(ranges)
    start = 64 + 56 * count
    table = struct.pack("<IIQQQQQQ", 4, 4, start, 0, 0, len(notes), len(notes), 0)
    offset = start + len(notes)
    for address, size in ranges:
        table += struct.pack("<IIQQQQQQ", 1, 4, offset, 0, address, size, size, 0)
        offset += size
    ident = b"\x7fELF" + bytes([2, 1]) + bytes(10)
    return ident + struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, count, 64, 0, 0) + table + notes


def core(parts: Iterable[tuple[int, bytes]], processors: Sequence[bytes], version: int = VERSION) -> bytes:
    """A whole core, small enough to be at hand."""
    parts = list(parts)
    return head([(start, len(data)) for start, data in parts], processors, version) + b"".join(
        data for _, data in parts
    )
