"""Check by its data whether a kernel image has run.

``jiffies_64`` is built to be 300 seconds before 2^32 (include/linux/jiffies.h, INITIAL_JIFFIES), and counts from the
first timer interrupt on. Where it is not listed, lists tell: no linker makes one that leads out of the image.
"""

from __future__ import annotations

import numpy as np

from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.placement.placement import code_ranges
from kallsift.kernel.placement.pointers import Words, list_heads, outside_of, single_elements
from kallsift.memory.segments import BytesSegment

COUNTER = "jiffies_64"

WRAP = 1 << 32
SECONDS = 300

USUAL_HZ = frozenset({24, 32, 48, 64, 100, 128, 200, 250, 256, 300, 500, 512, 1000, 1024, 1200})
"""Usual numbers of timer interrupts in a second (HZ in kernel/Kconfig.hz, arch/alpha/Kconfig, arch/arm/Kconfig and
arch/mips/Kconfig). Patched kernels may have others, but no kernel counts to 300 times one of these except by chance."""

MAX_HZ = 10_000
MAX_JIFFIES = 1 << 40
"""A number that no machine's counter reaches: a higher value is no counter."""

MIN_ELEMENTS = 64
"""Lowest number of lists of one element outside the image that shows that a kernel ran; other images have some by
chance."""

DATA_ROOM = 16 << 20
"""Bytes behind the image that .bss takes at most, and bytes before its first symbol."""


def initial_data_check(kernel: Kernel) -> Check:
    """Check that the data of a flat image are as the linker made them.

    The check is absent where nothing in the image tells.
    """
    words = Words(kernel.symbols.word_size, kernel.byte_order)
    count = _jiffies(kernel, words)
    if count is not None:
        hz, rest = divmod(WRAP - count, SECONDS)
        if rest or hz <= 0:
            return Check.that(
                CheckId.INITIAL_DATA, False, f"{COUNTER} is {count:#x}, not its built-in value: the kernel ran"
            )
        if hz in USUAL_HZ:
            return Check.that(
                CheckId.INITIAL_DATA, True, f"{COUNTER} is {count:#x}, its built-in value: the image has not run"
            )
    elements = _elements(kernel, words)
    if elements >= MIN_ELEMENTS:
        return Check.that(
            CheckId.INITIAL_DATA, False, f"{elements} lists point to memory outside of the image: the kernel ran"
        )
    return Check(CheckId.INITIAL_DATA, Outcome.ABSENT, "the image does not show whether it ran")


def _jiffies(kernel: Kernel, words: Words) -> int | None:
    """Return the value of ``jiffies_64``, or None.

    None where it is not there, or where the value cannot be that of the counter.
    """
    for symbol in kernel.symbols.all(COUNTER):
        place = np.array([symbol.address - kernel.distance & words.mask], np.uint64)
        values, is_there = kernel.memory.words(place, np.dtype(f"{words.byte_order}u8"))
        count = int(values[0])
        if is_there[0] and WRAP - SECONDS * MAX_HZ <= count < MAX_JIFFIES:
            return count
    return None


def _elements(kernel: Kernel, words: Words) -> int:
    """Count lists of one element outside of the image.

    Only images of 64-bit kernels at high addresses are searched: no ordinary number looks like such an address.
    """
    window = kernel.memory.segments[0]
    assert isinstance(window, BytesSegment)
    start = window.start + kernel.distance & words.mask
    if words.size < 8 or not start >> 56:
        return 0
    image = range(max(0, start - DATA_ROOM), start + len(window.data) + DATA_ROOM)
    everywhere = range(0, words.mask + 1)
    heads = list_heads(window, words, image, everywhere)
    # some pairs of instructions look like addresses
    heads = outside_of(heads, code_ranges(kernel.symbols, kernel.distance, words))
    return single_elements(kernel.memory, heads, words, image, everywhere)
