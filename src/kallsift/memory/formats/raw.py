"""Raw memory: a file whose offsets are physical addresses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kallsift.memory.memory import AddressSpace, Memory, Segment

CONTAINER = "raw"
"""What it is called; it is never more than a guess that an offset is an address."""


def probe(header: bytes) -> bool:
    """Raw memory has no mark of its own, so it takes whatever nothing else took."""
    return True


def open(name: str, view: NDArray[np.uint8], release: Callable[[], None]) -> Memory:
    """One segment that starts at physical address 0 and is the whole file.

    This is what LiME writes as ``format=padded``, and QEMU as ``pmemsave 0 SIZE``.

    Args:
        name: the source as messages call it.
        view: the whole file, shape (size,), uint8.
        release: gives the file back.
    """
    return Memory(
        source=name,
        container=CONTAINER,
        space=AddressSpace.PHYSICAL,
        segments=(Segment(0, view),),
        release=release,
        is_headerless=True,
    )
