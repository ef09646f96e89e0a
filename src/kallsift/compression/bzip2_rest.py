"""Continue in a stream of bzip2 behind a damaged block.

Blocks begin with a mark of 48 bits, at any bit, and each has a checksum. The uncompressed size of a block depends on
its content: a block is filled with the data that remains after repeated bytes are shortened.

Source: bzip2 1.0.8, decompress.c and compress.c.
"""

from __future__ import annotations

import bz2
import re
from collections.abc import Iterator
from heapq import merge
from itertools import pairwise

import numpy as np

from kallsift.budget import WorkBudget
from kallsift.compression.stream_frames import Break, Rest, StreamDamage

BLOCK_MARK, END_MARK, MARK_BITS, CHECKSUM_BITS = 0x314159265359, 0x177245385090, 48, 32
STREAM_SIZE, LEVEL_SIZE = 4, 100_000
"""Size of a stream's header in bytes, and size of a block for each level."""
MIN_FILLED = 0.75
"""Lowest uncompressed size of a full block, as a share of its size: five bytes stand for four equal ones."""
MAX_PACKED = 4 << 20
"""Highest size of a compressed block in bytes, with a large margin."""
BLOCK_COST = 1 << 15
"""Cost of a decoder, as the number of bytes that could be read in that time."""
BYTE_COST = 8
"""Cost of a decompressed byte, likewise."""
PIECE = 1 << 20
"""Number of bytes that a decoder returns at once."""


def bzip2_rest(damage: StreamDamage) -> Rest:
    """Continue at the next block that decompresses.

    A decoder returns most of a large block before its checksum proves it wrong, so these bytes are lost too.
    """
    data, done, lost = damage.data, damage.done, 0
    least = _least(data, damage.begin)
    for first, end in _spans(damage):
        if not damage.budget.take("blocks", BLOCK_COST):
            lost += 1
            break
        piece = _unpacked(data, first, end, damage.budget)
        if piece is None:
            lost += 1
            continue
        if lost:
            yield Break(lost * least, done)
            lost, done = 0, 0
        if done < len(piece):
            yield piece[done:]
        done = max(0, done - len(piece))
    if lost:
        # the end is lost too, so nothing tells the offset of pieces behind an earlier break
        yield Break(lost * least, done)
    return len(data)


def _least(data: memoryview, begin: int) -> int:
    """Return the lowest uncompressed size of a full block of a stream.

    The level of the stream is the digit in its header.
    """
    level = int.from_bytes(data[begin + STREAM_SIZE - 1 : begin + STREAM_SIZE]) - ord("0")
    return int(MIN_FILLED * LEVEL_SIZE * (level if 1 <= level <= 9 else 1))


def _spans(damage: StreamDamage) -> Iterator[tuple[int, int]]:
    """Yield the first bit of each possible block, and the bit behind it.

    Such a block stands between two marks. Only a header of four bytes stands between the end of a stream and the next
    stream; if there is more, it is a lost block, or padding at the end of the file.
    """
    data, begin = damage.data, damage.begin
    block_marks, end_marks = (_marks(data, begin, mark) for mark in (BLOCK_MARK, END_MARK))
    marks = merge(((bit, True) for bit in block_marks), ((bit, False) for bit in end_marks), [(8 * len(data), False)])
    for (bit, is_block), (end, _) in pairwise(marks):
        following = -(-(bit + MARK_BITS + CHECKSUM_BITS) // 8) + STREAM_SIZE
        is_padding = end == 8 * len(data) and not np.frombuffer(data, np.uint8)[following - STREAM_SIZE :].any()
        if is_block or (end > 8 * following and not is_padding):
            yield bit, min(end, bit + 8 * MAX_PACKED)


def _marks(data: memoryview, begin: int, mark: int) -> Iterator[int]:
    """Yield the bits at which a mark stands, ascending."""

    def at(shift: int) -> Iterator[int]:
        size = -(-(MARK_BITS + shift) // 8)
        aligned = mark << (8 * size - MARK_BITS - shift)
        # all whole bytes of the mark; the bits before and behind them are compared afterwards
        whole = aligned.to_bytes(size, "big")[bool(shift) : size - bool(shift)]
        mask = ((1 << MARK_BITS) - 1) << (8 * size - MARK_BITS - shift)
        for match in re.finditer(re.escape(whole), data[begin:]):
            start = begin + match.start() - bool(shift)
            if start >= begin and int.from_bytes(data[start : start + size], "big") & mask == aligned:
                yield 8 * start + shift

    return merge(*map(at, range(8)))


def _unpacked(data: memoryview, begin: int, end: int, budget: WorkBudget) -> bytes | None:
    """Return the contents of the block between two bits.

    The block is decompressed as a stream of its own. The result is None if its checksum is wrong.
    """
    first, shift = divmod(begin, 8)
    packed = np.frombuffer(data[first : -(-end // 8) + 1], np.uint8)
    packed = np.append(packed, np.zeros(1, np.uint8))
    moved = (packed[:-1] << np.uint8(shift)) | (packed[1:] >> np.uint8(8 - shift) if shift else np.uint8(0))
    count, rest = divmod(end - begin, 8)
    block = moved[: count + bool(rest)].tobytes()
    checksum = block[MARK_BITS // 8 : (MARK_BITS + CHECKSUM_BITS) // 8]
    if len(checksum) < CHECKSUM_BITS // 8:
        return None
    # the checksum of a stream of one block is that of the block
    last = int.from_bytes(block[count:], "big") >> (8 - rest) if rest else 0
    tail = (last << MARK_BITS | END_MARK) << CHECKSUM_BITS | int.from_bytes(checksum, "big")
    size = -(-(rest + MARK_BITS + CHECKSUM_BITS) // 8)
    tail <<= 8 * size - (rest + MARK_BITS + CHECKSUM_BITS)
    return _stream(b"BZh9" + block[:count] + tail.to_bytes(size, "big"), budget)


def _stream(packed: bytes, budget: WorkBudget) -> bytes | None:
    """Return the contents of a stream of one block; None if it is damaged.

    Only damaged contents are taken from the budget: the size of the others is limited by what the whole may expand to.
    """
    decoder = bz2.BZ2Decompressor()
    pieces, size = list[bytes](), 0
    try:
        while not decoder.eof and (packed or not decoder.needs_input):
            pieces.append(decoder.decompress(packed, PIECE))
            packed = b""
            size += len(pieces[-1])
    except (OSError, EOFError, ValueError):
        pass
    if decoder.eof:
        return b"".join(pieces)
    budget.spend(BYTE_COST * size)
    return None
