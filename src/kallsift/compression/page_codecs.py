"""The compressions of single pages in kdump files: each unpacks one page, and never to more than its size.

Sources: makedumpfile, diskdump_mod.h (DUMP_DH_COMPRESSED_*); a page is a zlib stream, an LZO1X block, a Snappy block
without frames, or a zstd frame.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from kallsift.optional_package import ZSTD, optional_package

Decode = Callable[[memoryview, memoryview], int]
"""Unpacks a page to where it belongs, and tells how many bytes it has; never more than there is room for.

Raises the error beside it, or ValueError.
"""

Codec = tuple[Decode, type[Exception]]


def _put(unpacked: bytes, target: memoryview) -> int:
    if len(unpacked) <= len(target):
        target[: len(unpacked)] = unpacked
    return len(unpacked)


def inflate(packed: memoryview, target: memoryview) -> int:
    """Unpack a page that is a zlib stream, as `Decode`.

    Raises:
        zlib.error: if it is none.
    """
    stream = zlib.decompressobj()
    # with room for one byte more, the checksum behind the page is looked at
    unpacked = stream.decompress(packed, len(target) + 1)
    return _put(unpacked, target) if stream.eof else 0


def _lzo() -> Codec:
    lzo = optional_package("lzallright")

    def decode(packed: memoryview, target: memoryview) -> int:
        # what expands to more does so by no more than 255 bytes for one
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
"""By the flag in a page's descriptor: the name, and what loads it."""

UNKNOWN: Codec = (lambda _packed, _target: 0), ValueError
"""What unpacks nothing: for flags that name no codec, or several."""

COMPRESSED = sum(CODECS)
"""The flags that tell of a compression; the others say nothing of how a page is stored."""
