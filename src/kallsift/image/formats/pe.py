"""Read PE, the format of EFI programs: headers of kernels with an EFI stub, and unified kernel images (UKI).

Formats: PE Format (Microsoft), "COFF File Header" and "Section Table"; UKI specification of the UAPI group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kallsift.arrays import Bytes
from kallsift.errors import ImageError
from kallsift.image.formats.base import Payload, WrappedImage, record, starts_with
from kallsift.image.formats.machine_ids import PE_MACHINES

DOS_MAGIC, PE_MAGIC = b"MZ", b"PE\0\0"
PE_OFFSET = np.dtype({"names": ["offset"], "formats": ["<u4"], "offsets": [0x3C], "itemsize": 0x40})
COFF_HEADER = np.dtype(
    [
        ("magic", "S4"),
        ("machine", "<u2"),
        ("sections", "<u2"),
        ("time", "<u4"),
        ("symbols", "<u4"),
        ("symbol_count", "<u4"),
        ("optional_size", "<u2"),
        ("characteristics", "<u2"),
    ]
)
SECTION = np.dtype(
    [
        ("name", "S8"),
        ("virtual_size", "<u4"),
        ("virtual_address", "<u4"),
        ("file_size", "<u4"),
        ("file_offset", "<u4"),
        ("rest", "u1", (16,)),
    ]
)
KERNEL_SECTION = b".linux"
SECTION_LIMIT = 96
"""Highest number of sections; the Windows loader takes no more, and a UKI has about ten."""


@dataclass(frozen=True)
class Program:
    """Headers of a PE program.

    Attributes:
        machine: architecture; None if the number is unknown.
        sections: name, file offset and size of each section.
    """

    machine: str | None
    sections: tuple[tuple[bytes, int, int], ...]


def program(view: Bytes) -> Program | None:
    """Return the PE headers of an image; None if it has none, or they are cut short."""
    if not starts_with(view, DOS_MAGIC):
        return None
    try:
        offset = int(record(view, 0, PE_OFFSET, "DOS header")["offset"])
        header = record(view, offset, COFF_HEADER, "PE header")
        if not starts_with(view, PE_MAGIC, offset):
            return None
        table = offset + COFF_HEADER.itemsize + int(header["optional_size"])
        sections = []
        for number in range(min(int(header["sections"]), SECTION_LIMIT)):
            section = record(view, table + number * SECTION.itemsize, SECTION, "PE section table")
            sizes = int(section["virtual_size"]), int(section["file_size"])
            size = min(sizes) or max(sizes)  # the size in the file is padded; either may be 0
            sections.append((bytes(section["name"]), int(section["file_offset"]), size))
    except ImageError:
        return None
    return Program(PE_MACHINES.get(int(header["machine"])), tuple(sections))


def probe(view: Bytes) -> bool:
    """Tell whether an image is PE; `read` distinguishes unified kernel images."""
    return starts_with(view, DOS_MAGIC)


def read(view: Bytes) -> WrappedImage | None:
    """Return the kernel of a unified kernel image, which is its section ``.linux``.

    The result is None for other programs.
    """
    found = program(view)
    if found is None:
        return None
    parts = tuple(Payload(offset, offset + size) for name, offset, size in found.sections if name == KERNEL_SECTION)
    return WrappedImage("UKI", parts, found.machine) if parts else None
