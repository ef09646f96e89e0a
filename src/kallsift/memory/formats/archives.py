"""Find the files in tar and cpio archives without unpacking them: the offset and size of each.

Formats: POSIX.1-2001, pax ("ustar Interchange Format", "cpio Interchange Format"); GNU tar's manual, "Basic Tar
Format"; Linux, Documentation/driver-api/early-userspace/buffer-format.rst (cpio "newc").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kallsift.memory.memory import Memory, printable

MAX_MEMBERS = 1 << 16
"""Highest number of headers of one archive that are read."""

TAR_BLOCK = 512
TAR_MAGIC, TAR_MAGIC_OFFSET = b"ustar", 257
TAR_NAME, TAR_SIZE, TAR_CHECKSUM, TAR_TYPE = slice(0, 100), slice(124, 136), slice(148, 156), slice(156, 157)
TAR_FILES = (b"0", b"\0", b"7")
TAR_LARGE = 0x80
"""First byte of a size that is stored in binary: GNU's base-256 numbers."""

NEWC_MAGICS, NEWC_SIZE = (b"070701", b"070702"), 110
ODC_MAGIC, ODC_SIZE = b"070707", 76
CPIO_END = b"TRAILER!!!"
CPIO_TYPE, CPIO_FILE = 0o170000, 0o100000
MAX_NAME = 4096
"""Highest size of a file's name in cpio, in bytes (PATH_MAX)."""

_HEX, _OCTAL = re.compile(rb"[0-9A-Fa-f]{104}"), re.compile(rb"[0-7]{70}")


class ArchiveMember(NamedTuple):
    """A file in an archive: its name in messages, the offset of its first byte, and its size."""

    name: str
    offset: int
    size: int


def archive_format(header: bytes) -> str | None:
    """Return the name of the archive format of a file's beginning; None if unknown."""
    if header[TAR_MAGIC_OFFSET : TAR_MAGIC_OFFSET + len(TAR_MAGIC)] == TAR_MAGIC and _tar_checksum_holds(header):
        return "tar"
    if header.startswith(NEWC_MAGICS) and _HEX.match(header, 6):
        return "cpio"
    if header.startswith(ODC_MAGIC) and _OCTAL.match(header, 6):
        return "cpio"
    return None


def members(view: NDArray[np.uint8]) -> list[ArchiveMember]:
    """Return the regular files of an archive in its order, as far as it can be read.

    Args:
        view: the whole archive, shape (size,), uint8.
    """
    header = view[:TAR_BLOCK].tobytes()
    if archive_format(header) == "tar":
        walk: Iterator[ArchiveMember] = _tar(view)
    else:
        walk = _newc(view) if header.startswith(NEWC_MAGICS) else _odc(view)
    return [member for member in walk if member.size]


def probe(header: bytes) -> bool:
    """Tell whether a file that begins with ``header`` is an archive."""
    return archive_format(header) is not None


def open(name: str, view: NDArray[np.uint8], release: Callable[[], None]) -> Memory:
    """Open the dump in an archive: the first in a known container, else the largest.

    Args:
        name: name of the source in messages.
        view: the whole archive, shape (size,), uint8.
        release: function that releases the file.

    Raises:
        SourceError: if the archive holds no files, or the dump is broken.
    """
    from dataclasses import replace

    from kallsift.errors import SourceError
    from kallsift.memory.formats import registry as containers

    form = archive_format(view[:TAR_BLOCK].tobytes())
    found = members(view)
    if not found:
        raise SourceError(f"{name}: is an empty {form} archive; name a memory dump or a kernel image")
    chosen = dump_in(view, found) or max(found, key=lambda member: member.size)
    memory = containers.open_mapped(name, view[chosen.offset : chosen.offset + chosen.size])
    return replace(
        memory,
        container=f"{memory.container}, {form}",
        release=release,
        notes=(*memory.notes, *chosen_note(form, found, chosen)),
    )


