"""Map files; views of them know which parts are stored, and which turned out to be unreadable.

Holes of sparse files are zeros that nobody reads, and so are pages that cannot be read (see `file_faults`).

Holes are asked for by lseek(2) with SEEK_DATA and SEEK_HOLE: what it calls a hole reads as zeros. File systems that
keep no account of holes call all of a file data.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import weakref
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.memory import file_faults
from kallsift.memory.file_faults import FileFaults

GRAIN = 1 << 20
"""Bytes of a hole at least, and what its ends are rounded to: smaller ones cost more to ask for than to read."""

MAX_RANGES = 1 << 16
"""Parts of a file that are told apart at most; all behind them counts as stored."""

BLOCK = 512
"""Unit of ``st_blocks`` (stat(2))."""


class FileMapping(mmap.mmap):
    """A mapped file.

    Attributes:
        faults: what could not be read of it.
        descriptor: the open file.
        is_regular: whether it is a regular file, which can be cut short.
        stored: where its stored parts begin and end, ascending, shape (n, 2), int64; None where all of it is stored.
    """

    faults: FileFaults
    descriptor: int
    is_regular: bool
    stored: NDArray[np.int64] | None = None


def map_file(name: str, descriptor: int, size: int) -> NDArray[np.uint8]:
    """Return the first ``size`` bytes of an open file as a read-only view, shape (size,), uint8.

    Raises:
        OSError: if it cannot be mapped; ValueError and OverflowError as `mmap.mmap`.
    """
    mapping = FileMapping(descriptor, size, access=mmap.ACCESS_READ)
    mapping.faults = FileFaults(name, size)
    mapping.descriptor = os.dup(descriptor)
    weakref.finalize(mapping, os.close, mapping.descriptor)
    mapping.is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    mapping.stored = _stored_ranges(descriptor, size)
    view = np.frombuffer(mapping, np.uint8)
    file_faults.guard(mapping, _address(view))
    return view


def touch(data: NDArray[np.uint8]) -> None:
    """Read a byte of each page, so that it is known afterwards which of them cannot be read.

    Whatever hands bytes of a file to the system does so before: a system call fails where an access would go on.
    """
    if len(data) > mmap.PAGESIZE:
        data[:: mmap.PAGESIZE].max()
    if len(data):
        data[0], data[-1]


def is_readable(data: NDArray[np.uint8]) -> bool:
    """Read a byte of each page, and tell whether that was possible."""
    touch(data)
    lost = unreadable_parts(data, np.array([0]), max(1, len(data)))
    return lost is None or not lost.any()


def faults_of(data: NDArray[np.uint8]) -> FileFaults | None:
    """Return what could not be read of the file that bytes are a view of; None if they are none."""
    found = _mapping_of(data)
    return found and found[0].faults


def unreadable_parts(data: NDArray[np.uint8], offsets: NDArray[np.int64], width: int) -> NDArray[np.bool_] | None:
    """Tell which parts of some bytes, each ``width`` from an offset on, could not be read; None if all could.

    Only what was accessed is known.
    """
    if not file_faults.have_occurred() or (found := _mapping_of(data)) is None or not found[0].faults.pages:
        return None
    mapping, first = found
    return mapping.faults.pages.mask(0, offsets + first, width)


def stored_parts(data: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Yield the parts of some bytes that can hold more than zeros, as offsets: all of what is no view of a file.

    Args:
        data: shape (size,), uint8.
    """
    mapping, first = _mapping_of(data) or (None, 0)
    if mapping is None or mapping.stored is None or data.strides != (1,):
        yield 0, len(data)
        return
    for low, high in (mapping.stored - first).clip(0, len(data)).tolist():
        if low < high:
            yield low, high


def stored_size(data: NDArray[np.uint8]) -> int:
    """Return how many of some bytes can be more than zeros, shape (size,)."""
    return sum(high - low for low, high in stored_parts(data))


def _mapping_of(data: NDArray[np.uint8]) -> tuple[FileMapping, int] | None:
    """Return the file that bytes are a view of, and the offset in it; None if they are none."""
    root: object = data
    while isinstance(root, np.ndarray) and isinstance(root.base, np.ndarray):
        root = root.base
    if not isinstance(root, np.ndarray):
        return None
    # NumPy keeps what an array was made from, or a memoryview of that
    owner = root.base.obj if isinstance(root.base, memoryview) else root.base
    return (owner, _address(data) - _address(root)) if isinstance(owner, FileMapping) else None


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
