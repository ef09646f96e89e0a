"""Go on in a stream of lzop behind a damaged block.

All blocks but the last one unpack to `BLOCK_LIMIT` bytes, and where one ends the header of the next one stands. If a
header is damaged itself, the next one is searched, and what stands between the two is a block if it unpacks as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kallsift.compression import decoders
from kallsift.compression.lzop import BLOCK_COST, BLOCK_LIMIT, Block, block_at, read_header, unpack, with_sizes
from kallsift.compression.stream_frames import Break, Damage, Gap, Piece, Rest

FULL = re.compile(re.escape(BLOCK_LIMIT.to_bytes(4, "big")))
"""How the header of each block begins but that of the last one."""
MAX_LOST_RATIO = 8
"""How many times as many blocks as at least are lost at most where damage can have taken more than one."""
MAX_PACKED = BLOCK_LIMIT + 24
"""Bytes that a block takes with its header, at most."""
MAX_BEHIND = 4096
"""Bytes behind the mark of the end."""


def lzop_rest(damage: Damage) -> Rest:
    """Go on at the next block."""
    data, position, done = damage.data, 0, damage.done
    decode = decoders.lzo_block()
    try:
        position, flags = read_header(data)
    except ValueError:
        return len(data)
    while damage.budget.take("blocks", BLOCK_COST):
        block = _block_at(data, position, flags)
        if block is not None and done:
            done = max(0, done - block.size)
        elif block is not None and (unpacked := unpack(data, block, *decode)) is not None:
            yield unpacked
        elif block is not None and _is_header(data, block.end, flags):
            yield Gap(block.size)
        elif _is_end(data, position):
            break
        else:
            if (following := _next_block(damage, position + 1, flags)) is None:
                break
            yield from _between(data, position, following, flags)
            position = following
            continue
        position = block.end
    return len(data)


def _block_at(data: memoryview, position: int, flags: int) -> Block | None:
    """Return the block whose header stands at an offset; None if none does."""
    try:
        return block_at(data, position, flags)
    except ValueError:
        return None


def _is_header(data: memoryview, position: int, flags: int) -> bool:
    """Tell whether the header of a block, or the mark of the end, stands at an offset."""
    if _is_end(data, position):
        return True
    block = _block_at(data, position, flags)
    return block is not None and (block.size == BLOCK_LIMIT or _is_end(data, block.end))


def _is_end(data: memoryview, position: int) -> bool:
    return len(data) - MAX_BEHIND <= position <= len(data) - 4 and not any(data[position : position + 4])


def _next_block(damage: Damage, position: int, flags: int) -> int | None:
    """Return where the next block is that unpacks and is followed by another one; None if there is none."""
    data, decode = damage.data, decoders.lzo_block()
    for match in FULL.finditer(data, position):
        block = _block_at(data, match.start(), flags)
        if not damage.budget.take("blocks", BLOCK_COST + (block.size if block else 0)):
            return None
        if block and _is_header(data, block.end, flags) and unpack(data, block, *decode) is not None:
            return block.begin
    return None


def _between(data: memoryview, begin: int, end: int, flags: int) -> Iterator[Piece]:
    """Yield the block between two offsets, whose header is damaged; or a break, if there may be several."""
    least = -(-(end - begin) // MAX_PACKED) * BLOCK_LIMIT
    lost = Break(least, MAX_LOST_RATIO * least)
    packed = _with_sizes(data, begin, end, flags)
    if packed is None:
        yield lost
        return
    decode, error = decoders.lzo_block()
    if (unpacked := unpack(data, packed, decode, error)) is not None:
        yield unpacked
    elif unpack(data, packed._replace(adler=None, crc=None), decode, error) is not None:
        # one block, of which its checksum does not say that it is right
        yield Gap(packed.size)
    else:
        yield lost


def _with_sizes(data: memoryview, begin: int, end: int, flags: int) -> Block | None:
    """Return the block between two offsets, whatever its header says of sizes; None if it cannot be one."""
    for packed in (1, BLOCK_LIMIT):
        block = with_sizes(data, begin, flags, BLOCK_LIMIT, packed)
        size = end - block.start
        if size == packed if packed == BLOCK_LIMIT else 0 < size < BLOCK_LIMIT:
            return block._replace(packed=size)
    return None
