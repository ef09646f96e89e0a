"""Reads the ELF core QEMU writes and turns it into other dump formats, as sparse files."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .errors import LabError
from .tools import run

_BLOCK = 1 << 16
_ZERO = bytes(_BLOCK)


@dataclass(frozen=True)
class Segment:
    """A stretch of physical memory in the core file."""

    address: int
    size: int
    offset: int

    @property
    def end(self) -> int:
        return self.address + self.size


def segments(core: Path) -> list[Segment]:
    """The core's memory, by address."""
    with core.open("rb") as file:
        head = file.read(64)
        if head[:4] != b"\x7fELF":
            raise LabError(f"{core} is not an ELF file: take the capture again with --again")
        wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
        (table,) = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)
        size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
        file.seek(table)
        entries = [file.read(size) for _ in range(count)]
    found = []
    for entry in entries:
        if wide:
            kind, _, offset, _, address, length = struct.unpack_from(order + "IIQQQQ", entry)
        else:
            kind, offset, _, address, length = struct.unpack_from(order + "IIIII", entry)
        if kind == 1 and length:
            found.append(Segment(address, length, offset))
    return sorted(found, key=lambda segment: segment.address)


def memory(core: Path, architecture: str) -> list[Segment]:
    """The segments which are RAM: a PC's core has the firmware's flash below 4 GiB as well."""
    flash = range(0xE0000000, 1 << 32) if architecture in ("amd64", "i386") else range(0)
    return [segment for segment in segments(core) if segment.address not in flash]


def has_vmcoreinfo(core: Path) -> bool:
    """Whether the notes, which lie before the memory, have one of that name."""
    with core.open("rb") as file:
        return b"VMCOREINFO" in file.read(min(segment.offset for segment in segments(core)))


def _blocks(file: BinaryIO, segment: Segment) -> Iterator[tuple[int, bytes]]:
    """The blocks of a segment which are not zero, with their place in it."""
    file.seek(segment.offset)
    for place in range(0, segment.size, _BLOCK):
        block = file.read(min(_BLOCK, segment.size - place))
        if block != _ZERO[: len(block)]:
            yield place, block


def ram_ranges(flat_view: str) -> list[range]:
    """Physical addresses that are RAM in the answer to ``info mtree -f``; memory seen at several places counts once."""
    pattern = r"^\s+([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, ram\): (\S+?)(?: @([0-9a-f]{16}))?(?: .*)?$"
    found: list[range] = []
    covered: dict[str, int] = {}  # how much of each RAM, from its start on, lies at a lower address
    for first, last, name, offset in re.findall(pattern, flat_view, re.MULTILINE):
        start, end, inside = int(first, 16), int(last, 16) + 1, int(offset or "0", 16)
        start += max(0, covered.get(name, 0) - inside)
        if "ram" in name and not re.search("vga|rom", name) and start < end:
            found.append(range(start, end))
            covered[name] = max(covered.get(name, 0), inside + end - int(first, 16))
    return found


def write_core(parts: list[tuple[int, Path]], target: Path, elf_machine: int) -> None:
    """A little-endian ELF core without notes, of files by the physical addresses of their first bytes."""
    place = 1 << 16
    head = b"\x7fELF\2\1\1" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 4, elf_machine, 1, 0, 64, 0, 0, 64, 56, len(parts), 0, 0, 0)
    with target.open("wb") as out:
        for address, path in parts:
            size = path.stat().st_size
            head += struct.pack("<IIQQQQQQ", 1, 7, place, 0, address, size, size, 0)
            with path.open("rb") as file:
                for start, block in _blocks(file, Segment(address, size, 0)):
                    out.seek(place + start)
                    out.write(block)
            place += size
        out.truncate(place)
        out.seek(0)
        out.write(head)


def write_raw(core: Path, target: Path, architecture: str) -> None:
    """Every byte at the offset of its physical address; what is not RAM reads as zero."""
    parts = memory(core, architecture)
    with core.open("rb") as source, target.open("wb") as out:
        for part in parts:
            for place, block in _blocks(source, part):
                out.seek(part.address + place)
                out.write(block)
        out.truncate(parts[-1].end)


def write_lime(core: Path, target: Path, architecture: str) -> None:
    """LiME version 1: each range after a header with its first and its last address."""
    start = 0
    with core.open("rb") as source, target.open("wb") as out:
        for part in memory(core, architecture):
            out.seek(start)
            out.write(struct.pack("<IIQQQ", 0x4C694D45, 1, part.address, part.end - 1, 0))
            start += 32
            for place, block in _blocks(source, part):
                out.seek(start + place)
                out.write(block)
            start += part.size
        out.truncate(start)


WRITERS: dict[str, Callable[[Path, Path, str], None]] = {"raw": write_raw, "lime": write_lime}


def make_sparse(path: Path) -> None:
    """The same bytes with the zero pages given back to the file system, where it can."""
    try:
        run(["fallocate", "--dig-holes", path], timeout=600)
    except LabError as error:
        if "not supported" not in error.detail:
            raise
