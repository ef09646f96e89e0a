"""arm64: granules of 4, 16 and 64 KiB, 36 to 52 address bits (Arm ARM, VMSAv8-64 and FEAT_LPA, FEAT_LPA2)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kallsift.machine.model import LEAF, PRESENT, Entries, PagingMode

_VALID, _TABLE, _ACCESSED = np.uint64(1), np.uint64(2), np.uint64(1 << 10)
_LOWEST_RESERVED = 17
"""Between this bit and a block's address all bits are reserved (RES0)."""


def _plain(granule_shift: int) -> Callable[[Entries], Entries]:
    """Output address bits 47 down to the granule."""
    mask = np.uint64((1 << 48) - (1 << granule_shift))
    return lambda entries: entries & mask


def _lpa(entries: Entries) -> Entries:
    """64 KiB granule with 52-bit addresses: bits 51 to 48 stand in bits 15 to 12."""
    low = entries & np.uint64((1 << 48) - (1 << 16))
    return low | (entries & np.uint64(0xF000)) << np.uint64(36)


def _lpa2(granule_shift: int) -> Callable[[Entries], Entries]:
    """4 and 16 KiB granules with 52-bit addresses: bits 51 and 50 stand in bits 9 and 8."""
    mask = np.uint64((1 << 50) - (1 << granule_shift))
    return lambda entries: entries & mask | (entries & np.uint64(0x300)) << np.uint64(42)


def _mode(name: str, shifts: tuple[int, ...], virtual_bits: int, target: Callable[[Entries], Entries]) -> PagingMode:
    def classify(entries: Entries, level: int) -> NDArray[np.uint8]:
        valid, table = entries & _VALID != 0, entries & _TABLE != 0
        last = level == len(shifts) - 1
        leaf = table if last else ~table
        # without its access flag memory cannot be reached
        usable = entries & _ACCESSED != 0
        if not last:
            usable &= entries & np.uint64((1 << shifts[level]) - (1 << _LOWEST_RESERVED)) == 0
        present = valid & (leaf & usable | (~leaf & (not last)))
        return (np.where(present, PRESENT, 0) | np.where(leaf, LEAF, 0)).astype(np.uint8)

    return PagingMode(
        "arm64", name, shifts, virtual_bits, np.dtype("<u8"), classify, lambda entries, _: target(entries)
    )


MODES = (
    _mode("4 KiB pages, 48-bit", (39, 30, 21, 12), 48, _plain(12)),
    _mode("4 KiB pages, 52-bit", (48, 39, 30, 21, 12), 52, _lpa2(12)),
    _mode("4 KiB pages, 39-bit", (30, 21, 12), 39, _plain(12)),
    _mode("16 KiB pages, 47-bit", (36, 25, 14), 47, _plain(14)),
    _mode("16 KiB pages, 48-bit", (47, 36, 25, 14), 48, _plain(14)),
    _mode("16 KiB pages, 52-bit", (47, 36, 25, 14), 52, _lpa2(14)),
    _mode("16 KiB pages, 36-bit", (25, 14), 36, _plain(14)),
    _mode("64 KiB pages, 48-bit", (42, 29, 16), 48, _plain(16)),
    _mode("64 KiB pages, 52-bit", (42, 29, 16), 52, _lpa),
    _mode("64 KiB pages, 42-bit", (29, 16), 42, _plain(16)),
)
