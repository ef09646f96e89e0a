"""Read makedumpfile's flattened stream: a dump as pieces, each behind a header with its offset in the dump.

makedumpfile -F and QEMU's dump-guest-memory write it, because neither can seek back in a pipe. Inside of it is a kdump
or an ELF core. Sources: makedumpfile, makedumpfile.h and read_start_flat_header; QEMU, include/sysemu/dump.h.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.memory.formats import elf_core
from kallsift.memory.formats.kdump import reader as kdump
from kallsift.memory.memory import Memory
from kallsift.memory.reassembled_file import ReassembledFile
from kallsift.memory.remarks import limited

MAGIC = b"makedumpfile\0\0\0\0"
HEADER = struct.Struct(">16sqq")
"""Mark, type, version; the rest of `HEADER_SIZE` bytes is blank."""
HEADER_SIZE = 4096
TYPE = VERSION = 1
PIECE = struct.Struct(">qq")
"""Header of each piece: its offset in the dump, and its size; both are -1 behind the last one."""
END = -1

PIECE_LIMIT = 1 << 22
"""Highest number of pieces: pieces have some KiB at least, so these are tens of gigabytes of packed pages."""
OFFSET_LIMIT = 1 << 48
ZEROS = (0, 1, 8, 9, 10)
"""Bytes of a piece's header that are zero: its offset is below `OFFSET_LIMIT`, and its size less than a TiB."""
ENDS = 64
"""Number of pieces before a damaged header whose end the next piece may continue."""
SEARCHED_AT_ONCE = 1 << 20


def probe(header: bytes) -> bool:
    """Tell whether a file that begins with ``header`` is a flattened stream."""
    return header.startswith(MAGIC)


def open(name: str, view: NDArray[np.uint8], release: Callable[[], None]) -> Memory:
    """Open the memory in the dump that the stream holds.

    The pieces are read in place.

    Args:
        name: name of the source in messages.
        view: the whole file, shape (size,), uint8.
        release: function that releases the file.

    Raises:
        SourceError: if the stream is broken, or holds no dump that can be read.
    """
    _, kind, version = HEADER.unpack(view[: HEADER.size].tobytes().ljust(HEADER.size, b"\0"))
    if (kind, version) != (TYPE, VERSION):
        raise SourceError(f"{name}: flattened dump of the unknown type {kind}, version {version}; copy it again")
    pieces, notes = _pieces(name, view)
    content = ReassembledFile(view, *pieces.T.copy())
    header = content[:HEADER_SIZE].tobytes()
    for probed, opened in ((kdump.probe, kdump.open), (elf_core.probe, elf_core.open)):
        if probed(header):
            memory = opened(name, content, release)
            return replace(memory, container=f"flattened {memory.container}", notes=(*limited(notes), *memory.notes))
    raise SourceError(f"{name}: this flattened stream holds neither a kdump nor an ELF core; take the dump again")


def _pieces(name: str, view: NDArray[np.uint8]) -> tuple[NDArray[np.int64], list[str]]:
    """Return offset, size and place of each piece, and remarks on damage.

    Behind an invalid header, the next piece is searched for. The piece between them belongs where the dump lacks a
    piece of its size.

    Returns:
        The pieces, shape (n, 3), int64, and the remarks.
    """
    found: list[tuple[int, int, int]] = []
    lost: list[tuple[int, int]] = []
    position, notes = HEADER_SIZE, ["the flattened stream is cut short"]
    while position + PIECE.size <= len(view):
        offset, length = PIECE.unpack_from(view.data, position)
        if offset == length == END:
            notes = []
            break
        if len(found) == PIECE_LIMIT:
            raise SourceError(
                f"{name}: the flattened stream has more than {PIECE_LIMIT} pieces, more than any dump; take "
                "the dump again"
            )
        begin = position + PIECE.size
        # a piece that seems to run past the end is cut short, or its header is damaged
        behind = begin + length if _is_piece(offset, length) else len(view) + 1
        if behind > len(view):
            # if the size of the piece before is wrong, the next header may stand inside of it
            before = found[-1] if found and not _is_piece(offset, length) else (0, 0, begin)
            ends = {offset + length for offset, length, _ in found[-ENDS:]}
            following = _next_piece(view, before[2], ends, before[0])
            if following < position:
                begin = found.pop()[2]
            if following < len(view) or not _is_piece(offset, length):
                lost.append((begin, following))
                position = following
                continue
        found.append((offset, min(length, len(view) - begin), begin))
        position = behind
    if not found:
        raise SourceError(f"{name}: the flattened stream ends before its first piece; copy it again")
    pieces = np.array(found, np.int64)
    for begin, end in lost:
        # the supposed header may be the end of a piece that is longer than its own header says
        fitting = [(_only_gap(pieces, end - start), start) for start in (begin, begin - PIECE.size)]
        placed = [[offset, end - start, start] for offset, start in fitting if offset is not None]
        if placed:
            pieces = np.append(pieces, placed[:1], axis=0)
        else:
            notes.append(f"the header of the piece at file offset {begin - PIECE.size:#x} is damaged: it is left out")
    return pieces, notes


def _is_piece(offset: int, length: int) -> bool:
    return 0 <= offset < OFFSET_LIMIT and 0 < length < OFFSET_LIMIT


def _next_piece(view: NDArray[np.uint8], start: int, ends: set[int], belongs: int) -> int:
    """Return the file offset of the next piece's header, else the file's size.

    Writers continue at one or two offsets in the dump. So a piece belongs at the end of one before it, or at the end of
    the piece whose header is lost.

    Args:
        view: the whole file.
        start: file offset of the content of the piece with the damaged header, or of the one before it.
        ends: ends of the pieces before it in the dump.
        belongs: offset in the dump of the piece before it.
    """
    for low in range(start, len(view), SEARCHED_AT_ONCE):
        part = view[low : low + SEARCHED_AT_ONCE + PIECE.size - 1]
        count = max(0, len(part) - PIECE.size + 1)
        fits = np.ones(count, np.bool_)
        for byte in ZEROS:
            fits &= part[byte : byte + count] == 0
        for place in (np.flatnonzero(fits) + low).tolist():
            offset, length = PIECE.unpack_from(view.data, place)
            behind = offset - (place - start)
            is_next = offset in ends or behind in ends or belongs in (behind, behind + PIECE.size)
            if is_next and _is_piece(offset, length) and place + length < len(view):
                return place
    return len(view)


def _only_gap(pieces: NDArray[np.int64], size: int) -> int | None:
    """Return the offset of the only gap of ``size`` bytes between pieces, else None."""
    order = np.argsort(pieces[:, 0], kind="stable")
    starts = pieces[order, 0]
    ends = np.maximum.accumulate(starts + pieces[order, 1])
    gaps = np.flatnonzero(starts[1:] - ends[:-1] == size)
    return int(ends[gaps[0]]) if len(gaps) == 1 else None
