"""Read AVML dumps: ranges of physical memory, each behind a header like LiME's, compressed by Snappy.

Sources: microsoft/avml, src/image.rs (header: magic ``AVML``, version 2, first and last address; behind the range the
number of its compressed bytes) and the Snappy framing format (`avml_frames`). Without compression AVML writes LiME
dumps. Blocks that hold nothing but zeros are left out of a dump: they stay unmapped.

A damaged header costs its own range, and a chunk's damaged header costs the chunk, if the ones behind it are found
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.errors import SourceError
from kallsift.memory.claimed import Claimed
from kallsift.memory.file_mapping import stored_size
from kallsift.memory.formats.avml_frames import IDENTIFIER, MAX_CHUNK, TRAILER, Chunk, Frames
from kallsift.memory.formats.range_headers import SIZE, HeadedRange, RangeFormat, next_range, range_at
from kallsift.memory.lazy_segment import Cache, LazySegment
from kallsift.memory.memory import AddressSpace, Memory, cut_short
from kallsift.memory.remarks import limited, reason
from kallsift.memory.segments import CompressedView, Segment, sorted_segments
from kallsift.memory.unreadable import UnreadablePages
from kallsift.optional_package import MissingPackageError, optional_package

MAGIC = b"AVML"
FORM = RangeFormat(MAGIC, 2, "<", IDENTIFIER)

RANGE_COST = 1 << 16
"""Cost of one range, as the number of bytes that could be read in that time; AVML writes one for 16 MiB of memory."""

Run = tuple[int, list[Chunk]]
"""The first address of chunks that are adjacent in memory, and these chunks."""


def probe(header: bytes) -> bool:
    """Tell whether a file that begins with ``header`` is an AVML dump."""
    return header[:4] == MAGIC


def open(name: str, view: NDArray[np.uint8], release: Callable[[], None]) -> Memory:
    """Open the ranges of an AVML dump; a chunk is decompressed on demand.

    Args:
        name: name of the source in messages.
        view: the whole file, shape (size,), uint8.
        release: function that releases the file.

    Raises:
        SourceError: if there is no memory at all, or if a package is missing.
    """
    try:
        optional_package("cramjam")
    except MissingPackageError as error:
        raise SourceError(f"{name}: AVML needs the package {error}; pip install 'kallsift[images]'") from error
    notes: list[str] = []
    runs: list[Run] = []
    claimed = Claimed()
    budget = WorkBudget.of(stored_size(view))
    for start, chunks in _runs(Frames(view, budget), notes):
        end = start + sum(chunk.size for chunk in chunks)
        if not claimed.claim_whole(start, end):
            notes.append(f"range {start:#x}-{end - 1:#x} overlaps earlier ranges: it is left out")
        elif runs and runs[-1][0] + sum(chunk.size for chunk in runs[-1][1]) == start:
            runs[-1][1].extend(chunks)
        else:
            runs.append((start, chunks))
    if budget.left_out:
        notes.insert(0, budget.left_out)
    if not runs:
        raise SourceError(f"{name}: the AVML dump holds no memory{reason(notes)}; take it again")
    unreadable = UnreadablePages(MAX_CHUNK)
    stored = partial(_stored, view, cache=Cache(), unreadable=unreadable)
    segments: list[Segment] = [stored(start, chunks, owner) for owner, (start, chunks) in enumerate(runs)]
    return Memory(
        name,
        "AVML, Snappy",
        AddressSpace.PHYSICAL,
        sorted_segments(segments),
        release=release,
        notes=limited(notes),
        unreadable=unreadable,
    )


def _runs(frames: Frames, notes: list[str]) -> Iterator[Run]:
    """Yield the runs of adjacent chunks of each range.

    Remarks on damage are appended to ``notes``.
    """
    view, position = frames.view, 0
    while position < len(view):
        if not frames.budget.take("ranges", RANGE_COST):
            return
        found = range_at(view, position, FORM)
        if found is None:
            if len(view) - position < SIZE and MAGIC.startswith(view[position : position + 4].tobytes()):
                notes.append(cut_short(f"header at file offset {position:#x}", len(view) - position, SIZE))
                return
            notes.append(f"no AVML header of version 2 at file offset {position:#x}: its range is left out")
            position = next_range(view, position + 1, FORM)
            continue
        chunks, behind = frames.chunks(found)
        following = behind + TRAILER
        trailer = int.from_bytes(view[behind:following].tobytes(), "little")
        is_followed = following >= len(view) or range_at(view, following, FORM) is not None
        if sum(chunk.size for chunk in chunks) == found.size and (is_followed or trailer == behind - found.content):
            yield found.start, chunks
            position = following
            continue
        # a chunk with a wrong, larger size may lead past the next range's header
        position = next_range(view, found.content, FORM)
        yield from _damaged(frames, found, chunks, position, notes)


def _damaged(
    frames: Frames, found: HeadedRange, chunks: list[Chunk], following: int, notes: list[str]
) -> Iterator[Run]:
    """Yield the rest of a range whose chunks do not lead to the next range.

    Remarks on lost bytes are appended to ``notes``.

    Args:
        frames: frames of the file.
        found: the range.
        chunks: its chunks from the first one on.
        following: file offset of the next range's header; the file's size if there is none.
        notes: remarks.
    """
    what = f"range {found.start:#x}-{found.end - 1:#x}"
    at_end = following == len(frames.view)
    chunks = [chunk for chunk in chunks if chunk.end <= following - (0 if at_end else TRAILER)]
    last = frames.last_chunks(found, chunks[-1].start if chunks else found.content, following - TRAILER)
    if frames.lead(found.content, following - TRAILER) or (last and last[0].offset % MAX_CHUNK):
        # the chunks are intact, but there are more or fewer than the header says
        notes.append(f"the AVML header of {what} is damaged: the range is left out")
        return
    if last:
        chunks = [chunk for chunk in chunks if chunk.offset + chunk.size <= last[0].offset]
    present = sum(chunk.size for chunk in chunks)
    if chunks:
        yield found.start, chunks
    if last:
        yield found.start + last[0].offset, last
    present += sum(chunk.size for chunk in last)
    if at_end and not last:
        notes.append(cut_short(what, present, found.size))
    elif present < found.size:
        notes.append(f"{what} is damaged: {found.size - present} of {found.size} bytes are lost")


def _stored(
    view: NDArray[np.uint8],
    start: int,
    chunks: list[Chunk],
    owner: int,
    cache: Cache,
    unreadable: UnreadablePages,
) -> LazySegment:
    bounds = np.concatenate(([0], np.cumsum([chunk.size for chunk in chunks]))).astype(np.int64)

    broken = np.zeros(len(chunks), np.bool_)

    def decode(number: int) -> NDArray[np.uint8]:
        data = None
        if not broken[number]:
            data = _unpacked(view[chunks[number].start : chunks[number].end], chunks[number].size)
        if data is None:
            # it is not tried again
            broken[number] = True
            unreadable.add(owner, int(bounds[number]), int(bounds[number + 1]))
            return np.zeros(chunks[number].size, np.uint8)
        return data

    def decode_many(first: int, end: int) -> NDArray[np.uint8]:
        some = chunks[first:end]
        if broken[first:end].all():
            return np.zeros(int(bounds[end] - bounds[first]), np.uint8)
        # unless a range ends between them
        if all(one.end == other.start for one, other in pairwise(some)):
            data = _unpacked(view[some[0].start : some[-1].end], int(bounds[end] - bounds[first]))
            if data is not None:
                return data
        return np.concatenate([decode(number) for number in range(first, end)])

    # Snappy copies data that does not repeat
    places = np.array([chunk.start for chunk in chunks], np.int64) - chunks[0].start
    packed = CompressedView(view[chunks[0].start : chunks[-1].end], places, bounds)
    return LazySegment(
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


def _unpacked(packed: NDArray[np.uint8], size: int) -> NDArray[np.uint8] | None:
    """Decompress adjacent chunks to ``size`` bytes; None if they are damaged."""
    cramjam = optional_package("cramjam")
    data = np.empty(size, np.uint8)
    try:
        written = cramjam.snappy.decompress_into(IDENTIFIER + packed.tobytes(), data)
    except cramjam.DecompressionError:
        return None
    return data if written == size else None
