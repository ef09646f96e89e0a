"""mips: unmapped segments, no tables (MIPS Architecture for Programmers volume III, "Virtual Memory").

Kernels lie in kseg0; data of 64-bit ones lie in xkphys, which has one part for each way to cache.
"""

from __future__ import annotations

from kallsift.machine.model import Window, Windows

_XKPHYS = tuple(Window(0x8000_0000_0000_0000 | attribute << 59, 0, 1 << 59) for attribute in range(8))

WINDOWS = (
    Windows(
        "mips64",
        "kseg0 and xkphys",
        (Window(0xFFFF_FFFF_8000_0000, 0, 1 << 29), Window(0xFFFF_FFFF_A000_0000, 0, 1 << 29), *_XKPHYS),
        byte_orders="<>",
    ),
    Windows(
        "mips",
        "kseg0",
        (Window(0x8000_0000, 0, 1 << 29), Window(0xA000_0000, 0, 1 << 29)),
        word_size=4,
        byte_orders="<>",
    ),
)
