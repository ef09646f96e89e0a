"""Keep streams in a temporary file without a name, decompressed if necessary, so that they can be mapped.

The file disappears with the mapping. It lies in the folder TMPDIR. A stream may expand to half of the free space of
that disk, but beyond `FREE` bytes never to more than `RATIO` times its own size.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.compression import decoders, lzop
from kallsift.compression.bzip2_rest import bzip2_rest
from kallsift.compression.lzop_rest import lzop_rest
from kallsift.compression.stream_frames import (
    Piece,
    Salvage,
    StreamDamage,
    gzip_rest,
    lz4_rest,
    xz_rest,
    zstd_rest,
)
from kallsift.errors import SourceError
from kallsift.memory.file_mapping import stored_size
from kallsift.memory.spool_file import Place, SpoolFile
from kallsift.optional_package import MissingPackageError

RATIO, FREE = 1024, 1 << 30
"""Highest ratio of expansion, and the size in bytes to which it does not apply.

Deflate cannot expand more; memory shrinks to a third, or to a hundredth where most of it is blank.
"""
CHUNK, PIECE = 1 << 18, 1 << 20
"""Number of bytes that a decoder gets and returns at once."""
FIRST_CHUNK = 1 << 9
"""Number of bytes that a decoder gets at first."""
STREAM_COST = 1 << 15
"""Cost of a new decoder, as the number of bytes that could be read in that time."""


MAX_DAMAGES = 1 << 10
"""Highest number of times that reading a compressed file continues behind damage."""


class DamagedStreamError(Exception):
    """A stream is cut short or cannot be decompressed further; the text says why.

    Attributes:
        begin: offset at which that stream begins.
        done: number of bytes that were decompressed of it.
        is_final: True if it is not worthwhile to continue behind it.
    """

    def __init__(self, message: str, begin: int = 0, done: int = 0, is_final: bool = False) -> None:
        super().__init__(message)
        self.begin, self.done, self.is_final = begin, done, is_final


_Unpack = Callable[[memoryview, WorkBudget], Iterator[bytes]]
"""Function that decompresses the stream at the beginning of some bytes, piece by piece, within a budget."""


def _streams(start: Callable[[], decoders.Started]) -> _Unpack:
    """Return a function that decompresses one stream after the other.

    Each stream gets a decoder from ``start``.
    """

    def pieces(data: memoryview, budget: WorkBudget) -> Iterator[bytes]:
        position = 0
        while position < len(data):
            if not budget.take("streams", STREAM_COST):
                reason = "is one of more streams than the limit of work for a file of this size allows"
                raise DamagedStreamError(reason, position, is_final=True)
            decoder, error = start()
            begin, done, idle, size = position, 0, 0, FIRST_CHUNK
            while not decoder.eof:
                chunk = bytes(data[position : position + size]) if decoder.needs_input else b""
                position += len(chunk)
                # a decoder copies the bytes behind its stream's end, so it gets few bytes at first
                size = min(2 * size, CHUNK)
                try:
                    piece = decoder.decompress(chunk, PIECE)
                except (error, EOFError, MemoryError) as problem:
                    raise DamagedStreamError(f"is damaged ({problem})", begin, done) from problem
                if piece:
                    done += len(piece)
                    yield piece
                idle = 0 if piece or chunk else idle + 1
                if idle > 4:
                    raise DamagedStreamError("is cut short", begin, done)
            position -= len(decoder.unused_data or b"")
            if not any(data[position : position + 16]):
                return  # padding of a tape or a disk

    return pieces


def _lzop(data: memoryview, budget: WorkBudget) -> Iterator[bytes]:
    end = yield from _lzop_stream(data, 0, budget)
    while data[end : end + lzop.MAGIC_SIZE] == lzop.MAGIC:
        end = yield from _lzop_stream(data, end, budget)


def _lzop_stream(data: memoryview, begin: int, budget: WorkBudget) -> Generator[bytes, None, int]:
    """Decompress the stream at an offset; return the offset behind it."""
    done, pieces = 0, lzop.pieces(data[begin:], *decoders.lzo_block())
    while True:
        if not budget.take("blocks", lzop.BLOCK_COST):
            raise DamagedStreamError("has more blocks than the limit of work for its size allows", is_final=True)
        try:
            piece = next(pieces)
        except StopIteration as stopped:
            end: int = begin + stopped.value
            if not lzop.is_end(data[end:]):
                raise DamagedStreamError(f"is damaged (end mark at offset {end - 4:#x} of it)", begin, done) from None
            return end
        except ValueError as problem:
            raise DamagedStreamError(str(problem), begin, done) from problem
        done += len(piece)
        yield piece


STREAMS: dict[str, _Unpack] = {
    "gzip": _streams(decoders.gzip),
    "bzip2": _streams(decoders.bzip2),
    "xz": _streams(decoders.xz),
    "lz4": _streams(decoders.lz4_frame),
    "lzop": _lzop,
    "zstd": _streams(decoders.zstd),
}
"""Compressions by name: each function decompresses the beginning of some bytes, piece by piece."""

SALVAGES: dict[str, Salvage] = {
    "gzip": gzip_rest,
    "bzip2": bzip2_rest,
    "xz": xz_rest,
    "lz4": lz4_rest,
    "lzop": lzop_rest,
    "zstd": zstd_rest,
}
"""Functions that return the rest of a damaged stream, where that is possible."""


def spooled(
    name: str, compression: str, packed: NDArray[np.uint8], place: Place
) -> tuple[NDArray[np.uint8], str | None]:
    """Return the contents of a compressed stream, mapped read-only.

    Args:
        name: name of the source in messages.
        compression: a key of `STREAMS`.
        packed: the stream, shape (size,), uint8.
        place: function for the offset of the end if an unknown number of bytes is lost before it.

    Returns:
        The contents, and the reason why they may be incomplete; None if they are complete.

    Raises:
        SourceError: if nothing can be decompressed, if it is too much, or if a package is missing.
    """
    problem = None

    def pieces() -> Iterator[Piece]:
        nonlocal problem
        for piece in _pieces(compression, packed.data, WorkBudget.of(stored_size(packed))):
            if isinstance(piece, DamagedStreamError):
                problem = problem or f"the {compression} stream {piece}"
            else:
                yield piece

    try:
        data, lost = gathered(name, pieces(), "unpacks to", place=place, limit=max(FREE, RATIO * len(packed)))
    except MissingPackageError as error:
        raise SourceError(f"{name}: {compression} needs the package {error}; pip install 'kallsift[images]'") from error
    if data is None:
        raise SourceError(f"{name}: {problem or f'the {compression} stream is empty'}; copy it again")
    return data, f"{problem}{lost}" if problem else None


def _pieces(compression: str, packed: memoryview, budget: WorkBudget) -> Iterator[Piece | DamagedStreamError]:
    """Yield the contents of a compressed stream, and each error where it occurs.

    Contents behind damage are included as far as they can be recovered.
    """
    position, salvage = 0, SALVAGES[compression]
    for _ in range(MAX_DAMAGES):
        try:
            yield from STREAMS[compression](packed[position:], budget)
        except DamagedStreamError as error:
            yield error
            if error.is_final:
                return
            position += yield from salvage(StreamDamage(packed[position:], error.begin, error.done, budget))
        else:
            return
        if position >= len(packed):
            return


def gathered(
    name: str,
    pieces: Iterable[Piece],
    verb: str,
    keep: Callable[[int], None] | None = None,
    place: Place | None = None,
    limit: int | None = None,
) -> tuple[NDArray[np.uint8] | None, str]:
    """Store pieces one after the other in a temporary file, and map it read-only.

    Args:
        name: name of the source in messages.
        pieces: the bytes; and gaps and breaks, lost bytes between them, which become holes.
        verb: verb for messages, such as "unpacks to".
        keep: function that gets the file's descriptor before it is closed.
        place: function for the offset of the end if an unknown number of bytes is lost before it.
        limit: highest number of bytes; None if only the disk limits it.

    Returns:
        The bytes, None if there are none; and the end of a message on lost bytes, empty if none are lost.

    Raises:
        SourceError: if there are too many of them, or they cannot be written.
    """
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile(prefix="kallsift.") as file:
            room = shutil.disk_usage(folder).free // 2
            spool = SpoolFile(file)
            for piece in pieces:
                spool.add(piece)
                if limit is not None and spool.size > limit:
                    raise SourceError(
                        f"{name}: {verb} more than {limit >> 20} MiB, more than any dump; check what it is"
                    )
                if spool.size > room:
                    raise SourceError(
                        f"{name}: {verb} more than {room >> 20} MiB, half of what is free in {folder}; "
                        "set TMPDIR to a folder on a larger disk"
                    )
            data = spool.finish(name, place)
            if keep is not None and data is not None:
                keep(file.fileno())
    except OSError as error:
        raise SourceError(f"{name}: cannot be kept in {folder} ({error.strerror}); set TMPDIR to another") from error
    return data, _lost(spool)


def _lost(spool: SpoolFile) -> str:
    lost = f", and {spool.lost:,} bytes in the middle of it are lost" if spool.lost else ""
    guess = (
        " (their number is inferred from usual sizes of RAM: addresses after them may be wrong)"
        if spool.is_guess
        else ""
    )
    return lost + guess
