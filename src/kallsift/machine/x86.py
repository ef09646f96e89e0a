"""x86-64: four and five levels of 512 entries (Intel SDM volume 3, chapter 5)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.machine.model import LEAF, PRESENT, Entries, PagingMode

_ADDRESS = np.uint64(0x000F_FFFF_FFFF_F000)
_PRESENT, _LARGE = np.uint64(1), np.uint64(1 << 7)


def _mode(name: str, shifts: tuple[int, ...]) -> PagingMode:
    def classify(entries: Entries, level: int) -> NDArray[np.uint8]:
        flags = np.where(entries & _PRESENT != 0, PRESENT, 0)
        if shifts[level] <= 30:
            flags |= np.where((entries & _LARGE != 0) | (shifts[level] == 12), LEAF, 0)
        return flags.astype(np.uint8)

    return PagingMode(
        "x86-64", name, shifts, shifts[0] + 9, np.dtype("<u8"), classify, lambda entries: entries & _ADDRESS
    )


MODES = (_mode("4-level", (39, 30, 21, 12)), _mode("5-level", (48, 39, 30, 21, 12)))

ROOT_SYMBOLS = ("init_top_pgt", "init_level4_pgt", "swapper_pg_dir")
"""The kernel's own top table: since 4.13 init_top_pgt; before, init_level4_pgt."""

LINK_BASE = 0xFFFF_FFFF_8100_0000
"""Where ``_text`` is linked: __START_KERNEL_map plus the default PHYSICAL_START of 16 MiB."""
