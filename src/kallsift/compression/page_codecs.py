"""Decompress single pages of kdump files, each to at most the size of a page.

Sources: makedumpfile, diskdump_mod.h (DUMP_DH_COMPRESSED_*); a page is a zlib stream, an LZO1X block, a Snappy block
without frames, or a zstd frame.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from kallsift.optional_package import ZSTD, optional_package

Decode = Callable[[memoryview, memoryview], int]
"""Function that decompresses a page into a target, and returns the page's size.

It never writes more than the target has room for. It raises the error beside it, or ValueError.
"""

Codec = tuple[Decode, type[Exception]]


def _put(unpacked: bytes, target: memoryview) -> int:
    if len(unpacked) <= len(target):
        target[: len(unpacked)] = unpacked
    return len(unpacked)


def inflate(packed: memoryview, target: memoryview) -> int:
    """Decompress a page that is a zlib stream, as `Decode`.

    Raises:
        zlib.error: if it is none.
    """
    stream = zlib.decompressobj()
    # with room for one byte more, the decoder also checks the checksum behind the page
    unpacked = stream.decompress(packed, len(target) + 1)
    return _put(unpacked, target) if stream.eof else 0


def _lzo() -> Codec:
    lzo = optional_package("lzallright")

    def decode(packed: memoryview, target: memoryview) -> int:
        # one byte expands to at most 255, so a page that is too large stays bounded
        return _put(lzo.LZOCompressor.decompress(packed, len(target)), target)

    return decode, lzo.LZOError


def _snappy() -> Codec:
    cramjam = optional_package("cramjam")

    def decode(packed: memoryview, target: memoryview) -> int:
        written: int = cramjam.snappy.decompress_raw_into(packed, target)
        return written

    return decode, cramjam.DecompressionError


def _zstd() -> Codec:
    zstd = optional_package(*ZSTD)

    def decode(packed: memoryview, target: memoryview) -> int:
        stream = zstd.ZstdDecompressor()
        unpacked = stream.decompress(packed, len(target) + 1)
        return _put(unpacked, target) if stream.eof else 0

    return decode, zstd.ZstdError


CODECS: dict[int, tuple[str, Callable[[], Codec]]] = {
    0x1: ("zlib", lambda: (inflate, zlib.error)),
    0x2: ("lzo", _lzo),
    0x4: ("snappy", _snappy),
    0x20: ("zstd", _zstd),
}
"""Codecs by the flag in a page's descriptor: the name, and a function that loads it."""

UNKNOWN: Codec = (lambda _packed, _target: 0), ValueError
"""Codec that decompresses nothing: for flags that name no codec, or several."""

COMPRESSED = sum(CODECS)
"""Flags of compressions; the others tell nothing about how a page is stored."""
