"""Read raw memory: a file whose offsets are physical addresses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment

CONTAINER = "raw"
"""Name of the container; it is only a guess that an offset is an address."""


def probe(header: bytes) -> bool:
    """Return True: raw memory has no mark, so it takes what nothing else took."""
    return True


def open(name: str, view: NDArray[np.uint8], release: Callable[[], None]) -> Memory:
    """Open the whole file as one segment at physical address 0.

    LiME writes this as ``format=padded``, and QEMU as ``pmemsave 0 SIZE``.

    Args:
        name: name of the source in messages.
        view: the whole file, shape (size,), uint8.
        release: function that releases the file.
    """
    return Memory(
        source=name,
        container=CONTAINER,
        space=AddressSpace.PHYSICAL,
        segments=(BytesSegment(0, view),),
        release=release,
        is_headerless=True,
    )
