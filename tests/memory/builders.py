"""Writers of small LiME and ELF files, independent of the readers under test: they know the formats by `struct`."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

ByteOrder = Literal["<", ">"]
Bits = Literal[32, 64]
Range = tuple[int, bytes]
"""Physical address and bytes."""


def lime_header(start: int, end: int, *, magic: int = 0x4C694D45, version: int = 1, order: ByteOrder = "<") -> bytes:
    """One LiME range header; ``end`` is inclusive."""
    return struct.pack(f"{order}IIQQQ", magic, version, start, end, 0)


def lime(ranges: Iterable[Range], order: ByteOrder = "<") -> bytes:
    """A LiME dump of ``ranges``."""
    return b"".join(lime_header(start, start + len(data) - 1, order=order) + data for start, data in ranges)


def note(name: bytes, kind: int, data: bytes, order: ByteOrder = "<") -> bytes:
    """One ELF note, padded to 4 bytes; ``name`` goes without its NUL."""

    def padded(part: bytes) -> bytes:
        return part + bytes(-len(part) % 4)

    name += b"\0"
    return struct.pack(f"{order}III", len(name), len(data), kind) + padded(name) + padded(data)


@dataclass
class Program:
    """One program header; sizes default to those of ``data``, which the builder places in the file."""

    kind: int
    data: bytes = b""
    physical: int = 0
    virtual: int = 0
    file_size: int | None = None
    memory_size: int | None = None
    offset: int | None = None


def load(physical: int, data: bytes, virtual: int | None = None) -> Program:
    """A PT_LOAD as QEMU writes it, with the virtual address a copy of the physical one."""
    return Program(1, data, physical, physical if virtual is None else virtual)


def notes(*parts: bytes) -> Program:
    """A PT_NOTE."""
    return Program(4, b"".join(parts))


def elf(
    programs: Sequence[Program],
    *,
    bits: Bits = 64,
    order: ByteOrder = "<",
    kind: int = 4,
    machine: int = 62,
    extended_count: bool = False,
) -> bytes:
    """An ELF file of ``programs``, whose data follow the headers in the order given.

    Args:
        programs: the program headers.
        bits: width of a word.
        order: byte order of all headers.
        kind: e_type, 4 for a core.
        machine: e_machine.
        extended_count: write the number of program headers by PN_XNUM.
    """
    word = "I" if bits == 32 else "Q"
    header_size, program_size, section_size = (52, 32, 40) if bits == 32 else (64, 56, 64)
    section_offset = header_size + program_size * len(programs) if extended_count else 0
    position = header_size + program_size * len(programs) + (section_size if extended_count else 0)
    table = b""
    body = b""
    for program in programs:
        offset = position + len(body) if program.offset is None else program.offset
        file_size = len(program.data) if program.file_size is None else program.file_size
        memory_size = file_size if program.memory_size is None else program.memory_size
        if bits == 32:
            fields = (program.kind, offset, program.virtual, program.physical, file_size, memory_size, 0, 0)
            table += struct.pack(f"{order}8I", *fields)
        else:
            fields = (program.kind, 0, offset, program.virtual, program.physical, file_size, memory_size, 0)
            table += struct.pack(f"{order}II6Q", *fields)
        body += program.data
    ident = b"\x7fELF" + bytes([1 if bits == 32 else 2, 1 if order == "<" else 2, 1]) + bytes(9)
    header = ident + struct.pack(
        f"{order}HHI{word}{word}{word}IHHHHHH",
        kind,
        machine,
        1,
        0,
        header_size,
        section_offset,
        0,
        header_size,
        program_size,
        0xFFFF if extended_count else len(programs),
        section_size,
        1 if extended_count else 0,
        0,
    )
    section = b""
    if extended_count:
        # sh_link and sh_info are 32 bits wide in both classes; before them stand 2 words of 32 and 4 of full width.
        section = struct.pack(f"{order}II4{word}II2{word}", 0, 0, 0, 0, 0, 0, 0, len(programs), 0, 0)
    return header + table + section + body
