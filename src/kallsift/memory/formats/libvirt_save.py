"""Read save files of libvirt (``virsh save``, ``virsh managedsave``): QEMU's migration stream behind a header.

Format: libvirt, src/qemu/qemu_saveimage.h (struct _virQEMUSaveHeader, enum virQEMUSaveFormat). The header is in the
byte order of the host. Behind it stand the domain's XML and a cookie, then the stream, compressed by the tool of that
name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.memory.formats.qemu import migration_stream
from kallsift.memory.memory import Memory
from kallsift.memory.spool import spooled
from kallsift.memory.spool_file import behind_least

MAGIC = b"LibvirtQemudSave"
UNFINISHED = b"LibvirtQemudPart"
"""Magic until the whole file is written."""

HEADER = np.dtype(
    [
        ("magic", "S16"),
        ("version", "u4"),
        ("data_size", "u4"),  # bytes of XML and cookie
        ("was_running", "u4"),
        ("format", "u4"),
        ("cookie_offset", "u4"),
        ("unused", "u4", (14,)),
    ]
)
VERSIONS = (1, 2)
COMPRESSIONS = ("raw", "gzip", "bzip2", "xz", "lzop", "zstd", "sparse")
"""Compressions by the header's ``format``; the last one is a stream with flat RAM."""
UNPACKED = ("raw", "sparse")


def probe(header: bytes) -> bool:
    """Tell whether a file that begins with ``header`` is a save file."""
    return header.startswith((MAGIC, UNFINISHED))


def open(name: str, view: NDArray[np.uint8], release: Callable[[], None]) -> Memory:
    """Open the RAM in a save file, as `migration_stream.open` does.

    A compressed stream is decompressed first (see `spool`).

    Args:
        name: name of the source in messages.
        view: the whole file, shape (size,), uint8.
        release: function that releases the file.

    Raises:
        SourceError: if the header is broken, or the stream cannot be decompressed or read.
    """
    if len(view) < HEADER.itemsize:
        raise SourceError(f"{name}: the libvirt save file ends inside its header; copy it again")
    version = view[16:20].view("<u4")[0]
    header = view[: HEADER.itemsize].view(HEADER.newbyteorder("<" if version in VERSIONS else ">"))[0]
    if int(header["version"]) not in VERSIONS:
        raise SourceError(f"{name}: libvirt save file of an unknown version; save it with an older libvirt")
    start, form = HEADER.itemsize + int(header["data_size"]), int(header["format"])
    if start >= len(view):
        raise SourceError(f"{name}: the libvirt save file ends before the machine's state; copy it again")
    if form >= len(COMPRESSIONS):
        raise SourceError(f"{name}: libvirt save file in the unknown format {form}; save it as raw (qemu.conf)")
    container = f"libvirt save file ({COMPRESSIONS[form]})"
    notes: tuple[str, ...] = ("libvirt never finished this save file",) if header["magic"] == UNFINISHED else ()
    if COMPRESSIONS[form] in UNPACKED:
        memory = migration_stream.open_stream(name, view, start, container, release)
    else:
        stream, problem = spooled(name, COMPRESSIONS[form], view[start:], behind_least)
        notes += (problem,) if problem else ()
        memory = migration_stream.open_stream(name, stream, 0, container, release)
    return replace(memory, notes=(*notes, *memory.notes))
