"""Open dumps that are compressed as a whole: decompress them into a temporary file, and open the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kallsift.compression import lzop
from kallsift.errors import SourceError
from kallsift.memory.formats import registry as containers
from kallsift.memory.memory import Memory
from kallsift.memory.spool import spooled
from kallsift.memory.spool_file import End

MAGICS = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (lzop.MAGIC, "lzop"),
)
"""Beginnings of streams, and the compressions' names in `spool`."""


def probe(header: bytes) -> bool:
    """Tell whether a file that begins with ``header`` is a compressed stream."""
    return compression_of(header) is not None


def open(name: str, view: NDArray[np.uint8], release: Callable[[], None]) -> Memory:
    """Open the memory in a compressed file.

    ``release`` is not called, because nothing of the file itself stays in use.

    Raises:
        SourceError: if it cannot be decompressed, or is compressed twice; or if its contents cannot be opened.
    """
    compression = compression_of(view[: containers.HEADER_SIZE].tobytes())
    assert compression is not None
    data, problem = spooled(name, compression, view, _place_of_end)
    if probe(data[: containers.HEADER_SIZE].tobytes()):
        raise SourceError(
            f"{name}: the content of its {compression} stream is compressed again; unpack it once by hand"
        )
    memory = containers.open_mapped(name, data)
    notes = memory.notes if problem is None else (*memory.notes, f"{problem}: {len(data)} bytes could be unpacked")
    return replace(memory, container=f"{memory.container}, {compression}", notes=notes)


def _place_of_end(head: NDArray[np.uint8], tail: NDArray[np.uint8], possible: range) -> End | None:
    # only damaged streams need it, and it loads the modules of several formats
    from kallsift.memory.formats.stream_end import offset_of_end

    return offset_of_end(head, tail, possible)


def compression_of(header: bytes) -> str | None:
    """Return the compression of a stream with this beginning; None if there is none.

    The name is a key of `spool.STREAMS`.
    """
    return next((compression for magic, compression in MAGICS if header.startswith(magic)), None)
