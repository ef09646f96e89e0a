"""Find the configuration that a kernel was built with, if it carries it (CONFIG_IKCONFIG).

Source: kernel/configs.c. The file ``.config`` is packed with gzip between two marks, in the image, or with
CONFIG_IKCONFIG=m in the module configs.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import KallsiftError, UnmappedError
from kallsift.kernel.access.string_search import places_of
from kallsift.kernel.access.virtual_memory import virtual_memory
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.placement.pointers import AFTER, BEFORE
from kallsift.memory.segments import BytesSegment
from kallsift.modules.inventory import inventory

START, END = b"IKCFG_ST", b"IKCFG_ED"
GZIP = b"\x1f\x8b\x08"

MODULE = "configs"

MAX_PACKED = 1 << 20
"""Highest size of a packed configuration in bytes; kernels of distributions have 80 KB."""

MAX_SIZE = 1 << 22
"""Highest size of a configuration in bytes; kernels of distributions have 300 KB."""

MAX_PLACES = 64
"""Highest number of marks that are tried; tools for kernels have the marks in their own text."""

MAX_REGION = 1 << 24
"""Highest size of a part of the module in bytes."""


class ConfigError(KallsiftError):
    """Raised where a kernel does not carry its configuration, or it is damaged."""


def kernel_config(kernel: Kernel) -> bytes:
    """Return the configuration, the text of ``.config``.

    Raises:
        ConfigError: if the kernel has none, or no whole one.
    """
    is_damaged = False
    for window in _windows(kernel):
        for place in places_of(window, START + GZIP, MAX_PLACES):
            text = _unpacked(window.data[place - window.start + len(START) :][:MAX_PACKED])
            if text is not None:
                return text
            is_damaged = True
    if is_damaged:
        raise ConfigError("the kernel's configuration is damaged; the package of this kernel has it (/boot/config-*)")
    raise ConfigError(
        "this kernel does not carry its configuration (CONFIG_IKCONFIG), and no module configs with it is loaded; "
        "the package of this kernel has it (/boot/config-*)"
    )


def _unpacked(data: NDArray[np.uint8]) -> bytes | None:
    """Return what is packed at the beginning of some bytes; None if it is damaged, or the second mark is not behind."""
    decoder = zlib.decompressobj(wbits=31)
    try:
        text = decoder.decompress(data.tobytes(), MAX_SIZE)
    except zlib.error:
        return None
    return text if decoder.eof and decoder.unused_data.startswith(END) else None


def _windows(kernel: Kernel) -> Iterator[BytesSegment]:
    """Yield the image, then the parts of the module."""
    yield kernel.memory.around(kernel.tables[0].physical, BEFORE, AFTER)
    try:
        memory = virtual_memory(kernel)
        regions = next((each.regions for each in inventory(kernel) if each.name == MODULE), None)
    except KallsiftError:
        return
    for region in regions or ():
        try:
            yield BytesSegment(region.base, memory.read(region.base, min(region.size, MAX_REGION)))
        except UnmappedError:
            continue
