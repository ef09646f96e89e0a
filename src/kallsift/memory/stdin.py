"""Use standard input as a source: ``-``. A file is mapped in place; a pipe is kept in a temporary file first.

The temporary file takes at most half of the free space of the disk with TMPDIR (see `spool`). It then replaces the pipe
as standard input, so that the input can be read again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.memory.file_mapping import map_file
from kallsift.memory.input_files import record_input
from kallsift.memory.spool import gathered

NAME = "standard input"
"""Name of the source in messages."""
DESCRIPTOR = 0
PIECE = 1 << 20
"""Number of bytes that are read at once."""


def view() -> NDArray[np.uint8]:
    """Return everything left on standard input, shape (size,), uint8, read-only.

    Raises:
        SourceError: if there is nothing, if it is a terminal, or if there is not enough room for it.
    """
    try:
        kind = os.fstat(DESCRIPTOR)
        if os.isatty(DESCRIPTOR):
            raise SourceError(f"{NAME}: is a terminal; send a dump into it, e.g. kallsift symbols - < FILE")
        record_input(NAME, DESCRIPTOR)
        if stat.S_ISREG(kind.st_mode) and kind.st_size and not os.lseek(DESCRIPTOR, 0, os.SEEK_CUR):
            return map_file(NAME, DESCRIPTOR, kind.st_size)
    except OSError as error:
        raise SourceError(f"{NAME}: cannot be read ({error.strerror}); send a dump into it, or name a file") from error
    data, _ = gathered(NAME, _pieces(), "has", _take_place)
    if data is None:
        raise SourceError(f"{NAME}: is empty; send a dump into it, or name a file")
    return data


def _take_place(descriptor: int) -> None:
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.dup2(descriptor, DESCRIPTOR)


def _pieces() -> Iterator[bytes]:
    while True:
        try:
            piece = os.read(DESCRIPTOR, PIECE)
        except OSError as error:
            raise SourceError(f"{NAME}: cannot be read ({error.strerror}); name a file") from error
        if not piece:
            return
        yield piece
