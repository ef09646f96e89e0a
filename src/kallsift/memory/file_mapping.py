"""A mapped file whose views know which parts of it are stored: holes of sparse files are zeros that nobody reads.

Holes are asked for by lseek(2) with SEEK_DATA and SEEK_HOLE: what it calls a hole reads as zeros. File systems that
keep no account of holes call all of a file data.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

GRAIN = 1 << 20
"""Bytes of a hole at least, and what its ends are rounded to: smaller ones cost more to ask for than to read."""

MAX_RANGES = 1 << 16
"""Parts of a file that are told apart at most; all behind them counts as stored."""

BLOCK = 512
"""Unit of ``st_blocks`` (stat(2))."""


class FileMapping(mmap.mmap):
    """A mapped file.

    Attributes:
        stored: where its stored parts begin and end, ascending, shape (n, 2), int64; None where all of it is stored.
    """

    stored: NDArray[np.int64] | None = None


def map_file(descriptor: int, size: int) -> NDArray[np.uint8]:
    """Return the first ``size`` bytes of an open file as a read-only view, shape (size,), uint8.

    Raises:
        OSError: if it cannot be mapped; ValueError and OverflowError as `mmap.mmap`.
    """
    mapping = FileMapping(descriptor, size, access=mmap.ACCESS_READ)
    mapping.stored = _stored_ranges(descriptor, size)
    return np.frombuffer(mapping, np.uint8)


def stored_parts(data: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Yield the parts of some bytes that can hold more than zeros, as offsets: all of what is no view of a file.

    Args:
        data: shape (size,), uint8.
    """
    whole = _file_of(data)
    if whole is None:
        yield 0, len(data)
        return
    stored, first = whole
    for low, high in (stored - first).clip(0, len(data)).tolist():
        if low < high:
            yield low, high


def _file_of(data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], int] | None:
    """Return the stored parts of the file that bytes are a view of, and the offset in it; None if none are known."""
    root: object = data
    while isinstance(root, np.ndarray) and isinstance(root.base, np.ndarray):
        root = root.base
    if not isinstance(root, np.ndarray) or data.strides != (1,):
        return None
    # NumPy keeps what an array was made from, or a memoryview of that
    owner = root.base.obj if isinstance(root.base, memoryview) else root.base
    if not isinstance(owner, FileMapping) or owner.stored is None:
        return None
    return owner.stored, _address(data) - _address(root)


def _address(data: NDArray[np.uint8]) -> int:
    address: int = data.__array_interface__["data"][0]
    return address


def _stored_ranges(descriptor: int, size: int) -> NDArray[np.int64] | None:
    """Return where the stored parts of a file begin and end, in whole grains; None where it has no holes."""
    if os.fstat(descriptor).st_blocks * BLOCK >= size:
        return None
    ranges: list[tuple[int, int]] = []
    try:
        place = _data_from(descriptor, 0, size)
        while place < size:
            start = place // GRAIN * GRAIN
            if len(ranges) == MAX_RANGES:
                ranges.append((start, size))
                break
            end = start
            while place < min(size, end + GRAIN):
                end = -(-os.lseek(descriptor, place, os.SEEK_HOLE) // GRAIN) * GRAIN
                place = _data_from(descriptor, end, size)
            ranges.append((start, min(size, end)))
    except OSError:  # no regular file, or a file system without an answer
        return None
    return np.array(ranges, np.int64).reshape(-1, 2)


def _data_from(descriptor: int, place: int, size: int) -> int:
    """Return where the next stored byte is from ``place`` on; ``size`` if there is none."""
    if place >= size:
        return size
    try:
        return min(size, os.lseek(descriptor, place, os.SEEK_DATA))
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        raise
