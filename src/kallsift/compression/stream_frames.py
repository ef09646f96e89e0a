"""Recover the independent parts of a compressed stream behind a damaged place.

The number of lost bytes is known where the format stores the uncompressed size of its parts. Sources: RFC 1952 (ISIZE),
RFC 8878 (frame header), lz4_Frame_format.md of lz4/lz4, xz-file-format.txt of tukaani-project/xz (index). See
`bzip2_rest.py` and `lzop_rest.py` for the others.
"""

from __future__ import annotations

import lzma
import re
import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator
from itertools import accumulate, pairwise
from typing import NamedTuple

from kallsift.budget import WorkBudget
from kallsift.compression.varints import varints
from kallsift.optional_package import optional_package

MAX_CANDIDATES = 1 << 8
"""Highest number of places that look like the beginning of a part and are tried."""
TRIED = 1 << 16
"""Number of bytes that are decompressed to test whether a part begins at a place."""
MAX_LOST_RATIO = 8
"""Highest likely ratio of lost bytes to the lowest possible number."""
MAX_DEFLATE_RATIO = 1032
MAX_BLOCKS = 1 << 22


class Gap(NamedTuple):
    """Bytes that are lost in the middle of a stream's contents.

    Attributes:
        size: number of lost bytes.
        before: number of bytes before them that come from the same damaged part; its checksum does not tell which of
            them are wrong.
    """

    size: int
    before: int = 0


class Break(NamedTuple):
    """Bytes that are lost in the middle of a stream's contents, where the stream does not tell how many.

    Attributes:
        least: lowest number of lost bytes.
        before: number of bytes before them that come from the damaged part, and are lost too.
    """

    least: int
    before: int = 0

    @property
    def most(self) -> int:
        """Highest likely number of lost bytes: blank memory is compressed to next to nothing."""
        return MAX_LOST_RATIO * self.least + self.before


Piece = bytes | Gap | Break

Rest = Generator[Piece, None, int]
"""Generator that yields the rest of a stream, and returns the offset behind it."""


class StreamDamage(NamedTuple):
    """The place where a stream cannot be decompressed any further.

    Attributes:
        data: all bytes.
        begin: offset at which the stream begins.
        done: number of bytes that were decompressed of it.
        budget: work that may be spent on the rest.
    """

    data: memoryview
    begin: int
    done: int
    budget: WorkBudget


Salvage = Callable[[StreamDamage], Rest]
"""Function that recovers the rest of a damaged stream.

If nothing can be recovered, it yields nothing, and returns the size of all data.
"""

GZIP = re.compile(rb"\x1f\x8b\x08[\0-\x1f].{4}[\0\x02\x04][\0-\x0d\xff]", re.DOTALL)


def gzip_rest(damage: StreamDamage) -> Rest:
    """Continue at the next member.

    The size of the damaged member stands before it, modulo 2^32.
    """
    data, begin, done, _ = damage
    for place in _places(GZIP, data, begin + 18):
        size = int.from_bytes(data[place - 4 : place], "little")
        lost = (size - done) % (1 << 32)
        if lost > MAX_DEFLATE_RATIO * (place - begin):
            continue
        try:
            is_member = bool(zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data[place : place + TRIED], TRIED))
        except zlib.error:
            continue
        if is_member:
            yield Gap(lost, done)
            return place
    return len(data)


ZSTD = re.compile(rb"\x28\xb5\x2f\xfd")


def zstd_rest(damage: StreamDamage) -> Rest:
    """Continue at the next frame, if the damaged one's header has its size."""
    data, begin, done, _ = damage
    size = _zstd_size(data[begin : begin + 18])
    if size is None or size < done:
        return len(data)
    for place in _places(ZSTD, data, begin + 4):
        # the two reserved bits of its descriptor are zero
        if _zstd_size(data[place : place + 18]) is not None and not data[place + 4] & 0x08:
            yield Gap(size - done, done)
            return place
    return len(data)


def _zstd_size(header: memoryview) -> int | None:
    """Return the uncompressed size in a frame's header; None if it has none."""
    if len(header) < 18:
        return None
    kind, is_single = header[4] >> 6, bool(header[4] & 0x20)
    width = (1 if is_single else 0, 2, 4, 8)[kind]
    start = 5 + (not is_single) + (0, 1, 2, 4)[header[4] & 3]
    if not width:
        return None
    return int.from_bytes(header[start : start + width], "little") + (256 if width == 2 else 0)


