"""lzop's container of LZO1X blocks, as far as kernels and libvirt use it.

Format: lzop 1.04, src/lzop.c and src/conf.h; the kernel's own reader is lib/decompress_unlzo.c. All words are
big-endian.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

MAGIC = b"\x89LZO\0\r\n\x1a\n"
MAGIC_SIZE = len(MAGIC)
NEWER_HEADER = 0x0940
"""The version from which on a header holds the version needed, the level and the upper half of the time."""
BLOCK_LIMIT = 256 << 10
"""lzop writes blocks of so many bytes, and the kernel's reader takes none that are larger."""

ADLER_PLAIN, ADLER_PACKED, EXTRA_FIELD, CRC_PLAIN, CRC_PACKED, FILTERED = 0x1, 0x2, 0x40, 0x100, 0x200, 0x800
"""Flags: which checksums stand before each block, and which fields in the header."""


def pieces(
    data: memoryview, decode: Callable[[memoryview, int], bytes], error: type[Exception]
) -> Generator[bytes, None, int]:
    """Decodes block by block; returns the offset behind the end mark.

    Args:
        data: begins with the stream.
        decode: unpacks one block, given the size it unpacks to.
        error: what ``decode`` raises.

    Raises:
        ValueError: if the stream is cut short or damaged; the text says where.
    """
    position, flags = _header(data)
    checksums = [4 * bool(flags & flag) for flag in (ADLER_PLAIN, CRC_PLAIN, ADLER_PACKED, CRC_PACKED)]
    while True:
        begin = position
        size = _word(data, position)
        if not size:
            return position + 4
        packed = _word(data, position + 4)
        if size > BLOCK_LIMIT or not 0 < packed <= size:
            raise ValueError(f"is damaged (block at offset {begin:#x} of it)")
        # a block that cannot be packed is stored, without the checksums of what is packed
        position += 8 + sum(checksums[:2]) + (sum(checksums[2:]) if packed < size else 0)
        block = data[position : position + packed]
        if len(block) < packed:
            raise ValueError("is cut short")
        try:
            unpacked = bytes(block) if packed == size else decode(block, size)
        except error as problem:
            raise ValueError(f"is damaged (block at offset {begin:#x} of it)") from problem
        if len(unpacked) != size:
            raise ValueError(f"is damaged (block at offset {begin:#x} of it)")
        yield unpacked
        position += packed


def _header(data: memoryview) -> tuple[int, int]:
    """The offset behind the header, and its flags."""
    version = int.from_bytes(data[MAGIC_SIZE : MAGIC_SIZE + 2], "big")
    newer = version >= NEWER_HEADER
    position = MAGIC_SIZE + (2 + 2 + 2 + 1 + 1 if newer else 2 + 2 + 1)  # versions, method and level
    flags = _word(data, position)
    if flags & FILTERED:
        raise ValueError("uses a filter, as neither kernels nor dumps do")
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