def dump_in(view: NDArray[np.uint8], found: list[ArchiveMember]) -> ArchiveMember | None:
    """Return the first member in a known container of memory; None if there is none."""
    from kallsift.memory.formats import registry as containers

    for member in found:
        header = view[member.offset : member.offset + min(member.size, containers.HEADER_SIZE)].tobytes()
        if containers.is_no_image(header):
            return member
    return None


def chosen_note(form: str | None, found: list[ArchiveMember], chosen: ArchiveMember) -> tuple[str, ...]:
    """Return a remark that names the opened file; nothing if there is only one."""
    if len(found) == 1:
        return ()
    others = "another file" if len(found) == 2 else f"{len(found) - 1} other files"
    return (f"opened {chosen.name} of the {form} archive, which holds {others}; unpack it to open them",)


def _tar_checksum_holds(header: bytes) -> bool:
    stated = _number(header[TAR_CHECKSUM])
    total = sum(header[:TAR_BLOCK]) - sum(header[TAR_CHECKSUM]) + 8 * ord(" ")
    return len(header) >= TAR_BLOCK and stated == total


def _number(text: bytes) -> int | None:
    """Return a number of a tar header: octal digits, or GNU's binary form."""
    if text[:1] and text[0] & TAR_LARGE:
        return int.from_bytes(text, "big") & ((1 << 8 * len(text) - 1) - 1)
    digits = text.strip(b" \0")
    return int(digits, 8) if digits and not digits.strip(b"01234567") else None


def _tar(view: NDArray[np.uint8]) -> Iterator[ArchiveMember]:
    position = 0
    for _ in range(MAX_MEMBERS):
        header = view[position : position + TAR_BLOCK].tobytes()
        if len(header) < TAR_BLOCK or not _tar_checksum_holds(header):
            return
        size = _number(header[TAR_SIZE])
        if size is None:
            return
        start = position + TAR_BLOCK
        if header[TAR_TYPE] in TAR_FILES:
            yield _member(view, header[TAR_NAME], start, size)
        position = start + size + -size % TAR_BLOCK


def _newc(view: NDArray[np.uint8]) -> Iterator[ArchiveMember]:
    position = 0
    for _ in range(MAX_MEMBERS):
        header = view[position : position + NEWC_SIZE].tobytes()
        if len(header) < NEWC_SIZE or not header.startswith(NEWC_MAGICS) or not _HEX.match(header, 6):
            return
        fields = [int(header[start : start + 8], 16) for start in range(6, NEWC_SIZE, 8)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = view[position + NEWC_SIZE : position + NEWC_SIZE + min(name_size, MAX_NAME)].tobytes()
        if name.startswith(CPIO_END):
            return
        start = position + NEWC_SIZE + name_size
        start += -start % 4
        if mode & CPIO_TYPE == CPIO_FILE:
            yield _member(view, name, start, size)
        position = start + size + -size % 4


def _odc(view: NDArray[np.uint8]) -> Iterator[ArchiveMember]:
    position = 0
    for _ in range(MAX_MEMBERS):
        header = view[position : position + ODC_SIZE].tobytes()
        if len(header) < ODC_SIZE or not header.startswith(ODC_MAGIC) or not _OCTAL.match(header, 6):
            return
        mode, name_size, size = int(header[18:24], 8), int(header[59:65], 8), int(header[65:76], 8)
        start = position + ODC_SIZE + name_size
        name = view[position + ODC_SIZE : start].tobytes()
        if name.startswith(CPIO_END):
            return
        if mode & CPIO_TYPE == CPIO_FILE:
            yield _member(view, name, start, size)
        position = start + size


def _member(view: NDArray[np.uint8], name: bytes, start: int, size: int) -> ArchiveMember:
    text = name.split(b"\0")[0].decode("utf-8", "backslashreplace")
    return ArchiveMember(printable(text), start, min(size, max(0, len(view) - start)))
