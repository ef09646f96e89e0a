"""Map files; views of them know which parts are stored, and which turned out to be unreadable.

Holes of sparse files are zeros that need not be read, and unreadable pages are zeros too (see `file_faults`). Holes are
found by lseek(2) with SEEK_DATA and SEEK_HOLE: a hole reads as zeros. File systems that do not record holes report the
whole file as data.
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
"""Lowest size of a hole in bytes, and alignment of its ends: it costs more to find smaller ones than to read them."""

MAX_RANGES = 1 << 16
"""Highest number of parts of a file that are distinguished; everything behind them counts as stored."""

BLOCK = 512
"""Unit of ``st_blocks`` (stat(2))."""


class FileMapping(mmap.mmap):
    """A mapped file.

    Attributes:
        faults: its unreadable parts.
        descriptor: the open file.
        is_regular: True if it is a regular file, which can be cut short.
        stored: begins and ends of its stored parts, ascending, shape (n, 2), int64; None where all of it is stored.
    """

    faults: FileFaults
    descriptor: int
    is_regular: bool
    stored: NDArray[np.int64] | None = None


def map_file(name: str, descriptor: int, size: int) -> NDArray[np.uint8]:
    """Return the first ``size`` bytes of an open file as a read-only view.

    The view has shape (size,), uint8.

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
    """Read a byte of each page, so that unreadable pages are known afterwards.

    Call it before bytes of a file are passed to a system call: the call would fail where an access from Python goes on.
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
    """Return the unreadable parts of the file that bytes are a view of.

    The result is None if they are no view of a file.
    """
    found = _mapping_of(data)
    return found and found[0].faults


def unreadable_parts(data: NDArray[np.uint8], offsets: NDArray[np.int64], width: int) -> NDArray[np.bool_] | None:
    """Tell which parts of some bytes could not be read; None if all could.

    A part is ``width`` bytes from an offset on. Only accesses so far are known.
    """
    if not file_faults.have_occurred() or (found := _mapping_of(data)) is None or not found[0].faults.pages:
        return None
    mapping, first = found
    return mapping.faults.pages.mask(0, offsets + first, width)


def stored_parts(data: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Yield the parts of some bytes that can hold more than zeros, as offsets.

    Bytes that are no view of a file are one part.

    Args:
        data: shape (size,), uint8.
    """
    owner, root = _owner_of(data)
    if not isinstance(owner, FileMapping) or owner.stored is None or data.strides != (1,):
        yield 0, len(data)
        return
    first = _address(data) - _address(root)
    for low, high in (owner.stored - first).clip(0, len(data)).tolist():
        if low < high:
            yield low, high


def stored_size(data: NDArray[np.uint8]) -> int:
    """Return how many of some bytes, shape (size,), can be more than zeros."""
    return sum(high - low for low, high in stored_parts(data))


def _mapping_of(data: NDArray[np.uint8]) -> tuple[FileMapping, int] | None:
    """Return the file that bytes are a view of, and the offset in it.

    The result is None if they are no view of a file.
    """
    owner, root = _owner_of(data)
    return (owner, _address(data) - _address(root)) if isinstance(owner, FileMapping) else None


def _owner_of(data: NDArray[np.uint8]) -> tuple[object, NDArray[np.uint8]]:
    """Return what the bytes of an array belong to, and the array of all of it."""
    root = data
    while isinstance(root.base, np.ndarray):
        root = root.base
    # the base of an array is the object that it was made from, or a memoryview of that object
    return root.base.obj if isinstance(root.base, memoryview) else root.base, root


def _address(data: NDArray[np.uint8]) -> int:
    address: int = data.__array_interface__["data"][0]
    return address


def _stored_ranges(descriptor: int, size: int) -> NDArray[np.int64] | None:
    """Return begins and ends of a file's stored parts; None if it has no holes.

    The ends are aligned to `GRAIN`.
    """
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
    """Return the offset of the next stored byte from ``place`` on, else ``size``."""
    if place >= size:
        return size
    try:
        return min(size, os.lseek(descriptor, place, os.SEEK_DATA))
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        raise
