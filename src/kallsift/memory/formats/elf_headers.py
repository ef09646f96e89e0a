"""Read the headers of ELF files: the file header, the program headers, and those of a damaged core by their contents.

Format: System V gABI, chapters 4 ("ELF Header") and 5 ("Program Header"); PN_XNUM, elf(5).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.memory.formats import elf_notes
from kallsift.memory.reassembled_file import Content

MAGIC = b"\x7fELF"
CLASSES = {1: 32, 2: 64}
"""Width of a word in bits, by e_ident[EI_CLASS]."""
BYTE_ORDERS: dict[int, elf_notes.ByteOrder] = {1: "<", 2: ">"}
"""Byte order by e_ident[EI_DATA]."""

TYPE_RELOCATABLE, TYPE_EXECUTABLE, TYPE_SHARED, TYPE_CORE = 1, 2, 3, 4
LOAD, NOTE = 1, 4
COUNT_ELSEWHERE = 0xFFFF
"""PN_XNUM: the true number of program headers stands in sh_info of the first section header."""

FILE_HEADER = {
    bits: np.dtype(
        [
            ("ident", "u1", (16,)),
            ("type", "u2"),
            ("machine", "u2"),
            ("version", "u4"),
            ("entry", word),
            ("program_offset", word),
            ("section_offset", word),
            ("flags", "u4"),
            ("header_size", "u2"),
            ("program_size", "u2"),
            ("program_count", "u2"),
            ("section_size", "u2"),
            ("section_count", "u2"),
            ("section_names", "u2"),
        ]
    )
    for bits, word in ((32, "u4"), (64, "u8"))
}
PROGRAM_HEADER = {
    32: np.dtype(
        [
            ("type", "u4"),
            ("offset", "u4"),
            ("virtual", "u4"),
            ("physical", "u4"),
            ("file_size", "u4"),
            ("memory_size", "u4"),
            ("flags", "u4"),
            ("alignment", "u4"),
        ]
    ),
    64: np.dtype(
        [
            ("type", "u4"),
            ("flags", "u4"),
            ("offset", "u8"),
            ("virtual", "u8"),
            ("physical", "u8"),
            ("file_size", "u8"),
            ("memory_size", "u8"),
            ("alignment", "u8"),
        ]
    ),
}


SECTION_HEADER = {
    bits: np.dtype(
        [
            ("name", "u4"),
            ("type", "u4"),
            ("flags", word),
            ("address", word),
            ("offset", word),
            ("size", word),
            ("link", "u4"),
            ("info", "u4"),
            ("alignment", word),
            ("entry_size", word),
        ]
    )
    for bits, word in ((32, "u4"), (64, "u8"))
}

MAX_BEFORE_CONTENT = 1 << 16
"""Highest number of bytes between the last program header and the first content: alignment."""
MAX_FLAGS, MAX_OFFSET, MAX_SECTIONS_BEFORE = 7, 1 << 48, 3
MIN_COVERED = 0.9
"""Lowest share of the file that the program headers of a whole core describe."""

FIRST_PROGRAMS = 64
"""Number of program headers that are read first where it is unknown whether there are any."""
PROGRAM_LIMIT = 1 << 17
"""Highest number of program headers: more than any dump has, and enough for PN_XNUM to be of use."""


class ProgramError(SourceError):
    """An ELF file is no core at all."""


class FileHeader(NamedTuple):
    """An ELF header: width of a word in bits, byte order, and all fields as in `FILE_HEADER`."""

    bits: int
    byte_order: elf_notes.ByteOrder
    record: np.void


class Core(NamedTuple):
    """The headers of a core: its machine, word width in bits, byte order and program headers, shape (n,)."""

    machine: int
    bits: int
    byte_order: elf_notes.ByteOrder
    programs: NDArray[np.void]


def file_header(header: bytes) -> FileHeader | None:
    """Return the ELF header that ``header`` begins with.

    The result is None if there is none, or not all of it.
    """
    ident = header[:16].ljust(16, b"\0")
    bits, byte_order = CLASSES.get(ident[4]), BYTE_ORDERS.get(ident[5])
    if not header.startswith(MAGIC) or bits is None or byte_order is None or len(header) < FILE_HEADER[bits].itemsize:
        return None
    return FileHeader(bits, byte_order, np.frombuffer(header, FILE_HEADER[bits].newbyteorder(byte_order), 1)[0])


def core_headers(view: Content) -> Core | None:
    """Return the headers of a core, found without its ELF header.

    Only the machine number is taken from there. Each program header describes a part of the file; the first of these
    parts begins behind the last program header, and the last one ends with the file. Cores of machines have only the
    types LOAD and NOTE. The result is None if there are no such headers.
    """
    for bits in CLASSES.values():
        start = FILE_HEADER[bits].itemsize
        # QEMU puts section headers before them since 7.2, usually two
        for offset in range(
            start, start + MAX_SECTIONS_BEFORE * SECTION_HEADER[bits].itemsize + 1, SECTION_HEADER[bits].itemsize
        ):
            for order in BYTE_ORDERS.values():
                programs = _programs_at(view, offset, PROGRAM_HEADER[bits].newbyteorder(order))
                if _tell_of_whole_file(programs, offset, len(view)):
                    header = np.ascontiguousarray(view[:start]).view(FILE_HEADER[bits].newbyteorder(order))[0]
                    return Core(int(header["machine"]), bits, order, programs)
    return None


def _programs_at(view: Content, start: int, layout: np.dtype[np.void]) -> NDArray[np.void]:
    """Return the possible program headers of a core from a file offset on, shape (n,).

    Few are read at first, because most bytes are no program header.
    """
    limit = FIRST_PROGRAMS
    while True:
        data = np.ascontiguousarray(view[start : start + limit * layout.itemsize])
        programs = data[: len(data) // layout.itemsize * layout.itemsize].view(layout)
        fits = np.isin(programs["type"], (LOAD, NOTE)) & (programs["flags"] <= MAX_FLAGS)
        fits &= (programs["offset"] < MAX_OFFSET) & (programs["file_size"] < MAX_OFFSET)
        fits &= (programs["file_size"] <= programs["memory_size"]) | (programs["type"] == NOTE)
        count = int(np.argmin(np.append(fits, False)))
        if count < limit or limit >= PROGRAM_LIMIT:
            return programs[:count]
        limit *= 8


def _tell_of_whole_file(programs: NDArray[np.void], start: int, size: int) -> bool:
    """Tell whether program headers describe everything behind them.

    They stand at offset ``start`` of a file of ``size`` bytes.
    """
    offsets, sizes = (programs[field].astype(np.uint64) for field in ("offset", "file_size"))
    held = sizes > 0
    if not (held & (programs["type"] == LOAD)).any():
        return False
    first, end = int(offsets[held].min()), int((offsets + sizes)[held].max())
    before = first - start - programs.nbytes
    return 0 <= before <= MAX_BEFORE_CONTENT and first < size and end >= size * MIN_COVERED


def read_headers(name: str, view: Content) -> Core:
    """Read the headers of a core.

    Raises:
        SourceError: if they are broken, or this is no core; ProgramError if it is a program.
    """
    ident = view[:16].tobytes().ljust(16, b"\0")
    bits, byte_order = CLASSES.get(ident[4]), BYTE_ORDERS.get(ident[5])
    if bits is None or byte_order is None:
        raise SourceError(f"{name}: broken ELF header (class {ident[4]}, byte order {ident[5]}); copy the dump again")
    header = records(name, view, "ELF header", 0, 1, FILE_HEADER[bits].newbyteorder(byte_order))[0]
    kind = int(header["type"])
    if kind in (TYPE_RELOCATABLE, TYPE_EXECUTABLE, TYPE_SHARED):
        raise ProgramError(f"{name}: is an ELF program, not a memory dump, and holds no kernel")
    if kind != TYPE_CORE:
        raise SourceError(f"{name}: is ELF of the unknown type {kind}, not a memory dump")
    layout = PROGRAM_HEADER[bits].newbyteorder(byte_order)
    count, size, offset = (int(header[f"program_{field}"]) for field in ("count", "size", "offset"))
    if count == COUNT_ELSEWHERE:
        section = SECTION_HEADER[bits].newbyteorder(byte_order)
        sections = records(name, view, "first section header", int(header["section_offset"]), 1, section)
        count = int(sections[0]["info"])
    if count > PROGRAM_LIMIT:
        raise SourceError(f"{name}: {count} program headers are more than any dump has; the ELF header is broken")
    if count and size != layout.itemsize:
        raise SourceError(f"{name}: ELF program headers of {size} bytes (should be {layout.itemsize}); copy it again")
    programs = records(name, view, "program header table", offset, count, layout)
    return Core(int(header["machine"]), bits, byte_order, programs)


def records(
    name: str, view: Content, what: str, offset: int, count: int, layout: np.dtype[np.void]
) -> NDArray[np.void]:
    """Return ``count`` records of the file as a view, shape (count,).

    Raises:
        SourceError: if they run past its end; ``what`` names them.
    """
    end = offset + count * layout.itemsize
    if end > len(view):
        raise SourceError(
            f"{name}: the {what} at file offset {offset:#x} runs past the end of the file; copy the dump again"
        )
    return view[offset:end].view(layout)
