"""AVML dumps: ranges of physical memory, each behind a header as LiME has it, compressed by Snappy.

Sources: microsoft/avml, src/image.rs (header: magic ``AVML``, version 2, first and last address; behind the range the
number of its compressed bytes) and the Snappy framing format (framing_format.txt of google/snappy). Without
compression AVML writes LiME dumps. Blocks that hold nothing but zeros are left out of a dump: they stay unmapped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.memory.lime import RANGE_HEADER
from kallsift.memory.model import AddressSpace, Memory, Packed, Stretch, cut_short, sorted_segments
from kallsift.memory.stored import Cache, Stored
from kallsift.memory.unreadable import UnreadablePages

MAGIC = b"AVML"
VERSION = 2
HEADER = RANGE_HEADER.newbyteorder("<")

IDENTIFIER = b"\xff\x06\x00\x00sNaPpY"
"""The chunk that begins a stream of frames."""

COMPRESSED, PLAIN, STREAM, FIRST_SKIPPABLE = 0x00, 0x01, 0xFF, 0x80
"""Kinds of chunks; those from `FIRST_SKIPPABLE` on hold no data."""

CHECKSUM = 4
MAX_CHUNK = 1 << 16
"""Bytes that a chunk unpacks to at most."""

MAX_CHUNKS = 1 << 24
TRAILER = 8


@dataclass(frozen=True)
class _Chunk:
    """Where one chunk with data lies in the file, its header included, and what it unpacks to."""

    start: int
    end: int
    size: int


def probe(header: bytes) -> bool:
    """Whether a file that begins with ``header`` is an AVML dump."""
    return header[:4] == MAGIC


def open(name: str, view: NDArray[np.uint8], release: Callable[[], None]) -> Memory:
    """The ranges of an AVML dump; a chunk is unpacked when it is asked for.

    Args:
        name: the source as messages call it.
        view: the whole file, shape (size,), uint8.
        release: gives the file back.

    Raises:
        SourceError: for a broken header, with its file offset; for ranges that overlap; if a package is missing.
    """
    cramjam = _cramjam(name)
    notes: list[str] = []
    runs: list[tuple[int, list[_Chunk]]] = []
    # where the last of them ends
    behind = -1
    position = found = 0
    while position < len(view):
        header = view[position : position + HEADER.itemsize]
        if len(header) < HEADER.itemsize:
            notes.append(cut_short(f"header at file offset {position:#x}", len(header), HEADER.itemsize))
            break
        fields = header.view(HEADER)[0]
        start, end = int(fields["start"]), int(fields["end"])
        if header[:4].tobytes() != MAGIC or int(fields["version"]) != VERSION or end < start:
            raise SourceError(
                f"{name}: no AVML header of version {VERSION} at file offset {position:#x}; the dump is damaged"
            )
        chunks, position = _chunks(name, view, position + HEADER.itemsize, end - start + 1)
        found += len(chunks)
        if found > MAX_CHUNKS:
            raise SourceError(f"{name}: more than {MAX_CHUNKS:,} chunks; this is no dump of a machine")
        present = sum(chunk.size for chunk in chunks)
        if present < end - start + 1:
            notes.append(cut_short(f"range {start:#x}-{end:#x}", present, end - start + 1))
        if behind == start:
            runs[-1][1].extend(chunks)
        elif chunks:
            runs.append((start, chunks))
        behind = start + present if chunks else behind
    if not runs:
        raise SourceError(f"{name}: the AVML dump holds no memory; take it again")
    unreadable = UnreadablePages(MAX_CHUNK)
    stored = partial(_stored, view, cramjam=cramjam, cache=Cache(), unreadable=unreadable)
    segments: list[Stretch] = [stored(start, chunks, owner) for owner, (start, chunks) in enumerate(runs)]
    return Memory(
        name,
        "AVML, Snappy",
        AddressSpace.PHYSICAL,
        sorted_segments(segments),
        release=release,
        notes=tuple(notes),
        unreadable=unreadable,
    )


def _chunks(name: str, view: NDArray[np.uint8], position: int, size: int) -> tuple[list[_Chunk], int]:
    """The chunks with the data of a range of ``size`` bytes, as many as there are, and the file offset behind it."""
    chunks: list[_Chunk] = []
    while size > 0:
        head = view[position : position + 4 + CHECKSUM + 4].tobytes()
        kind, end = head[0] if head else 0, position + 4 + int.from_bytes(head[1:4], "little")
        if len(head) < 4 or end > len(view):
            return chunks, len(view)
        if kind in (COMPRESSED, PLAIN):
            unpacked = _length(head[4 + CHECKSUM :]) if kind == COMPRESSED else end - position - 4 - CHECKSUM
            if not 0 < unpacked <= min(MAX_CHUNK, size):
                raise SourceError(f"{name}: the Snappy chunk at {position:#x} of the file is broken; copy it again")
            chunks.append(_Chunk(position, end, unpacked))
            size -= unpacked
        elif kind < FIRST_SKIPPABLE:
            raise SourceError(f"{name}: a chunk of kind {kind:#x} at {position:#x} of the file; copy it again")
        position = end
    return chunks, position + TRAILER


def _length(data: bytes) -> int:
    """The number that a Snappy block begins with: seven bits in each byte, the lowest first."""
    value = 0
    for index, byte in enumerate(data):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value
    return 0


def _stored(
    view: NDArray[np.uint8],
    start: int,
    chunks: list[_Chunk],
    owner: int,
    cramjam: Any,
    cache: Cache,
    unreadable: UnreadablePages,
) -> Stored:
    bounds = np.concatenate(([0], np.cumsum([chunk.size for chunk in chunks]))).astype(np.int64)

    def unpacked(start: int, end: int, size: int) -> NDArray[np.uint8] | None:
        data = np.empty(size, np.uint8)
        try:
            written = cramjam.snappy.decompress_into(IDENTIFIER + view[start:end].tobytes(), data)
        except cramjam.DecompressionError:
            return None
        return data if written == size else None

    def decode(number: int) -> NDArray[np.uint8]:
        data = unpacked(chunks[number].start, chunks[number].end, chunks[number].size)
        if data is None:
            unreadable.add(owner, int(bounds[number]), int(bounds[number + 1]))
            return np.zeros(chunks[number].size, np.uint8)
        return data

    def decode_many(first: int, end: int) -> NDArray[np.uint8]:
        some = chunks[first:end]
        # unless a range ends between them
        if all(one.end == other.start for one, other in pairwise(some)):
            data = unpacked(some[0].start, some[-1].end, int(bounds[end] - bounds[first]))
            if data is not None:
                return data
        return np.concatenate([decode(number) for number in range(first, end)])

    # Snappy leaves what does not repeat as it is
    places = np.array([chunk.start for chunk in chunks], np.int64) - chunks[0].start
    packed = Packed(view[chunks[0].start : chunks[-1].end], places, bounds)
    return Stored(
        start,
        bounds,
        int(bounds[-1]),
        decode,
        cache,
        owner,
        decode_many=decode_many,
        packed=packed,
        unreadable_pages=unreadable,
    )


def _cramjam(name: str) -> Any:
    try:
        return import_module("cramjam")
    except ImportError as error:
        raise SourceError(f"{name}: AVML needs the package cramjam; pip install 'kallsift[images]'") from error
