"""Describe address translation of loongarch64: direct mapped windows, and page tables for the rest.

Sources: LoongArch Reference Manual volume 1, "Direct Mapped Address Translation Mode" and "Page table entry format";
arch/loongarch/include/asm of the kernel: addrspace.h for the windows that Linux sets up, pgtable.h for the levels that
it configures.

The kernel's image lies in a window; its modules and the memory from vmalloc lie in the upper half. Entries that lead to
a table have its address in a window. Empty entries lead to a table that the kernel keeps for this purpose.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.paging import LEAF, PRESENT, Entries, Grants, PagingMode, Segmented, Window, Windows, granted_by

_UNCACHED, _CACHED, _WRITE_COMBINED = 0x8000_0000_0000_0000, 0x9000_0000_0000_0000, 0xA000_0000_0000_0000

WINDOWS = (
    Windows(
        "loongarch64",
        "direct mapped windows",
        tuple(Window(base, 0, 1 << 48) for base in (_UNCACHED, _CACHED, _WRITE_COMBINED)),
    ),
)

_VALID, _HUGE = np.uint64(1 << 0), np.uint64(1 << 6)
_PHYSICAL = np.uint64((1 << 48) - 1)

_granted = granted_by(Grants(write=(1 << 8, 1 << 8), execute=(1 << 62, 0), user=(0b11 << 2, 0b11 << 2)))


def _tables(shifts: tuple[int, ...], virtual_bits: int) -> Segmented:
    last = len(shifts) - 1
    within_page = np.uint64((1 << shifts[-1]) - 1)

    def classify(entries: Entries, level: int) -> NDArray[np.uint8]:
        valid = entries & _VALID != 0
        if level == last:
            return np.where(valid, PRESENT | LEAF, 0).astype(np.uint8)
        table = (entries & ~_PHYSICAL == np.uint64(_CACHED)) & (entries & within_page == 0)
        leaf = entries & _HUGE != 0
        return (np.where(np.where(leaf, valid, table), PRESENT, 0) | np.where(leaf, LEAF, 0)).astype(np.uint8)

    tables = PagingMode(
        architecture="loongarch64",
        name=f"{len(shifts)}-level, {(1 << shifts[-1]) >> 10} KiB pages",
        shifts=shifts,
        virtual_bits=virtual_bits,
        entry=np.dtype("<u8"),
        classify=classify,
        target=lambda entries, _: entries & _PHYSICAL & ~within_page,
        grants=_granted,
        stretches=(range((1 << 64) - (1 << virtual_bits), 1 << 64),),
    )
    return Segmented(WINDOWS[0], tables)


SEGMENTED = (
    (_tables((30, 21, 12), 39),),
    (_tables((39, 30, 21, 12), 48),),
    (_tables((25, 14), 36),),
    (_tables((36, 25, 14), 47),),
    (_tables((29, 16), 42),),
    (_tables((42, 29, 16), 55),),
)
"""Kinds of page tables, by the shape of the tables; all have the same entries."""
