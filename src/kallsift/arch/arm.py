"""Describe page tables of arm: short descriptors and LPAE.

Source: Arm ARM for ARMv7-A, B3.5 "Short-descriptor" and B3.6 "Long-descriptor" formats. A kernel's own tables cover all
4 GiB, though the processor may use them for the upper part only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.address_space import DIRECT_END, DIRECT_START, Area, AreaPlan, AreaRule, Bound, at
from kallsift.arch.paging import LEAF, PRESENT, Entries, Grants, PagingMode, granted_by

_TYPE, _SUPERSECTION = np.uint64(3), np.uint64(1 << 18)


def _short_classify(entries: Entries, level: int) -> NDArray[np.uint8]:
    """Return the flags of short descriptors.

    On the first level, type 1 is a table, types 2 and 3 are sections. On the second level, type 1 is a large page,
    types 2 and 3 are small ones.
    """
    kind = entries & _TYPE
    leaf = LEAF if level else np.where(kind >= 2, LEAF, 0)
    return (np.where(kind != 0, PRESENT, 0) | leaf).astype(np.uint8)


def _short_covers(entries: Entries, level: int) -> Entries:
    kind = entries & _TYPE
    if level:
        return np.where(kind == 1, 16, 12).astype(np.uint64)
    return np.where((kind >= 2) & (entries & _SUPERSECTION != 0), 24, 20).astype(np.uint64)


def _short_target(entries: Entries, level: int) -> Entries:
    """Return the physical addresses in short descriptors.

    In supersections, address bits 35 to 32 stand in bits 23 to 20, and bits 39 to 36 in bits 8 to 5.
    """
    if level:
        return entries & np.uint64(0xFFFF_F000)
    high = (entries & np.uint64(0xF0_0000)) << np.uint64(12) | (entries & np.uint64(0x1E0)) << np.uint64(31)
    section = np.where(
        entries & _SUPERSECTION != 0,
        entries & np.uint64(0xFF00_0000) | high,
        entries & np.uint64(0xFFF0_0000),
    )
    return np.where(entries & _TYPE >= 2, section, entries & np.uint64(0xFFFF_FC00))


_SECTION = Grants(write=(1 << 15, 0), execute=(1 << 4, 0), user=(1 << 11, 1 << 11))
_LARGE_PAGE = Grants(write=(1 << 9, 0), execute=(1 << 15, 0), user=(1 << 5, 1 << 5))
_SMALL_PAGE = Grants(write=(1 << 9, 0), execute=(1 << 0, 0), user=(1 << 5, 1 << 5))
"""Bits AP[2], XN and AP[1] of short descriptors."""


def _short_grants(entries: Entries, level: int, leaf: bool) -> NDArray[np.uint8]:
    """Return the rights that short descriptors grant; first-level tables grant all."""
    if level:
        return np.where(entries & _TYPE == 1, _LARGE_PAGE.of(entries), _SMALL_PAGE.of(entries))
    return (_SECTION if leaf else Grants()).of(entries)


def _long_classify(entries: Entries, level: int) -> NDArray[np.uint8]:
    """Return the flags of LPAE descriptors.

    Bit 0 is valid; bit 1 is a table, or on the last level a page. Blocks of 1 GiB are left out, because Linux maps
    none.
    """
    valid, table = entries & np.uint64(1) != 0, entries & np.uint64(2) != 0
    # an access to memory without the access flag faults
    usable = entries & np.uint64(1 << 10) != 0
    if level == 2:
        return np.where(valid & table & usable, PRESENT | LEAF, 0).astype(np.uint8)
    if level == 0:
        return np.where(valid & table, PRESENT, 0).astype(np.uint8)
    return (np.where(valid & (table | usable), PRESENT, 0) | np.where(table, 0, LEAF)).astype(np.uint8)


MODES = (
    PagingMode(
        architecture="arm",
        name="short descriptors",
        shifts=(20, 12),
        virtual_bits=32,
        entry=np.dtype("<u4"),
        classify=_short_classify,
        target=_short_target,
        grants=_short_grants,
        covers=_short_covers,
        first=0,
        word_size=4,
    ),
    PagingMode(
        architecture="arm",
        name="LPAE",
        shifts=(30, 21, 12),
        virtual_bits=32,
        entry=np.dtype("<u8"),
        classify=_long_classify,
        target=lambda entries, _: entries & np.uint64((1 << 40) - (1 << 12)),
        # PXN and XN: the kernel sets both for memory that is not executable
        grants=granted_by(Grants(write=(1 << 7, 0), execute=(3 << 53, 0), user=(1 << 6, 1 << 6))),
        first=0,
        word_size=4,
    ),
)

_MIB = 1 << 20

AREA_PLANS = (
    AreaPlan(
        "arm",
        (),
        (
            Area("user space", at(0), Bound(DIRECT_START, -16 * _MIB)),
            Area("modules", Bound(DIRECT_START, -16 * _MIB), Bound(DIRECT_START, -2 * _MIB)),
            Area("pkmap", Bound(DIRECT_START, -2 * _MIB), Bound(DIRECT_START)),
            Area("direct map", Bound(DIRECT_START), Bound(DIRECT_END), AreaRule.DIRECT),
            Area("vmalloc", Bound(DIRECT_END, 8 * _MIB, align=8 * _MIB), at(0xFF80_0000)),
            Area("device tree", at(0xFF80_0000), at(0xFFC0_0000)),
            Area("fixmap", at(0xFFC8_0000), at(0xFFF0_0000)),
            Area("vectors", at(0xFFFF_0000), at(0xFFFF_2000)),
        ),
    ),
)
"""How kernels divide the address space (Documentation/arch/arm/memory.rst)."""
