"""Read ELF programs: vmlinux (stripped or not), and wrappers that unpack a kernel from inside of themselves.

Format: System V gABI, chapters 4 and 5. Only program headers are used, because a stripped image has nothing else.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import Bytes
from kallsift.errors import ImageError
from kallsift.image import relocation
from kallsift.image.formats.base import KernelPayload, record, starts_with
from kallsift.image.formats.machine_ids import ELF_MACHINES
from kallsift.memory.formats.elf_headers import (
    BYTE_ORDERS,
    CLASSES,
    FILE_HEADER,
    LOAD,
    MAGIC,
    PROGRAM_HEADER,
    TYPE_EXECUTABLE,
    TYPE_SHARED,
)
from kallsift.memory.memory import AddressSpace, cut_short
from kallsift.memory.segments import BytesSegment, sorted_segments

DYNAMIC, INTERPRETER = 2, 3
PROGRAM_LIMIT = 256
"""Highest number of program headers that are read; kernels have fewer than ten."""


def probe(view: Bytes) -> bool:
    """Tell whether an image is ELF; `read` distinguishes programs from cores."""
    return starts_with(view, MAGIC)


def is_program(beginning: bytes) -> bool:
    """Tell whether a file with this beginning is an ELF file of a kernel's type."""
    order: Literal["little", "big"] = "big" if beginning[5:6] == b"\x02" else "little"
    return beginning.startswith(MAGIC) and int.from_bytes(beginning[16:18], order) in (TYPE_EXECUTABLE, TYPE_SHARED)


def read(view: Bytes) -> KernelPayload | None:
    """Return the loaded segments at their virtual addresses.

    The result is None for cores and modules. Memory that a program header has but the file has not (.bss) stays a gap.

    Raises:
        ImageError: if headers are broken, or nothing is loaded.
    """
    ident = view[:6].tobytes().ljust(6, b"\0")
    bits, byte_order = CLASSES.get(ident[4]), BYTE_ORDERS.get(ident[5])
    if bits is None or byte_order is None:
        return None
    header = record(view, 0, FILE_HEADER[bits].newbyteorder(byte_order), "ELF header")
    if int(header["type"]) not in (TYPE_EXECUTABLE, TYPE_SHARED):
        return None
    layout = PROGRAM_HEADER[bits].newbyteorder(byte_order)
    start, count = int(header["program_offset"]), int(header["program_count"])
    table = view[start : start + min(count, PROGRAM_LIMIT) * layout.itemsize]
    if not count or int(header["program_size"]) != layout.itemsize or len(table) < min(count, PROGRAM_LIMIT):
        raise ImageError("ELF: its program headers are missing or broken; copy the image again")
    programs = table[: len(table) // layout.itemsize * layout.itemsize].view(layout)
    is_program = bool((programs["type"] == INTERPRETER).any())
    segments, notes = _segments(view, programs, bits)
    if not segments:
        raise ImageError("ELF: has no loadable segment; open the kernel that it was made from")
    architecture = ELF_MACHINES.get((int(header["machine"]), bits))
    loads = programs[(programs["type"] == LOAD) & (programs["file_size"] > 0)]
    dynamic = next(iter(programs["virtual"][programs["type"] == DYNAMIC].tolist()), None)
    return KernelPayload(
        "ELF",
        AddressSpace.VIRTUAL,
        relocation.apply_dynamic(segments, dynamic, architecture, bits, byte_order),
        architecture,
        base=int(loads["virtual"][0]),
        big_endian=byte_order == ">",
        unpacker=not is_program,
        certain=False,
        is_program=is_program,
        notes=notes,
        whole=view,
    )


def _segments(view: Bytes, programs: NDArray[np.void], bits: int) -> tuple[tuple[BytesSegment, ...], tuple[str, ...]]:
    """Return the loaded segments, and remarks on parts that are not there.

    Where two segments overlap, the first one wins.
    """
    segments: list[BytesSegment] = []
    notes: list[str] = []
    loads = programs[(programs["type"] == LOAD) & (programs["file_size"] > 0)]
    columns = (loads[name].tolist() for name in ("virtual", "offset", "file_size"))
    for start, offset, size in zip(*columns, strict=True):
        what = f"segment at {start:#x}"
        segment = BytesSegment(start, view[offset : offset + size])
        if len(segment.data) < size:
            notes.append(cut_short(what, len(segment.data), size))
        if segment.end > 1 << bits:
            notes.append(f"{what} ends beyond the address space: it was left out")
        elif any(segment.start < other.end and other.start < segment.end for other in segments):
            notes.append(f"{what} overlaps one before it: it was left out")
        else:
            segments.append(segment)
    return sorted_segments(segments), tuple(notes)
