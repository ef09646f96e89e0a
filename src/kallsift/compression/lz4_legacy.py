"""Decode the legacy format of lz4, which `lz4 -l` writes for kernels: a magic, then blocks behind their sizes.

Format: lz4_Frame_format.md, "Legacy frame". All blocks but the last decompress to 8 MiB. Nothing marks the end.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

MAGIC_SIZE = 4
BLOCK_SIZE = 8 << 20
PACKED_LIMIT = BLOCK_SIZE + BLOCK_SIZE // 255 + 16
"""LZ4_compressBound of a block: the size of one that cannot be compressed."""


def pieces(
    data: memoryview, decode: Callable[[memoryview, int], bytes], error: type[Exception]
) -> Generator[bytes, None, int]:
    """Decode block by block; return the offset behind the last one.

    Args:
        data: bytes that begin with the stream.
        decode: function that decompresses one block to at most a number of bytes.
        error: error that ``decode`` raises.

    Raises:
        ValueError: if a block is cut short or damaged; the text says which.
    """
    position = MAGIC_SIZE
    unpacked = b""
    while True:
        size = int.from_bytes(data[position : position + 4], "little")
        start = position + 4
        if not 0 < size <= PACKED_LIMIT or start > len(data):
            if position == MAGIC_SIZE:
                raise ValueError(f"is damaged (a block of {size} bytes)")
            return position  # the end, or the uncompressed size, which the kernel's build appends
        if start + size > len(data):
            if unpacked and len(data) - start < 8:
                return position
            raise ValueError("is cut short")
        try:
            unpacked = decode(data[start : start + size], BLOCK_SIZE)
        except error as problem:
            raise ValueError(f"is damaged (block at offset {position:#x} of it)") from problem
        yield unpacked
        position = start + size
        if len(unpacked) < BLOCK_SIZE:
            return position
