"""List the structures of ELF files that are written, and the numbers in them (System V gABI, chapters 4 and 5)."""

from __future__ import annotations

import numpy as np

PT_LOAD, PT_NOTE = 1, 4
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_NOTE, SHT_NOBITS = 1, 2, 3, 7, 8
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR = 1, 2, 4
PF_X, PF_W, PF_R = 1, 2, 4
ET_EXEC = 2

HEADER = "type:2 machine:2 version:4 entry:{w} phoff:{w} shoff:{w} flags:4 ehsize:2 phentsize:2 phnum:2 shentsize:2 shnum:2 shstrndx:2"  # noqa: E501 - one structure
SECTION = "name:4 type:4 flags:{w} addr:{w} offset:{w} size:{w} link:4 info:4 addralign:{w} entsize:{w}"
SEGMENT = {
    4: "type:4 offset:4 vaddr:4 paddr:4 filesz:4 memsz:4 flags:4 align:4",
    8: "type:4 flags:4 offset:8 vaddr:8 paddr:8 filesz:8 memsz:8 align:8",
}
SYMBOL = {4: "name:4 value:4 size:4 info:1 other:1 shndx:2", 8: "name:4 info:1 other:1 shndx:2 value:8 size:8"}
"""Structures by word size; ``{w}`` stands for it.

The header's structure comes behind its 16 bytes of identification.
"""


def record_type(order: str, fields: str) -> np.dtype[np.void]:
    """Return a packed structure, from words like ``name:4``.

    A word is a field and its width in bytes.
    """
    pairs = [field.split(":") for field in fields.split()]
    return np.dtype([(name, f"{order}u{width}") for name, width in pairs])


def identification(width: int, order: str) -> bytes:
    """Return the first 16 bytes of a file for words of some bytes, in a byte order."""
    return b"\x7fELF" + bytes([width // 4, 1 if order == "<" else 2, 1]).ljust(12, b"\0")
