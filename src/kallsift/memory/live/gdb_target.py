"""Find the numbers of registers by the names in a GDB stub's target description.

Format: GDB's manual, appendix G, "Target Descriptions": each register has the number after the one before it, across
included files. Names of system registers: QEMU, target/i386 (gdb-xml/i386-64bit.xml) and target/arm (helper.c,
gdbstub64.c).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

NAMES = {
    "rip": "rip",
    "cr3": "cr3",
    "cr4": "cr4",
    "gs_base": "gs_base",
    "pc": "pc",
    "vbar": "vbar",
    "vbar_el1": "vbar",
    "ttbr1_el1": "ttbr1",
}
"""Names in descriptions, in lower case, and the names in `Hints`."""

GENERAL = {"rip": 16, "pc": 32}
"""Number of 8-byte words before rip of x86-64 and pc of arm64 in the packet ``g``, for stubs without a description."""

MOST_FILES = 64
MOST_REGISTERS = 1 << 14

_ITEM = re.compile(r"<reg\b(?P<register>[^>]{0,400})>|<xi:include\b(?P<include>[^>]{0,400})>")
_ATTRIBUTE = re.compile(r"""([\w:]+)\s*=\s*["']([^"']*)["']""")
_ARCHITECTURE = re.compile(r"<architecture>\s*([\w:.-]{1,64})\s*</architecture>")
_BIG_ENDIAN = ("powerpc", "s390", "sparc", "m68k")


class Register(NamedTuple):
    """A register's number, and its offset and size in the packet ``g``, in bytes."""

    number: int
    offset: int
    size: int


class GdbTarget(NamedTuple):
    """The registers of interest, and the byte order of their values."""

    registers: dict[str, Register]
    byte_order: str


def described(file: Callable[[str], str | None]) -> GdbTarget:
    """Return the target of a description.

    Args:
        file: function that returns a file of the description by its name; None where there is no such file.
    """
    registers: dict[str, Register] = {}
    number = offset = files = 0
    root = file("target.xml") or ""
    pending = [iter(_ITEM.finditer(root))]
    while pending and number < MOST_REGISTERS:
        item = next(pending[-1], None)
        if item is None:
            pending.pop()
            continue
        attributes = dict(_ATTRIBUTE.findall(item["register"] or item["include"] or ""))
        if item["include"] is not None:
            files += 1
            if files <= MOST_FILES and (text := file(attributes.get("href", ""))):
                pending.append(iter(_ITEM.finditer(text)))
            continue
        number = _number(attributes.get("regnum"), number)
        size = _number(attributes.get("bitsize"), 0) // 8
        name = NAMES.get(attributes.get("name", "").lower())
        if name and size in (4, 8):
            registers.setdefault(name, Register(number, offset, size))
        number, offset = number + 1, offset + size
    architecture = _ARCHITECTURE.search(root)
    big = bool(architecture and architecture[1].startswith(_BIG_ENDIAN))
    return GdbTarget(registers, "big" if big else "little")


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 6 else otherwise
