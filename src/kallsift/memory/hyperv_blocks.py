"""A block of RAM as Hyper-V packs it into a saved state: page by page, each behind a word that says how.

Format: vmkatz, a reader made from Hyper-V's own library (VmCompressUnpack), which names the words; a packed page is
plain LZ77 of [MS-XCA], 2.4. Words are little-endian.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kallsift.memory.page_codecs import MissingPackageError

PAGE = 4096
PAGES = 256
BLOCK = PAGES * PAGE
"""Pages and bytes of a block."""

END, SAME, MANY_SAME, PIECE = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFC
"""Words other than the size of a packed page: no more; a page of eight bytes again and again; many of them, with
their number behind those bytes; less than a page, with its size and that when packed."""

WORD, PATTERN = 4, 8

Decompress = Callable[[bytes, int], bytes]
"""Unpacks to so many bytes; raises OSError."""


class BrokenBlockError(Exception):
    """A block cannot be unpacked; the text says why."""


def codec() -> Decompress:
    """What unpacks a page.

    Raises:
        MissingPackageError: if the package is not installed.
    """
    try:
        fwnt: Any = import_module("pyfwnt")
    except ImportError as error:
        raise MissingPackageError("libfwnt-python") from error
    return fwnt.lzxpress_decompress  # type: ignore[no-any-return]


def unpacked(data: NDArray[np.uint8], size: int, decompress: Decompress) -> NDArray[np.uint8]:
    """The bytes of a block.

    Args:
        data: the packed block, shape (n,), uint8.
        size: how many bytes it must have.
        decompress: from `codec`.

    Returns:
        Shape (size,), uint8.

    Raises:
        BrokenBlockError: if it has more or fewer, or if a page of it cannot be unpacked.
    """
    block, place = np.empty(size, np.uint8), 0
    for part in _parts(data.tobytes(), size, decompress):
        if place + len(part) > size:
            break
        block[place : place + len(part)] = np.frombuffer(part, np.uint8)
        place += len(part)
        if place == size:
            return block
    raise BrokenBlockError("it unpacks to another size")


def _parts(packed: bytes, size: int, decompress: Decompress) -> Iterator[bytes]:
    """What the words of a packed block stand for, one after the other."""
    position = 0

    def take(count: int) -> bytes:
        nonlocal position
        position += count
        if position > len(packed):
            raise BrokenBlockError("it is cut short")
        return packed[position - count : position]

    def word() -> int:
        return int.from_bytes(take(WORD), "little")

    while (kind := word()) != END:
        if kind in (SAME, MANY_SAME):
            pattern = take(PATTERN)
            count = word() if kind == MANY_SAME else 1
            yield pattern * (PAGE // PATTERN * min(count, size // PAGE + 1))
            continue
        plain, length = (word(), word()) if kind == PIECE else (PAGE, kind)
        if not 0 < length <= plain <= PAGE:
            raise BrokenBlockError(f"no page is packed into {length} bytes")
        content = take(length)
        if length < plain:
            try:
                content = decompress(content, plain)
            except OSError as error:
                raise BrokenBlockError("a page of it cannot be unpacked") from error
            if len(content) != plain:
                raise BrokenBlockError("a page of it is too short")
        yield content
