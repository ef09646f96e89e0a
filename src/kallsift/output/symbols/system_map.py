"""Write System.map: the symbols at their link addresses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import KallsiftError
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.placement.placement import is_near
from kallsift.kernel.placement.pointers import Words
from kallsift.output.symbols.kallsyms import LINE


def system_map(kernel: Kernel) -> Iterator[memoryview]:
    """Return the built-in lines of ``/proc/kallsyms`` without the KASLR slide.

    They come in chunks of bounded size.

    Raises:
        KallsiftError: if the slide is unknown; it is raised at once, before the first chunk is asked for.
    """
    return LINE.lines(kernel.symbols, linked_addresses(kernel))


def linked_addresses(kernel: Kernel) -> NDArray[np.uint64]:
    """Return the link address of each symbol, shape (n,), uint64.

    A symbol moved with the image if its address lies near the image's tables. All others are absolute values or offsets
    into the per-CPU area (x86-64 up to 6.14), which no slide moves; they stay.

    Raises:
        KallsiftError: if the slide is unknown.
    """
    if kernel.kaslr_slide is None:
        raise KallsiftError(
            "this kernel's KASLR slide is unknown, so no System.map can be written; use --format kallsyms"
        )
    addresses, words = kernel.symbols.addresses, Words(kernel.symbols.word_size, kernel.byte_order)
    linked = words.wrap(addresses - np.uint64(kernel.kaslr_slide % (1 << 64)))
    return np.where(is_near(addresses, words, kernel.tables[0].virtual), linked, addresses)
