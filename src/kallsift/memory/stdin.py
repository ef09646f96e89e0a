"""Standard input as a source: ``-``. A file is mapped where it lies; a pipe is kept in a temporary file first.

That takes half of the room that is free where TMPDIR says at most; see `spool`. The temporary file then takes the
pipe's place as standard input, so that it can be asked for again.
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
"""What messages call it."""
DESCRIPTOR = 0
PIECE = 1 << 20
"""Bytes that are read at once."""


def view() -> NDArray[np.uint8]:
    """All that standard input still has to give, shape (size,), uint8, read-only.

    Raises:
        SourceError: if there is nothing, if it is a terminal, or if it is more than there is room for.
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
    data = gathered(NAME, _pieces(), "has", _take_place)
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
