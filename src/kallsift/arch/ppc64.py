"""Describe address translation of ppc64: radix tables and the linear map; entries are big-endian in every kernel.

Sources: Power ISA, book III, "Radix Tree Translation"; arch/powerpc/include/asm/page.h and book3s/64 of the kernel for
the addresses that Linux uses. A kernel's image lies in the linear map also where hashed page tables translate it; those
cannot be walked.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.address_space import DIRECT_END, Area, AreaPlan, AreaRule, Bound, at
from kallsift.arch.paging import LEAF, PRESENT, Entries, Grants, PagingMode, Window, Windows, granted_by

_VALID, _LEAF = np.uint64(1 << 63), np.uint64(1 << 62)
_NEXT_SIZE = np.uint64(0x1F)
"""Number of address bits that the next table translates (NLS)."""

_BASE = 0xC000_0000_0000_0000


def _target(entries: Entries, _: int) -> Entries:
    page, table = np.uint64(0x01FF_FFFF_FFFF_F000), np.uint64(0x0FFF_FFFF_FFFF_FF00)
    return np.where(entries & _LEAF != 0, entries & page, entries & table)


def _mode(name: str, last: int) -> PagingMode:
    shifts = (39, 30, 21, last)

    def classify(entries: Entries, level: int) -> NDArray[np.uint8]:
        leaf = entries & _LEAF != 0
        present = entries & _VALID != 0
        if level + 1 < len(shifts):
            present &= leaf | (entries & _NEXT_SIZE == np.uint64(shifts[level] - shifts[level + 1]))
        return (np.where(present, PRESENT, 0) | np.where(leaf, LEAF, 0)).astype(np.uint8)

    return PagingMode(
        architecture="ppc64",
        name=name,
        shifts=shifts,
        virtual_bits=52,
        entry=np.dtype(">u8"),
        classify=classify,
        target=_target,
        # the encoded access authority: privileged, write, execute
        grants=granted_by(Grants(write=(1 << 1, 1 << 1), execute=(1 << 0, 1 << 0), user=(1 << 3, 0))),
        first=_BASE,
        byte_orders="<>",
    )


MODES = (_mode("radix, 64 KiB pages", 16), _mode("radix, 4 KiB pages", 12))

WINDOWS = (
    Windows("ppc64", "linear map", (Window(_BASE, 0, 1 << 51),), byte_orders="<>"),
    Windows("ppc", "linear map", (Window(0xC000_0000, 0, 0x3000_0000),), word_size=4, byte_orders=">"),
)

LINK_BASE = _BASE
"""Link address of ``_text``: KERNELBASE."""

AREA_PLANS = (
    AreaPlan(
        "ppc64",
        (),
        (
            Area("direct map", at(_BASE), Bound(DIRECT_END), AreaRule.DIRECT),
            Area("vmalloc", Bound("__vmalloc_start"), Bound("__vmalloc_end")),
            Area("I/O", Bound("__kernel_io_start"), Bound("__kernel_io_end")),
            Area("vmemmap", Bound("vmemmap"), Bound("vmemmap", 1 << 45)),
        ),
        origin=(at(_BASE), at(0)),
    ),
)
"""Division of the address space by kernels with radix tables (arch/powerpc/include/asm/book3s/64/radix.h)."""
