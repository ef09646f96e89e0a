"""Read the types in a file: bare, as ``/sys/kernel/btf/vmlinux`` is, or in section ``.BTF`` of an ELF file."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from kallsift.kernel.access.btf_blob import MAX_SIZE, BtfError
from kallsift.memory.formats.elf_headers import BYTE_ORDERS, CLASSES, FILE_HEADER, MAGIC, SECTION_HEADER
from kallsift.memory.input_files import open_input

SECTION = b".BTF"

MAX_NAMES = 1 << 20
"""Highest number of bytes that are read of the names of sections."""


def read_types(path: Path) -> NDArray[np.uint8]:
    """Return the bytes of the types in a file.

    Of a bare file that is too large, it returns more than any types have, so that they are refused.

    Raises:
        BtfError: if it is an ELF file without types, or a broken one.
        OSError: if it cannot be read.
    """
    with open_input(path) as stream:
        content = stream.read(MAX_SIZE + 1)
        if content.startswith(MAGIC) and stream.seekable():
            content = _section(stream, content)
        return np.frombuffer(content, np.uint8)


def _section(stream: BinaryIO, beginning: bytes) -> bytes:
    """Return the section of types of an ELF file."""
    ident = beginning[:6].ljust(6, b"\0")
    bits, order = CLASSES.get(ident[4]), BYTE_ORDERS.get(ident[5])
    if bits is None or order is None or len(beginning) < FILE_HEADER[bits].itemsize:
        raise BtfError("it is a broken ELF file; copy it again")
    header = np.frombuffer(beginning, FILE_HEADER[bits].newbyteorder(order), 1)[0]
    fields = SECTION_HEADER[bits].newbyteorder(order)
    table = _read(stream, int(header["section_offset"]), int(header["section_count"]) * fields.itemsize)
    sections = np.frombuffer(table, fields)
    names_index = int(header["section_names"])
    if int(header["section_size"]) != fields.itemsize or names_index >= len(sections):
        raise BtfError("it is an ELF file without sections, so without types; name one that is not stripped")
    named = sections[names_index]
    names = _read(stream, int(named["offset"]), min(int(named["size"]), MAX_NAMES))
    for section in sections:
        if names.startswith(SECTION + b"\0", int(section["name"])):
            return _read(stream, int(section["offset"]), min(int(section["size"]), MAX_SIZE + 1))
    raise BtfError(f"it is an ELF file without types (section {SECTION.decode()}); name the vmlinux of the build")


def _read(stream: BinaryIO, offset: int, size: int) -> bytes:
    """Return a part of a file.

    Raises:
        BtfError: if the file ends before it.
    """
    if offset < 1 << 63:
        stream.seek(offset)
        content = stream.read(size)
        if len(content) == size:
            return content
    raise BtfError("it is an ELF file that is cut short; copy it again")
