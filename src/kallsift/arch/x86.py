"""Describe page tables of x86: four and five levels of 512 entries, and the two kinds of 32-bit paging.

Source: Intel SDM volume 3, chapter 5.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.address_space import DIRECT_END, DIRECT_START, READ_ONLY_ALIAS, Area, AreaPlan, AreaRule, Bound, at
from kallsift.arch.paging import EVERYTHING, LEAF, PRESENT, Entries, Grants, PagingMode, granted_by

_ADDRESS = np.uint64(0x000F_FFFF_FFFF_F000)
# Linux marks every entry of the kernel's part as accessed; tables of arm64 and LPAE look the same except for that bit.
_PRESENT, _ACCESSED, _LARGE = np.uint64(1), np.uint64(1 << 5), np.uint64(1 << 7)

_WRITE, _USER, _NO_EXECUTION = 1 << 1, 1 << 2, 1 << 63
_GRANTS = Grants(write=(_WRITE, _WRITE), execute=(_NO_EXECUTION, 0), user=(_USER, _USER))
_granted = granted_by(_GRANTS, _GRANTS)


def _flags(entries: Entries, shift: int, largest: int, required: np.uint64 = _PRESENT) -> NDArray[np.uint8]:
    """Return the flags of entries that cover ``1 << shift`` bytes each.

    The largest pages have ``1 << largest`` bytes.
    """
    present = entries & required == required
    leaf = np.full(len(entries), shift == 12)
    if 12 < shift <= largest:
        leaf = entries & _LARGE != 0
        # the bits below a large page's address are reserved, except for PAT and, in 4 MiB pages, address bits
        present &= ~leaf | (entries & np.uint64((1 << shift) - (1 << (21 if shift == 22 else 13))) == 0)
    return (np.where(present, PRESENT, 0) | np.where(leaf, LEAF, 0)).astype(np.uint8)


def _mode(name: str, shifts: tuple[int, ...]) -> PagingMode:
    """Return a mode of IA-32e paging: pages of 4 KiB, 2 MiB and 1 GiB."""
    return PagingMode(
        architecture="x86-64",
        name=name,
        shifts=shifts,
        virtual_bits=shifts[0] + 9,
        entry=np.dtype("<u8"),
        classify=lambda entries, level: _flags(entries, shifts[level], 30, _PRESENT | _ACCESSED),
        target=lambda entries, _: entries & _ADDRESS,
        grants=_granted,
        signed=True,
    )


def _two_level_target(entries: Entries, level: int) -> Entries:
    """Return the physical addresses in entries of 2-level paging.

    In pages of 4 MiB, address bits 39 to 32 stand in bits 20 to 13 (PSE-36).
    """
    table = entries & np.uint64(0xFFFF_F000)
    if level:
        return table
    page = entries & np.uint64(0xFFC0_0000) | (entries & np.uint64(0x1F_E000)) << np.uint64(19)
    return np.where(entries & _LARGE != 0, page, table)


MODES = (
    _mode("4-level", (39, 30, 21, 12)),
    _mode("5-level", (48, 39, 30, 21, 12)),
    PagingMode(
        architecture="x86",
        name="PAE",
        shifts=(30, 21, 12),
        virtual_bits=32,
        entry=np.dtype("<u8"),
        # top entries have no accessed bit
        classify=lambda entries, level: _flags(
            entries, (30, 21, 12)[level], 21, _PRESENT | _ACCESSED if level else _PRESENT
        ),
        target=lambda entries, _: entries & _ADDRESS,
        grants=lambda entries, level, leaf: (
            _granted(entries, level, leaf) if level else np.full(len(entries), EVERYTHING, np.uint8)
        ),
        first=0,
        word_size=4,
    ),
    PagingMode(
        architecture="x86",
        name="2-level",
        shifts=(22, 12),
        virtual_bits=32,
        entry=np.dtype("<u4"),
        classify=lambda entries, level: _flags(entries, (22, 12)[level], 22),
        target=_two_level_target,
        grants=_granted,
        first=0,
        word_size=4,
    ),
)

_GATES = {
    8: np.dtype("<u2,<u2,<u2,<u2,<u4,<u4"),
    4: np.dtype("<u2,<u2,<u2,<u2"),
}
"""Gates of the interrupt descriptor table, by the size of a word (Intel SDM 3A, "IDT Descriptors").

