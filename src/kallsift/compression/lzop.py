"""Decode lzop's container of LZO1X blocks, as far as kernels, libvirt and dumps use it.

Format: lzop 1.04, src/lzop.c and src/conf.h; the kernel's own reader is lib/decompress_unlzo.c. All words are
big-endian.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator
from typing import NamedTuple

MAGIC = b"\x89LZO\0\r\n\x1a\n"
MAGIC_SIZE = len(MAGIC)
NEWER_HEADER = 0x0940
"""Version since which a header has the needed version, the level and the upper half of the time."""
BLOCK_LIMIT = 256 << 10
"""Size of lzop's blocks in bytes; the kernel's reader refuses larger ones."""

MAX_BEHIND, BLANK_SIZE = 4096, 16
"""Highest number of bytes behind the end mark, and number of blank bytes of padding that are read."""

BLOCK_COST = 1 << 13
"""Cost of one block, as the number of bytes that could be read in that time."""

ADLER_PLAIN, ADLER_PACKED, EXTRA_FIELD, CRC_PLAIN, CRC_PACKED, FILTERED = 0x1, 0x2, 0x40, 0x100, 0x200, 0x800
"""Flags of the checksums before each block, and of the fields in the header."""

Decode = Callable[[memoryview, int], bytes]
"""Function that decompresses one block to a given size."""


class LzopBlock(NamedTuple):
    """One block of a stream.

    Attributes:
        begin: offset of its header.
        start: offset of its compressed data.
        size: uncompressed size in bytes.
        packed: compressed size in bytes; the same as ``size`` where it is stored uncompressed.
        adler: Adler checksum of the uncompressed data; None if there is none.
        crc: CRC of the uncompressed data, likewise.
    """

    begin: int
    start: int
    size: int
    packed: int
    adler: int | None
    crc: int | None

    @property
    def end(self) -> int:
        """Offset behind it."""
        return self.start + self.packed


def pieces(data: memoryview, decode: Decode, error: type[Exception]) -> Generator[bytes, None, int]:
    """Decode block by block; return the offset behind the end mark.

    Args:
        data: bytes that begin with the stream.
        decode: function that decompresses one block.
        error: error that ``decode`` raises.

    Raises:
        ValueError: if the stream is cut short or damaged; the text says where.
    """
    position, flags = read_header(data)
    while (block := block_at(data, position, flags)) is not None:
        unpacked = unpack(data, block, decode, error)
        if unpacked is None:
            raise ValueError(f"is damaged (block at offset {block.begin:#x} of it)")
        yield unpacked
        position = block.end
    return position + 4


def is_end(behind: memoryview) -> bool:
    """Tell whether the bytes behind an end mark can stand behind the end of a file.

    They are few or blank, or another stream. A single damaged bit turns the size of a block into an end mark.
    """
    return len(behind) <= MAX_BEHIND or not any(behind[:BLANK_SIZE]) or behind[:MAGIC_SIZE] == MAGIC


def block_at(data: memoryview, begin: int, flags: int) -> LzopBlock | None:
    """Return the block whose header stands at an offset; None for the end mark.

    Raises:
        ValueError: if it is cut short or damaged.
    """
    size = _word(data, begin)
    if not size:
        return None
    block = with_sizes(data, begin, flags, size, _word(data, begin + 4))
    if size > BLOCK_LIMIT or not 0 < block.packed <= size:
        raise ValueError(f"is damaged (block at offset {begin:#x} of it)")
    if block.end > len(data):
        raise ValueError("is cut short")
    return block


def with_sizes(data: memoryview, begin: int, flags: int, size: int, packed: int) -> LzopBlock:
    """Return the block whose header stands at an offset, with given sizes.

    Raises:
        ValueError: if the header is cut short.
    """
    has_adler, has_crc = bool(flags & ADLER_PLAIN), bool(flags & CRC_PLAIN)
    start = begin + 8 + 4 * (has_adler + has_crc)
    # a block that cannot be compressed is stored, without the checksums of compressed data
    if packed < size:
        start += 4 * (bool(flags & ADLER_PACKED) + bool(flags & CRC_PACKED))
    adler = _word(data, begin + 8) if has_adler else None
    crc = _word(data, begin + 8 + 4 * has_adler) if has_crc else None
    return LzopBlock(begin, start, size, packed, adler, crc)


def unpack(data: memoryview, block: LzopBlock, decode: Decode, error: type[Exception]) -> bytes | None:
    """Return the contents of a block; None if it or a checksum is damaged."""
    packed = data[block.start : block.end]
    try:
        unpacked = bytes(packed) if block.packed == block.size else decode(packed, block.size)
    except error:
        return None
    if len(unpacked) != block.size or block.adler not in (None, zlib.adler32(unpacked)):
        return None
    return unpacked if block.crc is None or block.crc == zlib.crc32(unpacked) else None


def read_header(data: memoryview) -> tuple[int, int]:
    """Return the offset behind the header, and its flags.

    Raises:
        ValueError: if it is cut short, or requires a filter.
    """
    version = int.from_bytes(data[MAGIC_SIZE : MAGIC_SIZE + 2], "big")
    newer = version >= NEWER_HEADER
    position = MAGIC_SIZE + (2 + 2 + 2 + 1 + 1 if newer else 2 + 2 + 1)  # versions, method and level
    flags = _word(data, position)
    if flags & FILTERED:
        raise ValueError("uses a filter, which is not supported")
    position += 4 + 4 + (8 if newer else 4)  # flags, mode and time
    if position >= len(data):
        raise ValueError("is cut short")
    position += 1 + data[position] + 4  # the file's name, and the header's checksum
    if flags & EXTRA_FIELD:
        position += 4 + _word(data, position) + 4
    return position, flags


def _word(data: memoryview, position: int) -> int:
    word = data[position : position + 4]
    if len(word) < 4:
        raise ValueError("is cut short")
    return int.from_bytes(word, "big")
