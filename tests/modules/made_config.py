"""A kernel's configuration, and kernels that carry pieces of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kallsift.kernel.kernel import Kernel
from kallsift.memory.segments import BytesSegment
from tests.kernel.made_up import PLACE, RAM, made_up

TEXT = b"CONFIG_64BIT=y\n# CONFIG_IKCONFIG_PROC is not set\n" * 50


def carrying(*pieces: bytes) -> Kernel:
    """A kernel with these bytes in its image."""
    kernel = made_up()
    first, *others = kernel.memory.segments
    data = np.array(first.read(0, RAM))
    for index, piece in enumerate(pieces):
        start = PLACE + 0x8_0000 + 0x1_0000 * index
        data[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
    return replace(kernel, memory=replace(kernel.memory, segments=(BytesSegment(0, data), *others)))
