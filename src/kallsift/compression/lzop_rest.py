"""Continue in a stream of lzop behind a damaged block.

All blocks but the last one decompress to `BLOCK_LIMIT` bytes, and the header of the next block stands at the end of
each. If a header itself is damaged, the next valid one is searched for. The bytes between the two are a block if they
decompress as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kallsift.compression import decoders
from kallsift.compression.lzop import (
    BLOCK_COST,
    BLOCK_LIMIT,
    LzopBlock,
    block_at,
    is_end,
    read_header,
    unpack,
    with_sizes,
)
from kallsift.compression.stream_frames import Break, Gap, Piece, Rest, StreamDamage

FULL = re.compile(re.escape(BLOCK_LIMIT.to_bytes(4, "big")))
"""Beginning of the header of each block but the last one."""
MAX_PACKED = BLOCK_LIMIT + 24
"""Highest size of a block with its header in bytes."""


def lzop_rest(damage: StreamDamage) -> Rest:
    """Continue at the next block.

    If the end is lost too, a break says so: nothing tells the offset of pieces behind an earlier break.
    """
    data, done = damage.data[damage.begin :], damage.done
    decode = decoders.lzo_block()
    try:
        position, flags = read_header(data)
    except ValueError:
        return len(damage.data)
    while damage.budget.take("blocks", BLOCK_COST):
        block = _block_at(data, position, flags)
        if block is not None and done:
            done = max(0, done - block.size)
        elif block is not None and (unpacked := unpack(data, block, *decode)) is not None:
            yield unpacked
        elif block is not None and _is_header(data, block.end, flags):
            yield Gap(block.size if _is_end(data, block.end) else BLOCK_LIMIT)
        elif _is_end(data, position):
            return damage.begin + position + 4
        else:
            if (following := _next_block(damage, position + 1, flags)) is None:
                break
            yield from _between(data, position, following, flags)
            position = following
            continue
        position = block.end
    yield Break(BLOCK_LIMIT)
    return len(damage.data)


def _block_at(data: memoryview, position: int, flags: int) -> LzopBlock | None:
    """Return the block whose header stands at an offset; None if none does."""
    try:
        return block_at(data, position, flags)
    except ValueError:
        return None


def _is_header(data: memoryview, position: int, flags: int) -> bool:
    """Tell whether the header of a block, or the end mark, stands at an offset."""
    if _is_end(data, position):
        return True
    block = _block_at(data, position, flags)
    return block is not None and (block.size == BLOCK_LIMIT or _is_end(data, block.end))


def _is_end(data: memoryview, position: int) -> bool:
    return position <= len(data) - 4 and not any(data[position : position + 4]) and is_end(data[position + 4 :])


def _next_block(damage: StreamDamage, position: int, flags: int) -> int | None:
    """Return the offset of the next block that decompresses; None if there is none.

    Another block, or the end mark, must follow it.
    """
    data, decode = damage.data[damage.begin :], decoders.lzo_block()
    for match in FULL.finditer(data, position):
        block = _block_at(data, match.start(), flags)
        if not damage.budget.take("blocks", BLOCK_COST + (block.size if block else 0)):
            return None
        if block and _is_header(data, block.end, flags) and unpack(data, block, *decode) is not None:
            return block.begin
    return None


def _between(data: memoryview, begin: int, end: int, flags: int) -> Iterator[Piece]:
    """Yield the block between two offsets, whose header is damaged.

    If there may be several blocks, or it does not decompress, a break is yielded.
    """
    least = -(-(end - begin) // MAX_PACKED) * BLOCK_LIMIT
    lost = Break(least)
    packed = _with_sizes(data, begin, end, flags)
    if packed is None:
        yield lost
        return
    decode, error = decoders.lzo_block()
    if (unpacked := unpack(data, packed, decode, error)) is not None:
        yield unpacked
    elif unpack(data, packed._replace(adler=None, crc=None), decode, error) is not None:
        # one block whose checksum does not confirm the data
        yield Gap(packed.size)
    else:
        yield lost


def _with_sizes(data: memoryview, begin: int, end: int, flags: int) -> LzopBlock | None:
    """Return the block between two offsets, without the sizes in its header.

    The result is None if it cannot be one block.
    """
    for packed in (1, BLOCK_LIMIT):
        block = with_sizes(data, begin, flags, BLOCK_LIMIT, packed)
        size = end - block.start
        if size == packed if packed == BLOCK_LIMIT else 0 < size < BLOCK_LIMIT:
            return block._replace(packed=size)
    return None