LZ4_INDEPENDENT, LZ4_BLOCK_CHECKSUM, LZ4_SIZE, LZ4_CHECKSUM, LZ4_DICTIONARY = 0x20, 0x10, 0x08, 0x04, 0x01
LZ4_BLOCK_SIZES = {4: 1 << 16, 5: 1 << 18, 6: 1 << 20, 7: 1 << 22}
LZ4_PLAIN = 1 << 31


def lz4_rest(damage: StreamDamage) -> Rest:
    """Continue at the next block of a frame whose blocks are independent.

    Each block but the last has the same size.
    """
    data, begin, done, _ = damage
    flags, most = data[begin + 4], LZ4_BLOCK_SIZES.get(data[begin + 5] >> 4, 0)
    if not flags & LZ4_INDEPENDENT or not most:
        return len(data)
    lz4 = optional_package("lz4.frame")
    position = begin + 7 + 8 * bool(flags & LZ4_SIZE) + 4 * bool(flags & LZ4_DICTIONARY)
    header = bytes(data[begin:position])
    for number in range(MAX_BLOCKS):
        if position + 4 > len(data):
            break
        start = position
        (size,) = struct.unpack_from("<I", data, position)
        packed, position = size & ~LZ4_PLAIN, position + 4
        if not size:
            return position + 4 * bool(flags & LZ4_CHECKSUM)
        if packed > most or position + packed > len(data):
            break
        position += packed + 4 * bool(flags & LZ4_BLOCK_CHECKSUM)
        if (number + 1) * most <= done:
            continue
        already = max(0, done - number * most)
        try:
            # it is decoded as the first block of a frame, so that its checksum is checked
            block = lz4.LZ4FrameDecompressor().decompress(header + bytes(data[start:position]))
        except RuntimeError:
            yield Gap(most - already, already)
            continue
        yield block[already:]
    return len(data)


XZ_HEADER, XZ_FOOTER, XZ_MAGIC = 12, 12, b"YZ"
XZ_STEP = 1 << 12
"""Number of bytes that the decoder gets at once: their contents are lost if an error follows in them."""


def xz_rest(damage: StreamDamage) -> Rest:
    """Continue at the next block, by the index at the end of the stream."""
    data, begin, done, _ = damage
    blocks = _xz_blocks(data, begin)
    ends = list(accumulate(unpacked for _, unpacked in blocks))
    starts = list(accumulate((packed for packed, _ in blocks), initial=begin + XZ_HEADER))
    while ends and done < ends[-1]:
        number = bisect_right(ends, done)
        # an error hides decompressed bytes before the damage: they are decompressed again
        already = done - (ends[number - 1] if number else 0)
        decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=1 << 28)
        decoder.decompress(data[begin : begin + XZ_HEADER])
        steps = (
            (start, min(start + XZ_STEP, end))
            for begins, end in pairwise(starts[number:])
            for start in range(begins, end, XZ_STEP)
        )
        try:
            for start, end in steps:
                piece = decoder.decompress(data[start:end])
                done += max(0, len(piece) - already)
                yield piece[already:]
                already = max(0, already - len(piece))
        except (lzma.LZMAError, EOFError):
            if done < ends[-1]:
                number = bisect_right(ends, done)
                end = ends[number]
                yield Gap(end - done, done - (ends[number - 1] if number else 0))
                done = end
        else:
            break
    return len(data)


def _xz_blocks(data: memoryview, begin: int) -> list[tuple[int, int]]:
    """Return compressed and uncompressed size of each of a stream's blocks.

    There are none if the data does not end with that stream.
    """
    end = len(data)
    while end >= 4 and not any(data[end - 4 : end]):
        end -= 4
    if bytes(data[end - 2 : end]) != XZ_MAGIC:
        return []
    (backward,) = struct.unpack_from("<I", data, end - 8)
    index = end - XZ_FOOTER - 4 * (backward + 1)
    if index < begin + XZ_HEADER or data[index]:
        return []
    numbers = varints(data[index + 1 : end - XZ_FOOTER])
    count = next(numbers, 0)
    if count > MAX_BLOCKS:
        return []
    pairs = [(next(numbers, 0), next(numbers, 0)) for _ in range(count)]
    blocks = [(packed + -packed % 4, unpacked) for packed, unpacked in pairs]
    return blocks if begin + XZ_HEADER + sum(packed for packed, _ in blocks) == index else []


def _places(pattern: re.Pattern[bytes], data: memoryview, start: int) -> Iterator[int]:
    """Yield at most `MAX_CANDIDATES` offsets at which a part may begin."""
    for count, match in enumerate(pattern.finditer(data, start)):
        if count == MAX_CANDIDATES:
            return
        yield match.start()
