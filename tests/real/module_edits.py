"""Changed copies of real modules, made without kallsift: a section gets other bytes, and nothing else is touched."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
from pathlib import Path

from elftools.elf.elffile import ELFFile

MARK = b"~Module signature appended~\n"


def unsigned(path: Path) -> bytes:
    """A module, unpacked and without its signature, whose size stands in the four bytes before the mark."""
    data = path.read_bytes()
    data = {".xz": lzma.decompress, ".gz": gzip.decompress}.get(path.suffix, bytes)(data)
    if not data.endswith(MARK):
        return data
    end = len(data) - len(MARK)
    return data[: end - 12 - int.from_bytes(data[end - 4 : end], "big")]


def section(module: bytes, name: str) -> bytes:
    """A section's bytes."""
    found = ELFFile(io.BytesIO(module)).get_section_by_name(name)
    return bytes(found.data()) if found else b""


def with_section(module: bytes, name: str, content: bytes) -> bytes:
    """The module with other bytes in a section: they are put behind its end, where the section's header then leads."""
    elf = ELFFile(io.BytesIO(module))
    header = elf["e_shoff"] + elf.get_section_index(name) * elf["e_shentsize"]
    order = "<" if elf.little_endian else ">"
    # sh_offset and sh_size stand behind two numbers of 32 bits and two words
    place, words = (header + 24, f"{order}QQ") if elf.elfclass == 64 else (header + 16, f"{order}II")
    changed = bytearray(module + bytes(-len(module) % 16))
    changed[place : place + struct.calcsize(words)] = struct.pack(words, len(changed), len(content))
    return bytes(changed) + content


def with_text(module: bytes, name: str, old: bytes, new: bytes) -> bytes:
    """The module with another text in a section."""
    content = section(module, name)
    assert old in content
    return with_section(module, name, content.replace(old, new, 1))


def with_checksum(module: bytes, symbol: str) -> bytes:
    """The module as if it had been built against another type of the symbol."""
    content = bytearray(section(module, "__versions"))
    word = ELFFile(io.BytesIO(module)).elfclass // 8
    place = next(
        start
        for start in range(0, len(content), 64)
        if content[start + word : start + 64].split(b"\0")[0] == symbol.encode()
    )
    number = place if ELFFile(io.BytesIO(module)).little_endian else place + word - 1
    content[number] ^= 0x40
    return with_section(module, "__versions", bytes(content))
