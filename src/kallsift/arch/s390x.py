"""Describe page tables of s390x: dynamic address translation.

Source: z/Architecture Principles of Operation, "Translation Tables". The designation type of the
address-space-control element tells which table is the top one. Kernels lie at low addresses where virtual equals
physical (up to 6.9), or below a limit of some terabytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.address_space import DIRECT_END, DIRECT_START, Area, AreaPlan, AreaRule, Bound
from kallsift.arch.paging import EXECUTE, LEAF, PRESENT, WRITE, Entries, Grants, PagingMode, granted_by

_PAGE, _SEGMENT, _THIRD, _SECOND, _FIRST = 12, 20, 31, 42, 53

_TYPES = {_SEGMENT: 0x0, _THIRD: 0x4, _SECOND: 0x8, _FIRST: 0xC}
"""Table-type bits of an entry, by the address bits below the table's index."""

_TYPE, _INVALID = np.uint64(0xC), np.uint64(0x20)
_FORMAT_CONTROL = np.uint64(0x400)
"""Bit in segment and region-third entries that map 1 MiB or 2 GiB; in page entries, the same bit means invalid."""


_PROTECTED, _NO_EXECUTION = 0x200, 0x100
_granted = granted_by(
    leaf=Grants(write=(_PROTECTED, 0), execute=(_NO_EXECUTION, 0)), table=Grants(write=(_PROTECTED, 0))
)
"""Rights in entries; user space has tables of its own, so entries do not tell its rights: see ``grants`` below."""


def _mode(name: str, shifts: tuple[int, ...]) -> PagingMode:
    def classify(entries: Entries, level: int) -> NDArray[np.uint8]:
        shift = shifts[level]
        if shift == _PAGE:
            return np.where(entries & _FORMAT_CONTROL == 0, PRESENT | LEAF, 0).astype(np.uint8)
        present = (entries & _INVALID == 0) & (entries & _TYPE == np.uint64(_TYPES[shift]))
        leaf = (entries & _FORMAT_CONTROL != 0) & (shift <= _THIRD)
        return (np.where(present, PRESENT, 0) | np.where(leaf, LEAF, 0)).astype(np.uint8)

    def target(entries: Entries, level: int) -> Entries:
        # page tables are aligned to 2 KiB, all other tables to 4 KiB
        return entries & ~np.uint64(0x7FF if shifts[level] == _SEGMENT else 0xFFF)

    return PagingMode(
        architecture="s390x",
        name=name,
        shifts=shifts,
        virtual_bits=min(64, shifts[0] + 11),
        entry=np.dtype(">u8"),
        classify=classify,
        target=target,
        grants=lambda entries, level, leaf: _granted(entries, level, leaf) & np.uint8(WRITE | EXECUTE),
        first=0,
        byte_orders=">",
    )


MODES = (
    _mode("region-third table", (_THIRD, _SEGMENT, _PAGE)),
    _mode("region-second table", (_SECOND, _THIRD, _SEGMENT, _PAGE)),
    _mode("region-first table", (_FIRST, _SECOND, _THIRD, _SEGMENT, _PAGE)),
    _mode("segment table", (_SEGMENT, _PAGE)),
)

LINK_BASE = 0x10_0000
"""Link address of ``_text`` while virtual equals physical, up to 6.9: TEXT_OFFSET, behind the decompressor."""

AREA_PLANS = (
    AreaPlan(
        "s390x",
        (),
        (
            Area("direct map", Bound(DIRECT_START), Bound(DIRECT_END), AreaRule.DIRECT),
            Area("vmemmap", Bound("vmemmap"), Bound("vmemmap", size="vmemmap_size"), AreaRule.PAGES),
            Area("vmalloc", Bound("VMALLOC_START"), Bound("VMALLOC_END")),
            Area("absolute lowcore", Bound("__abs_lowcore"), Bound("__memcpy_real_area")),
            Area("memcpy_real", Bound("__memcpy_real_area"), Bound("__memcpy_real_area", 0x1000)),
            Area("modules", Bound("MODULES_VADDR"), Bound("MODULES_END")),
        ),
    ),
)
"""Division of the address space; its bounds are set during boot (arch/s390/boot/startup.c)."""
