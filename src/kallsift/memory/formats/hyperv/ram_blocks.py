"""Unpack a block of RAM of a Hyper-V saved state: page by page, each behind a word with its form.

Format: vmkatz, a reader made from Hyper-V's own library (VmCompressUnpack), which names the words; a packed page is
plain LZ77 of [MS-XCA], 2.4. Words are little-endian.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.optional_package import optional_package

PAGE = 4096
PAGES = 256
BLOCK = PAGES * PAGE
"""Pages and bytes of a block."""

END, SAME, MANY_SAME, PIECE = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFC
"""Words other than the size of a packed page.

END: no more pages. SAME: a page of eight repeated bytes. MANY_SAME: several such pages, with their number behind those
bytes. PIECE: less than a page, with its size and its packed size.
"""

WORD, PATTERN = 4, 8

Decompress = Callable[[bytes, int], bytes]
"""Function that decompresses to a number of bytes; raises OSError."""


def codec() -> Decompress:
    """Return the function that decompresses a page.

    Raises:
        MissingPackageError: if the package is not installed.
    """
    return optional_package("pyfwnt").lzxpress_decompress  # type: ignore[no-any-return]


def unpacked(data: NDArray[np.uint8], size: int, decompress: Decompress) -> tuple[NDArray[np.uint8], list[range]]:
    """Unpack a block page by page, as far as its words lead.

    Args:
        data: the packed block, shape (n,), uint8.
        size: number of bytes that it must have.
        decompress: function from `codec`.

    Returns:
        The bytes, shape (size,), uint8, and the ranges in them that cannot be unpacked, which are zero.
    """
    block, position = np.zeros(size, np.uint8), 0
    lost: list[range] = []
    for part, plain in _parts(data.tobytes(), size, decompress):
        if position + plain > size:
            break
        if part is None:
            lost.append(range(position, position + plain))
        else:
            block[position : position + plain] = np.frombuffer(part, np.uint8)
        position += plain
        if position == size:
            break
    if position < size:
        lost.append(range(position, size))
    return block, lost


def _parts(packed: bytes, size: int, decompress: Decompress) -> Iterator[tuple[bytes | None, int]]:
    """Yield the contents of each word of a packed block, and the number of bytes.

    The contents are None if they cannot be unpacked. The walk ends where no word can stand.
    """
    position = 0

    def take(count: int) -> bytes:
        nonlocal position
        position += count
        return packed[position - count : position]

    def word() -> int:
        return int.from_bytes(take(WORD), "little")

    while position + WORD <= len(packed) and (kind := word()) != END:
        if kind in (SAME, MANY_SAME):
            pattern = take(PATTERN)
            count = min(word() if kind == MANY_SAME else 1, size // PAGE + 1)
            if position <= len(packed):
                yield pattern * (PAGE // PATTERN * count), count * PAGE
            continue
        plain, length = (word(), word()) if kind == PIECE else (PAGE, kind)
        if not 0 < length <= plain <= PAGE or position + length > len(packed):
            return
        content: bytes | None = take(length)
        if content is not None and length < plain:
            try:
                content = decompress(content, plain)
            except OSError:
                content = None
        yield content if content is not None and len(content) == plain else None, plain