The fields are: bits 0 to 15 of the address, segment, type, bits 16 to 31 of the address, and for 64-bit gates bits 32
to 63 of the address and a reserved field.
"""

_GATE_PRESENT = np.uint16(0x8000)


def gate_size(word_size: int) -> int:
    """Return the size in bytes of a gate of the interrupt descriptor table."""
    return _GATES[word_size].itemsize


MAX_GATES = 256
"""Highest number of gates: one for each interrupt vector."""


def gates(table: NDArray[np.uint8], word_size: int) -> tuple[NDArray[np.bool_], Entries]:
    """Return which gates of an interrupt descriptor table are present, and targets.

    There is a target for each gate; that of an absent gate is meaningless. The table may be cut short.
    """
    found = np.ascontiguousarray(table).view(_GATES[word_size])
    present: NDArray[np.bool_] = found["f2"] & _GATE_PRESENT != 0
    low: Entries = found["f0"].astype(np.uint64) | found["f3"].astype(np.uint64) << np.uint64(16)
    return present, low | found["f4"].astype(np.uint64) << np.uint64(32) if word_size == 8 else low


def handlers(table: NDArray[np.uint8], word_size: int) -> Entries:
    """Return the targets of the present gates of an interrupt descriptor table.

    The table may be cut short.
    """
    present, found = gates(table, word_size)
    return found[present]


ROOT_SYMBOLS = ("init_top_pgt", "init_level4_pgt", "swapper_pg_dir")
"""Symbols of the kernel's own top table.

These are init_top_pgt since 4.13, init_level4_pgt before, and swapper_pg_dir on 32 bits.
"""

LINK_BASE = 0xFFFF_FFFF_8100_0000
"""Link address of ``_text``: __START_KERNEL_map plus the default PHYSICAL_START of 16 MiB."""

LINK_BASE_32 = 0xC100_0000
"""Link address of ``_text`` on 32 bits: the default PAGE_OFFSET plus the default PHYSICAL_START."""

_GIB, _TIB = 1 << 30, 1 << 40


def _wide(paging: str, user: int, vmalloc: int, pages: int, image: int) -> AreaPlan:
    """Return a plan for 64 bits.

    It follows from the sizes of user space, vmalloc, the array of pages and the area for the image. Source:
    Documentation/arch/x86/x86_64/mm.rst; KASLR moves the three bases (arch/x86/mm/kaslr.c) and doubles the area for the
    image.
    """
    image_end = 0xFFFF_FFFF_8000_0000 + image
    return AreaPlan(
        "x86-64",
        (paging,),
        (
            Area("user space", at(0), at(user)),
            Area("direct map", Bound("page_offset_base"), Bound(DIRECT_END), AreaRule.DIRECT),
            Area("vmalloc", Bound("vmalloc_base"), Bound("vmalloc_base", vmalloc)),
            Area("vmemmap", Bound("vmemmap_base"), Bound("vmemmap_base", pages), AreaRule.PAGES),
            Area("cpu entry area", at(0xFFFF_FE00_0000_0000), at(0xFFFF_FE80_0000_0000)),
            Area("espfix stacks", at(0xFFFF_FF00_0000_0000), at(0xFFFF_FF80_0000_0000)),
            Area("EFI runtime services", at(0xFFFF_FFEF_0000_0000), at(0xFFFF_FFFF_0000_0000)),
            Area("kernel mapping", at(0xFFFF_FFFF_8000_0000), at(image_end), AreaRule.IMAGE),
            Area("modules", at(image_end), at(0xFFFF_FFFF_FF00_0000)),
            Area("fixmap", at(0xFFFF_FFFF_FF00_0000), at(0xFFFF_FFFF_FF60_0000)),
            Area("vsyscall", at(0xFFFF_FFFF_FF60_0000), at(0xFFFF_FFFF_FF60_1000)),
        ),
        origin=(Bound("page_offset_base"), at(0)),
    )


_LOW = (
    Area("user space", at(0), Bound(DIRECT_START)),
    Area("direct map", Bound(DIRECT_START), Bound(DIRECT_END), AreaRule.DIRECT),
)
_BEHIND_LOW = Bound(DIRECT_END, 8 << 20)

AREA_PLANS = (
    _wide("4-level", 1 << 47, 32 * _TIB, _TIB, _GIB),
    _wide("4-level", 1 << 47, 32 * _TIB, _TIB, _GIB // 2),
    _wide("5-level", 1 << 56, 12800 * _TIB, 512 * _TIB, _GIB),
    _wide("5-level", 1 << 56, 12800 * _TIB, 512 * _TIB, _GIB // 2),
    # arch/x86/include/asm/pgtable_32_areas.h: the interrupt table begins the entry area since 4.15
    AreaPlan(
        "x86",
        (),
        (
            *_LOW,
            Area("vmalloc, modules and pkmap", _BEHIND_LOW, Bound(READ_ONLY_ALIAS)),
            Area("cpu entry area and fixmap", Bound(READ_ONLY_ALIAS), at(1 << 32)),
        ),
    ),
    AreaPlan("x86", (), (*_LOW, Area("vmalloc, modules, pkmap and fixmap", _BEHIND_LOW, at(1 << 32)))),
)
"""Ways in which kernels divide the address space; of a mode's plans, the first one that fits best is used."""
