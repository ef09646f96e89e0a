"""Start decoders of compressed streams, of the standard library and of optional packages, behind one interface."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Protocol

from kallsift.optional_package import ZSTD, optional_package

MEMORY_LIMIT = 256 << 20
"""Highest number of bytes of memory for an xz or lzma decoder; xz -9 takes 65 MiB, the kernel's own scripts 129 MiB."""
WINDOW_LOG_LIMIT = 27
"""Largest window of a zstd stream as a power of two.

It is the default limit of zstd's own tool, and the window that `zstd --ultra -22` writes.
"""


class Decoder(Protocol):
    """The interface that decompressors of the standard library share."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


Started = tuple[Decoder, type[Exception]]
"""A decoder, and the error that it raises."""

Block = Callable[[memoryview, int], bytes]
"""Function that decompresses one block to at most a number of bytes."""


class _Gzip:
    """zlib's decompressor, with the interface of the others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def gzip() -> Started:
    """Start a decoder of gzip."""
    return _Gzip(), zlib.error


def bzip2() -> Started:
    """Start a decoder of bzip2."""
    return bz2.BZ2Decompressor(), OSError


def xz() -> Started:
    """Start a decoder of xz."""
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_LIMIT), lzma.LZMAError


def lzma_alone() -> Started:
    """Start a decoder of LZMA in its old format (.lzma)."""
    return lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MEMORY_LIMIT), lzma.LZMAError


def zstd() -> Started:
    """Start a decoder of zstd.

    Raises:
        MissingPackageError: if its package is not installed.
    """
    package = optional_package(*ZSTD)
    options = {package.DecompressionParameter.window_log_max: WINDOW_LOG_LIMIT}
    return package.ZstdDecompressor(options=options), package.ZstdError


def lz4_frame() -> Started:
    """Start a decoder of lz4's frames.

    Raises:
        MissingPackageError: if its package is not installed.
    """
    return optional_package("lz4.frame").LZ4FrameDecompressor(), RuntimeError


def lz4_block() -> tuple[Block, type[Exception]]:
    """Return a function that decompresses blocks of lz4, and the error that it raises.

    Raises:
        MissingPackageError: if its package is not installed.
    """
    package = optional_package("lz4.block")

    def decode(packed: memoryview, size: int) -> bytes:
        unpacked: bytes = package.decompress(packed, uncompressed_size=size)
        return unpacked

    return decode, package.LZ4BlockError


def lzo_block() -> tuple[Block, type[Exception]]:
    """Return a function that decompresses LZO1X blocks, and the error that it raises.

    Raises:
        MissingPackageError: if its package is not installed.
    """
    package = optional_package("lzallright")

    def decode(packed: memoryview, size: int) -> bytes:
        unpacked: bytes = package.LZOCompressor.decompress(bytes(packed), size)
        return unpacked

    return decode, package.LZOError
