"""Decode the compressions of kernels: one row each, all decoded piece by piece under one ceiling.

Kernels are compressed by scripts/Makefile.lib (cmd_gzip, cmd_xzkern, cmd_lzma, cmd_bzip2, cmd_lzo, cmd_lz4,
cmd_zstd22). Bytes behind the end of a stream are usual: some of those commands append the uncompressed size.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from heapq import merge

import numpy as np

from kallsift.arrays import Bytes
from kallsift.budget import WorkBudget
from kallsift.compression import decoders, lz4_legacy, lzop
from kallsift.errors import ImageError
from kallsift.optional_package import MissingPackageError

CEILING = 512 << 20
"""Highest number of bytes that one payload may expand to; kernels with everything built in have about 100 MiB."""
RATIO = 256
"""Highest ratio of expansion of a stream beyond `RATIO_FREE` bytes; kernels shrink to a tenth."""
RATIO_FREE = 64 << 20

CHUNK = 1 << 16
PIECE = 1 << 20
"""Number of bytes that a decoder gets (`CHUNK`), and returns, at once."""

IDLE_LIMIT = 4
"""Number of calls after which a decoder that neither takes nor returns anything is at its end."""

HEADER_SIZE = 32
"""Number of bytes by which a stream is recognised."""

Pieces = Generator[bytes, None, int]
"""Generator that yields the decoded pieces, each from at most `CHUNK` bytes; it returns the offset behind the end."""

DECODING = 4
"""Cost of decoding one byte, as the number of bytes that could be read in that time."""


class CodecError(ImageError):
    """A payload cannot be decoded; the text says why.

    Attributes:
        expanded: number of bytes that were decoded before that.
    """

    def __init__(self, message: str, expanded: int = 0) -> None:
        super().__init__(message)
        self.expanded = expanded


class MissingCodecError(CodecError):
    """The package that decodes a payload is not installed."""


def _streamed(start: Callable[[], decoders.Started]) -> Callable[[memoryview], Pieces]:
    """Return a decoder that uses a decompressor from ``start``."""

    def pieces(data: memoryview) -> Pieces:
        stream, error = start()
        position = idle = 0
        while not stream.eof:
            chunk = bytes(data[position : position + CHUNK]) if stream.needs_input else b""
            position += len(chunk)
            try:
                piece = stream.decompress(chunk, PIECE)
            except (error, EOFError) as problem:
                raise CodecError(f"is damaged ({problem})") from problem
            except MemoryError as problem:
                raise CodecError("needs more memory than this machine has free") from problem
            yield piece
            # some decoders return nothing although they still have unread input
            idle = 0 if piece or chunk else idle + 1
            if idle > IDLE_LIMIT:
                raise CodecError("is cut short")
        return position - len(stream.unused_data or b"")

    return pieces


def _blocks(
    pieces: Callable[[memoryview, decoders.Block, type[Exception]], Pieces],
    start: Callable[[], tuple[decoders.Block, type[Exception]]],
) -> Callable[[memoryview], Pieces]:
    """Return a decoder of a container of blocks.

    Each block is decompressed by the function from ``start``.
    """

    def decoded(data: memoryview) -> Pieces:
        try:
            return (yield from pieces(data, *start()))
        except ValueError as problem:
            raise CodecError(str(problem)) from problem

    return decoded


@dataclass(frozen=True)
class Codec:
    """One compression.

    Attributes:
        name: name in messages.
        patterns: possible beginnings of a stream, each of at most `HEADER_SIZE` bytes; each begins with one fixed byte,
            because a search for a set of bytes takes 16 times as long.
        pieces: function that decodes the stream at the beginning of some bytes.
        transparent: True if data that does not repeat stands in the stream as it is.
    """

    name: str
    patterns: tuple[re.Pattern[bytes], ...]
    pieces: Callable[[memoryview], Pieces]
    transparent: bool = False

    def begins(self, header: bytes) -> bool:
        """Tell whether a stream begins with ``header``, or is all of it."""
        return any(pattern.match(header) for pattern in self.patterns)

    def offsets(self, view: Bytes) -> Iterator[int]:
        """Yield the offsets where streams can begin, ascending."""
        yield from merge(*((match.start() for match in pattern.finditer(view.data)) for pattern in self.patterns))


def _patterns(*patterns: bytes) -> tuple[re.Pattern[bytes], ...]:
    return tuple(map(re.compile, patterns))


_LZMA_SIZES = rb"\0\0[\0-\xff][\0-\x10](?:\xff{8}|[\0-\xff]{3}[\0-\x1f]\0{4})"
"""Size of the dictionary, and uncompressed size, in the header of an LZMA stream."""

CODECS = (
    Codec("xz", _patterns(rb"\xfd7zXZ\0\0[\0\x01\x04\x0a]"), _streamed(decoders.xz)),
    Codec("lzo", _patterns(rb"\x89LZO\0\r\n\x1a\n"), _blocks(lzop.pieces, decoders.lzo_block), True),
    Codec("bzip2", _patterns(rb"BZh[1-9]1AY&SY"), _streamed(decoders.bzip2)),
    Codec("zstd", _patterns(rb"\x28\xb5\x2f\xfd"), _streamed(decoders.zstd), True),
    # version 01 in the two upper bits of the flags
    Codec("lz4 frame", _patterns(rb"\x04\x22\x4d\x18[\x40-\x7f][\x40-\x70]"), _streamed(decoders.lz4_frame), True),
    Codec("lz4", _patterns(rb"\x02\x21\x4c\x18"), _blocks(lz4_legacy.pieces, decoders.lz4_block), True),
    # deflate, no flags that RFC 1952 reserves, any time, a level and a system that are known
    Codec(
        "gzip",
        _patterns(rb"\x1f\x8b\x08[\0-\x1f][\0-\xff]{4}[\0\x02\x04][\0-\x0d\xff]"),
        _streamed(decoders.gzip),
    ),
    # Properties of -lc3 -lp0 -pb2 and of OpenWrt's -lc1 -lp2 -pb2; a dictionary of a multiple of 64 KiB up to 256 MiB;
    # the size unknown or below 512 MiB.
    Codec(
        "lzma",
        _patterns(*(properties + _LZMA_SIZES for properties in (rb"\x5d", rb"\x6d"))),
        _streamed(decoders.lzma_alone),
    ),
)
"""All compressions, those with the most distinctive beginnings first."""

TRANSPARENT = tuple(codec for codec in CODECS if codec.transparent)

BY_NAME = {codec.name: codec for codec in CODECS}


@dataclass(frozen=True, eq=False)
class Decoded:
    """The contents of a stream.

    Attributes:
        data: the bytes; read-only.
        used: size of the stream itself.
        problem: reason why bytes may be missing, e.g. ``"is cut short"``; None for a whole stream.
    """

    data: Bytes
    used: int
    problem: str | None = None


def recognise(view: Bytes) -> Codec | None:
    """Return the compression that ``view`` begins with; None if there is none."""
    header = view[:HEADER_SIZE].tobytes()
    return next((codec for codec in CODECS if codec.begins(header)), None)


def decode(codec: Codec, view: Bytes, budget: WorkBudget) -> Decoded:
    """Decode the stream at the beginning of ``view``, as far as possible.

    If the stream is damaged, `Decoded.problem` has the reason.

    Raises:
        CodecError: if nothing can be decoded, or if it is more than the budget, `CEILING` or `RATIO` allows.
    """
    ceiling = min(CEILING, max(RATIO_FREE, RATIO * len(view)))
    gathered = bytearray()
    pieces = codec.pieces(view.data)
    used, problem = len(view), None
    while True:
        try:
            piece = next(pieces)
            gathered += piece
        except StopIteration as end:
            used = end.value
            break
        except MissingPackageError as error:
            reason = f"{codec.name} needs the package {error}; pip install 'kallsift[images]'"
            raise MissingCodecError(reason) from error
        except CodecError as error:
            if not gathered:
                raise CodecError(f"{codec.name} stream {error}") from error
            problem = str(error)
            break
        if not budget.take("compressed streams", DECODING * CHUNK + len(piece), len(piece)):
            raise CodecError(f"{codec.name} stream exceeds the limit of work for a file of this size", len(gathered))
        if len(gathered) > ceiling:
            reason = f"expands to more than {ceiling >> 20} MiB, more than any kernel"
            raise CodecError(f"{codec.name} stream {reason}", len(gathered))
    if not gathered:
        raise CodecError(f"{codec.name} stream is empty")
    data = np.frombuffer(gathered, np.uint8)
    data.flags.writeable = False
    return Decoded(data, used, problem)


def beginning(codec: Codec, view: Bytes) -> bytes:
    """Return the first piece of the stream that ``view`` begins with.

    It has at most `PIECE` bytes, and is empty if the stream is broken.
    """
    try:
        return next(filter(None, codec.pieces(view.data)), b"")
    except (CodecError, MissingPackageError):
        return b""
