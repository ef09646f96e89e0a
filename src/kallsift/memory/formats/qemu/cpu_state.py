"""Read the processors in a QEMU migration stream, by the description of the stream at its end.

Format: QEMU, migration/savevm.c (qemu_savevm_state_complete_precopy_non_iterable), migration/vmstate.c (the
description), target/i386/machine.c (vmstate_x86_cpu), target/arm/machine.c (vmstate_arm_cpu); indexes of arm's system
registers, Linux' arch/arm64/include/uapi/asm/kvm.h (ARM64_SYS_REG). All words are big-endian.
"""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kallsift.memory.memory import CpuState

DESCRIPTION_LIMIT = 32 << 20
"""Highest size of a description in bytes: about 25 KiB a processor, besides some for each device."""
DESCRIPTION_TRIES = 8
"""Highest number of places that look like its beginning."""
DEVICES_LIMIT = 256 << 20
"""Number of bytes behind the RAM in which processors are searched for."""
PROCESSOR_LIMIT = 1 << 12
PROCESSOR_TRIES = 1 << 16
"""Highest number of places that look like a processor's section."""

_DESCRIPTION = re.compile(rb'\x06([\0-\x02][\0-\xff]{3})\{"')
_PROCESSOR = re.compile(rb"\x04([\0-\xff]{4})\x03cpu([\0-\xff]{4})[\0-\xff]{4}")

X86_REGISTERS = {
    "env.eip": "rip",
    "env.cr[0]": "cr0",
    "env.cr[3]": "cr3",
    "env.cr[4]": "cr4",
    "env.lstar": "lstar",
    "env.kernelgsbase": "kernel_gs_base",
    "env.idt.base": "idt_base",
    "env.gdt.base": "gdt_base",
}
"""Fields of the section "cpu", and their names in `Hints`."""
X86_SEGMENTS, X86_GS = "env.segs.base", 5
"""Field with the bases of all segment registers, and the index of GS in it."""

ARM_REGISTERS = {"env.pc": "pc"}
ARM_INDEXES, ARM_VALUES = "cpreg_vmstate_indexes", "cpreg_vmstate_values"
ARM_SYSTEM_REGISTERS = {0x603000000013C100: "ttbr0", 0x603000000013C101: "ttbr1", 0x603000000013C600: "vbar"}
"""TTBR0_EL1, TTBR1_EL1 and VBAR_EL1 (3, 0, 2, 0, 0; 3, 0, 2, 0, 1; 3, 0, 12, 0, 0)."""


class _Field(NamedTuple):
    """A field of a section: its offset, the distance of its elements, the size of one, and their number."""

    offset: int
    stride: int
    size: int
    elements: int


def processors(view: NDArray[np.uint8], position: int) -> tuple[CpuState, ...]:
    """Return the processors in the sections from ``position`` on.

    There are none if the stream does not describe itself.
    """
    described = _description(view, position)
    if not described:
        return ()
    layouts, end = described
    found: dict[int, CpuState] = {}
    candidates = _PROCESSOR.finditer(view.data, position, min(end, position + DEVICES_LIMIT))
    for match in islice(candidates, PROCESSOR_TRIES):
        identity, number = match[1], int.from_bytes(match[2], "big")
        fields, size = layouts.get(number, ({}, 0))
        content = view[match.end() : match.end() + size].tobytes()
        # If the description does not fit this section, the footer is not at its end.
        if view[match.end() + size : match.end() + size + 5].tobytes() != b"\x7e" + identity or not fields:
            continue
        registers = _registers(content, fields)
        if registers and number not in found and len(found) < PROCESSOR_LIMIT:
            found[number] = CpuState(number, registers)
    return tuple(found[number] for number in sorted(found))


def _description(view: NDArray[np.uint8], position: int) -> tuple[dict[int, tuple[dict[str, _Field], int]], int] | None:
    """Return fields and size of each section "cpu" by its number.

    Returns:
        These, and the offset of the description in the stream; None if there is no description.
    """
    candidates = _DESCRIPTION.finditer(view.data, max(position, len(view) - DESCRIPTION_LIMIT))
    for match in islice(candidates, DESCRIPTION_TRIES):
        size = int.from_bytes(match[1], "big")
        if match.start() + 5 + size > len(view):
            continue
        try:
            devices = json.loads(view[match.start() + 5 : match.start() + 5 + size].tobytes())["devices"]
            layouts = {int(device["instance_id"]): _layout(device) for device in devices if device.get("name") == "cpu"}
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            continue
        return layouts, match.start()
    return None


def _layout(described: dict[str, Any]) -> tuple[dict[str, _Field], int]:
    """Return the fields of a section by name, and its size with subsections.

    Fields of structures are called ``structure.field``.
    """
    fields: dict[str, _Field] = {}
    offset = 0
    for item in described.get("fields", ()):
        size, count = int(item["size"]), int(item.get("array_len", 1))
        fields[item["name"]] = _Field(offset, size, size, count)
        inner = offset
        for part in item.get("struct", {}).get("fields", ()):
            fields[f"{item['name']}.{part['name']}"] = _Field(inner, size, int(part["size"]), count)
            inner += int(part["size"]) * int(part.get("array_len", 1))
        offset += size * count
    for subsection in described.get("subsections", ()):
        # a subsection begins with a mark, the length of its name, the name, and its version
        offset += 1 + 1 + len(subsection["vmsd_name"]) + 4 + _layout(subsection)[1]
    return fields, offset


def _registers(content: bytes, fields: dict[str, _Field]) -> dict[str, int]:
    registers = {}
    for known in (X86_REGISTERS, ARM_REGISTERS):
        for name, register in known.items():
            if name in fields:
                registers[register] = _value(content, fields[name])
    if X86_SEGMENTS in fields and fields[X86_SEGMENTS].elements > X86_GS:
        registers["gs_base"] = _value(content, fields[X86_SEGMENTS], X86_GS)
    indexes, values = fields.get(ARM_INDEXES), fields.get(ARM_VALUES)
    if indexes and values and indexes.elements == values.elements and indexes.elements * 8 <= len(content):
        for number in range(indexes.elements):
            if (index := _value(content, indexes, number)) in ARM_SYSTEM_REGISTERS:
                registers[ARM_SYSTEM_REGISTERS[index]] = _value(content, values, number)
    return registers


def _value(content: bytes, field: _Field, number: int = 0) -> int:
    start = field.offset + number * field.stride
    return int.from_bytes(content[start : start + min(field.size, 8)], "big")
