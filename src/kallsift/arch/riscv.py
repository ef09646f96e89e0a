"""Describe page tables of riscv: Sv39, Sv48, Sv57 and Sv32, and pages of 64 KiB by Svnapot.

Source: RISC-V Privileged Architecture, "Supervisor-Level ISA".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.address_space import (
    DIRECT_END,
    DIRECT_START,
    IMAGE_END,
    IMAGE_START,
    Area,
    AreaPlan,
    AreaRule,
    Bound,
    at,
)
from kallsift.arch.paging import LEAF, PRESENT, Entries, Grants, PagingMode, granted_by

_VALID, _ACCESS, _ACCESSED, _NAPOT = np.uint64(1), np.uint64(0b1110), np.uint64(1 << 6), np.uint64(1 << 63)
_NAPOT_SHIFT = 16

_granted = granted_by(Grants(write=(1 << 2, 1 << 2), execute=(1 << 3, 1 << 3), user=(1 << 4, 1 << 4)))


def _classify(shifts: tuple[int, ...]) -> Callable[[Entries, int], NDArray[np.uint8]]:
    """Return a function for the flags of entries.

    An entry with a right to read, write or execute is a leaf, on any level. A leaf that is not marked as accessed, or
    whose page is not aligned, causes a fault.
    """

    def classify(entries: Entries, level: int) -> NDArray[np.uint8]:
        leaf = entries & _ACCESS != 0
        askew = (entries & np.uint64((1 << shifts[level] - 2) - (1 << 10))) != 0
        usable = ~leaf | (entries & _ACCESSED != 0) & ~askew
        return (np.where((entries & _VALID != 0) & usable, PRESENT, 0) | np.where(leaf, LEAF, 0)).astype(np.uint8)

    return classify


def _mode(name: str, shifts: tuple[int, ...]) -> PagingMode:
    def covers(entries: Entries, level: int) -> Entries:
        last = level == len(shifts) - 1
        return np.where(last & (entries & _NAPOT != 0), _NAPOT_SHIFT, shifts[level]).astype(np.uint64)

    return PagingMode(
        architecture="riscv64",
        name=name,
        shifts=shifts,
        virtual_bits=shifts[0] + 9,
        entry=np.dtype("<u8"),
        classify=_classify(shifts),
        target=lambda entries, _: (entries >> np.uint64(10) & np.uint64((1 << 44) - 1)) << np.uint64(12),
        grants=_granted,
        covers=covers,
        signed=True,
    )


MODES = (
    _mode("Sv39", (30, 21, 12)),
    _mode("Sv48", (39, 30, 21, 12)),
    _mode("Sv57", (48, 39, 30, 21, 12)),
    PagingMode(
        architecture="riscv32",
        name="Sv32",
        shifts=(22, 12),
        virtual_bits=32,
        entry=np.dtype("<u4"),
        classify=_classify((22, 12)),
        target=lambda entries, _: entries >> np.uint64(10) << np.uint64(12),
        grants=_granted,
        first=0,
        word_size=4,
    ),
)

LINK_BASE = 0xFFFF_FFFF_8000_0000
"""Link address of ``_start``: KERNEL_LINK_ADDR, the last 2 GiB of the address space, since 5.13."""

_MIB, _GIB, _TIB = 1 << 20, 1 << 30, 1 << 40


def _plan(paging: str, user: int, vmalloc: int, pages: int) -> AreaPlan:
    """Return the plan of a mode.

    It follows from the sizes of user space, vmalloc and the array of pages (Documentation/arch/riscv).
    """

    def below(size: int) -> Bound:
        return Bound(DIRECT_START, -size, align=_GIB if not size else _MIB)

    start = Bound(DIRECT_START, align=_GIB)
    return AreaPlan(
        "riscv64",
        (paging,),
        (
            Area("user space", at(0), at(user)),
            Area("fixmap", below(vmalloc + pages + 22 * _MIB), below(vmalloc + pages + 16 * _MIB)),
            Area("PCI I/O", below(vmalloc + pages + 16 * _MIB), below(vmalloc + pages)),
            Area("vmemmap", below(vmalloc + pages), below(vmalloc), AreaRule.PAGES),
            Area("vmalloc", below(vmalloc), start),
            Area("direct map", start, Bound(DIRECT_END), AreaRule.DIRECT),
            Area("modules", Bound(IMAGE_END, 4095 - 2 * _GIB, align=4096), Bound(IMAGE_START, align=2 * _MIB)),
        ),
    )


AREA_PLANS = (
    _plan("Sv39", 1 << 38, 64 * _GIB, 4 * _GIB),
    _plan("Sv48", 1 << 47, 32 * _TIB, 2 * _TIB),
    _plan("Sv57", 1 << 56, 16384 * _TIB, 1024 * _TIB),
)
"""Ways in which kernels divide the address space (Documentation/arch/riscv/vm-layout.rst)."""
