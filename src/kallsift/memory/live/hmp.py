"""Parse the output of QEMU's human monitor: the memory map, registers, and host addresses of guest memory.

Formats: QEMU, softmmu/memory.c (mtree_print_flatview), target/i386/cpu-dump.c, target/arm/cpu.c
(aarch64_cpu_dump_state), monitor/misc.c and softmmu/memory.c (gpa2hva).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kallsift.memory.memory import CpuState

MOST_RANGES = 1 << 12
MOST_PROCESSORS = 1 << 12

SYSTEM_MEMORY = ' AS "memory"'
"""Line of the processors' address space in the header of its flat view."""

_RANGE = re.compile(
    r"^ +(?P<first>[0-9a-f]{16})-(?P<last>[0-9a-f]{16}) \(prio -?\d+, (?P<kind>[\w-]+)\): (?P<region>\S+?)"
    r"(?: @(?P<offset>[0-9a-f]{16}))?(?: .*)?$",
    re.MULTILINE,
)

_REGISTERS = {
    name: re.compile(pattern, re.MULTILINE)
    for name, pattern in {
        "rip": r"\bRIP=([0-9a-f]{16})\b",
        "eip": r"\bEIP=([0-9a-f]{8})\b",
        "cr0": r"\bCR0=([0-9a-f]+)\b",
        "cr3": r"\bCR3=([0-9a-f]+)\b",
        "cr4": r"\bCR4=([0-9a-f]+)\b",
        "gs_base": r"^GS =[0-9a-f]+ ([0-9a-f]+)\b",
        "gdt_base": r"^GDT= +([0-9a-f]+)\b",
        "idt_base": r"^IDT= +([0-9a-f]+)\b",
        "pc": r"^ ?PC=([0-9a-f]{16})\b",
    }.items()
}
"""Registers by their names in `Hints`, and patterns of the monitor's output for x86 and arm64."""

_HOST_ADDRESS = re.compile(r" is 0x([0-9a-f]{1,16})\s*$")


class Ram(NamedTuple):
    """Guest memory: its physical address, its size, QEMU's name of the region, and the offset in the region."""

    start: int
    size: int
    region: str
    offset: int


def ram(memory_map: str) -> list[Ram]:
    """Return the RAM in the answer to ``info mtree -f``, by address."""
    views = [view for view in memory_map.split("FlatView #") if SYSTEM_MEMORY in view] or [memory_map]
    rows = [row for _, row in zip(range(MOST_RANGES), _RANGE.finditer(views[0]), strict=False)]
    # RAM that the chip set has made read-only is called ROM
    regions = {row["region"] for row in rows if row["kind"] == "ram"}
    found: list[Ram] = []
    for row in rows:
        start, end = int(row["first"], 16), int(row["last"], 16) + 1
        if row["kind"] not in ("ram", "rom") or row["region"] not in regions or end <= start:
            continue
        part = Ram(start, end - start, row["region"], int(row["offset"] or "0", 16))
        before = found[-1] if found else None
        if before and _continued(before, part):
            found[-1] = before._replace(size=before.size + part.size)
        elif not before or before.start + before.size <= part.start:
            found.append(part)
    return found


def _continued(before: Ram, part: Ram) -> bool:
    joined = (before.start + before.size, before.region, before.offset + before.size)
    return joined == (part.start, part.region, part.offset)


def processors(text: str) -> tuple[CpuState, ...]:
    """Return the processors in the answer to ``info registers -a``."""
    parts = re.split(r"^CPU#(\d{1,9})", text, flags=re.MULTILINE)
    numbered = list(zip(parts[1::2], parts[2::2], strict=True)) or [("0", text)]
    states = []
    for number, content in numbered[:MOST_PROCESSORS]:
        found = {name: match for name, pattern in _REGISTERS.items() if (match := pattern.search(content))}
        if found:
            states.append(CpuState(int(number), {name: int(match[1], 16) for name, match in found.items()}))
    return tuple(states)


def host_address(text: str) -> int | None:
    """Return the address in QEMU's own memory in the answer to ``gpa2hva``.

    The result is None if there is none.
    """
    match = _HOST_ADDRESS.search(text)
    return int(match[1], 16) if match else None
