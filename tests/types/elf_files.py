"""ELF files with one section of their own."""

from __future__ import annotations

import struct


def elf_with(content: bytes, name: str, bits: int = 64, order: str = "<") -> bytes:
    """An ELF file: its header, the names of its sections, its section headers, and last the content of a section."""
    word, names = "I" if bits == 32 else "Q", f"\0.shstrtab\0{name}\0".encode()
    header, row = struct.Struct(f"{order}HHI{word * 3}IHHHHHH"), struct.Struct(f"{order}II{word * 4}II{word * 2}")
    names_at = 16 + header.size
    table_at = names_at + len(names)
    content_at = table_at + 3 * row.size
    return (
        b"\x7fELF"
        + bytes([1 if bits == 32 else 2, 1 if order == "<" else 2, 1]).ljust(12, b"\0")
        + header.pack(2, 0, 1, 0, 0, table_at, 0, 16 + header.size, 0, 0, row.size, 3, 1)
        + names
        + row.pack(*[0] * 10)
        + row.pack(1, 3, 0, 0, names_at, len(names), 0, 0, 1, 0)
        + row.pack(11, 1, 0, 0, content_at, len(content), 0, 0, 1, 0)
        + content
    )
