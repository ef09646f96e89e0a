"""loongarch64: direct mapped windows, no tables (LoongArch Reference Manual volume 1, "Direct Mapped Address
Translation Mode"; arch/loongarch/include/asm/addrspace.h of the kernel for the windows that Linux sets up)."""

from __future__ import annotations

from kallsift.machine.model import Window, Windows

_UNCACHED, _CACHED, _WRITE_COMBINED = 0x8000_0000_0000_0000, 0x9000_0000_0000_0000, 0xA000_0000_0000_0000

WINDOWS = (
    Windows(
        "loongarch64",
        "direct mapped windows",
        tuple(Window(base, 0, 1 << 48) for base in (_UNCACHED, _CACHED, _WRITE_COMBINED)),
    ),
)
