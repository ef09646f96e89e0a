"""makedumpfile's flattened stream: a dump as the pieces that were written, each behind a header with its place.

What makedumpfile -F and QEMU's dump-guest-memory write, since neither can go back in a pipe. Inside of it is a kdump
or an ELF core. Sources: makedumpfile, makedumpfile.h and read_start_flat_header; QEMU, include/sysemu/dump.h.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.memory import elf_core, kdump
from kallsift.memory.model import Memory
from kallsift.memory.rearranged import Rearranged

MAGIC = b"makedumpfile\0\0\0\0"
HEADER = struct.Struct(">16sqq")
"""Mark, type, version; the rest of `HEADER_SIZE` bytes is blank."""
HEADER_SIZE = 4096
TYPE = VERSION = 1
PIECE = struct.Struct(">qq")
"""Before each piece: its offset in the dump, and its size; both -1 behind the last one."""
END = -1

PIECE_LIMIT = 1 << 22
"""Pieces have some KiB at least, so these are tens of gigabytes of packed pages."""
OFFSET_LIMIT = 1 << 60


def probe(header: bytes) -> bool:
    """Whether a file that begins with ``header`` is a flattened stream."""
    return header.startswith(MAGIC)


def open(name: str, view: NDArray[np.uint8], release: Callable[[], None]) -> Memory:
    """The memory in the dump that the stream holds; its pieces are read where they stand.

    Args:
        name: the source as messages call it.
        view: the whole file, shape (size,), uint8.
        release: gives the file back.

    Raises:
        SourceError: if the stream is broken, or holds no dump that can be read.
    """
    _, kind, version = HEADER.unpack(view[: HEADER.size].tobytes().ljust(HEADER.size, b"\0"))
    if (kind, version) != (TYPE, VERSION):
        raise SourceError(f"{name}: flattened dump of the unknown type {kind}, version {version}; copy it again")
    pieces, whole = _pieces(name, view)
    content = Rearranged(view, *pieces.T.copy())
    header = content[:HEADER_SIZE].tobytes()
    for probed, opened in ((kdump.probe, kdump.open), (elf_core.probe, elf_core.open)):
        if probed(header):
            memory = opened(name, content, release)
            notes = memory.notes if whole else ("the flattened stream is cut short", *memory.notes)
            return replace(memory, container=f"flattened {memory.container}", notes=notes)
    raise SourceError(f"{name}: this flattened stream holds neither a kdump nor an ELF core; take the dump again")


def _pieces(name: str, view: NDArray[np.uint8]) -> tuple[NDArray[np.int64], bool]:
    """Offset, size and place of each piece, shape (n, 3), int64, and whether the stream has its end."""
    data = view.data
    found: list[tuple[int, int, int]] = []
    position, size = HEADER_SIZE, len(view)
    whole = False
    while position + PIECE.size <= size:
        offset, length = PIECE.unpack_from(data, position)
        if offset == length == END:
            whole = True
            break
        if not 0 <= offset < OFFSET_LIMIT or not 0 < length < OFFSET_LIMIT:
            raise SourceError(
                f"{name}: the piece at file offset {position:#x} says that {length} bytes belong at {offset:#x}; "
                "the stream is damaged, take the dump again"
            )
        if len(found) == PIECE_LIMIT:
            raise SourceError(f"{name}: more than {PIECE_LIMIT} pieces; this flattened stream is no dump of a machine")
        position += PIECE.size
        if position < size:
            found.append((offset, min(length, size - position), position))
        position += length
    if not found:
        raise SourceError(f"{name}: the flattened stream ends before its first piece; copy it again")
    return np.array(found, np.int64), whole
