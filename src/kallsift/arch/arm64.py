"""Describe page tables of arm64: granules of 4, 16 and 64 KiB, 36 to 52 address bits.

Source: Arm ARM, VMSAv8-64 and FEAT_LPA, FEAT_LPA2.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.address_space import DIRECT_END, Area, AreaPlan, AreaRule, Bound, at
from kallsift.arch.paging import LEAF, PRESENT, Entries, Grants, PagingMode, granted_by

_VALID, _TABLE, _ACCESSED = np.uint64(1), np.uint64(2), np.uint64(1 << 10)
_LOWEST_RESERVED = 17
"""Lowest of the reserved bits (RES0) below a block's address."""

GRANTS = granted_by(
    leaf=Grants(write=(1 << 7, 0), execute=(1 << 53, 0), user=(1 << 6, 1 << 6)),
    table=Grants(write=(1 << 62, 0), execute=(1 << 59, 0), user=(1 << 61, 0)),
)
"""Bits AP[2:1] and PXN; in tables, APTable and PXNTable."""


_BELOW_IMAGE = (0, 128 << 20, 256 << 20, 2 << 30)
"""Possible sizes in bytes of the area for modules and BPF programs below the image.

None up to 4.5; 128 MiB; 128 MiB of each from 5.0 to 5.12; 2 GiB since 6.5 (MODULES_VSIZE, BPF_JIT_REGION_SIZE in
arch/arm64/include/asm/memory.h).
"""

_TEXT_OFFSET = 2 << 20
"""A size above TEXT_OFFSET, up to 5.7 (arch/arm64/Makefile), and above the size of the code before ``_stext``."""


def is_link_address(address: int) -> bool:
    """Tell whether an image's first byte can be linked at an address.

    The address must be KIMAGE_VADDR plus a small offset. KIMAGE_VADDR lies above the end of the linear map or of
    KASAN's shadow, by the size of the areas below the image. At both ends, a power of two is left of the address space,
    or the difference of two powers.
    """
    below = address % (4 << 30)
    left = (1 << 64) - (address - below)
    return below - below % _TEXT_OFFSET in _BELOW_IMAGE and (left + (left & -left)).bit_count() == 1


def _plain(granule_shift: int) -> Callable[[Entries], Entries]:
    """Return a function for output addresses: bits 47 down to the granule."""
    mask = np.uint64((1 << 48) - (1 << granule_shift))
    return lambda entries: entries & mask


def _lpa(entries: Entries) -> Entries:
    """Return output addresses of 52 bits with a 64 KiB granule.

    Address bits 51 to 48 stand in bits 15 to 12.
    """
    low = entries & np.uint64((1 << 48) - (1 << 16))
    return low | (entries & np.uint64(0xF000)) << np.uint64(36)


def _lpa2(granule_shift: int) -> Callable[[Entries], Entries]:
    """Return a function for output addresses of 52 bits with 4 and 16 KiB granules.

    Address bits 51 and 50 stand in bits 9 and 8.
    """
    mask = np.uint64((1 << 50) - (1 << granule_shift))
    return lambda entries: entries & mask | (entries & np.uint64(0x300)) << np.uint64(42)


def _mode(name: str, shifts: tuple[int, ...], virtual_bits: int, target: Callable[[Entries], Entries]) -> PagingMode:
    def classify(entries: Entries, level: int) -> NDArray[np.uint8]:
        valid, table = entries & _VALID != 0, entries & _TABLE != 0
        last = level == len(shifts) - 1
        leaf = table if last else ~table
        # an access to memory without the access flag faults
        usable = entries & _ACCESSED != 0
        if not last:
            usable &= entries & np.uint64((1 << shifts[level]) - (1 << _LOWEST_RESERVED)) == 0
        present = valid & (leaf & usable | (~leaf & (not last)))
        return (np.where(present, PRESENT, 0) | np.where(leaf, LEAF, 0)).astype(np.uint8)

    return PagingMode(
        "arm64", name, shifts, virtual_bits, np.dtype("<u8"), classify, lambda entries, _: target(entries), GRANTS
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

VECTORS, VECTOR_SIZE = 16, 0x80
"""Number of exception vectors, and size of the code of each in bytes (Arm ARM, "Exception vectors")."""

VECTORS_SIZE = VECTORS * VECTOR_SIZE


def vector_branches(code: NDArray[np.uint8], start: int) -> tuple[Entries, Entries]:
    """Return the target to which the code of each exception vector branches.

    The target is that of the first unconditional branch to an address outside all vectors.

    Args:
        code: code of the vectors, whole words.
        start: its address.

    Returns:
        Addresses of the vectors and the targets, 0 for vectors without such a branch, shapes (n,) and (n,).
    """
    words = np.ascontiguousarray(code).view("<u4")[: len(code) // VECTOR_SIZE * VECTOR_SIZE // 4].astype(np.int64)
    distance = (words & 0x3FF_FFFF ^ 0x200_0000) - 0x200_0000
    targets = np.arange(len(words)) * 4 + 4 * distance
    leaves = (words >> 26 == 0b000101) & ((targets < 0) | (targets >= len(code)))
    leaves = leaves.reshape(-1, VECTOR_SIZE // 4)
    first = np.argmax(leaves, axis=1) + np.arange(len(leaves)) * (VECTOR_SIZE // 4)
    places = np.uint64(start) + (np.arange(len(leaves)) * VECTOR_SIZE).astype(np.uint64)
    found = targets[first].astype(np.uint64) + np.uint64(start)
    return places, np.where(leaves.any(axis=1), found, np.uint64(0))


_MIB, _END = 1 << 20, 1 << 64
_LARGEST_PAGE_STRUCTURE = 6
"""STRUCT_PAGE_MAX_SHIFT: binary logarithm of the largest size of ``struct page``."""


def _plans(mode: PagingMode) -> tuple[AreaPlan, ...]:
    """Return the plans of one mode, for kernels since 5.4.

    There the direct map begins the kernel's half (arch/arm64/include/asm/memory.h). The address of the array of pages
    changed in 5.11 and 6.9; the size of the area for modules changed in 5.17 (before, it includes the BPF area) and
    6.5.
    """
    page_shift = mode.shifts[-1]
    direct = _END - (1 << mode.virtual_bits)
    least_bits = min(mode.virtual_bits, 47 if page_shift == 14 else 48)
    middle = _END - (1 << least_bits - 1)
    shift = page_shift - _LARGEST_PAGE_STRUCTURE
    pages = (middle - direct) >> shift
    newest, older = _END - 1024 * _MIB - pages, _END - (1 << mode.virtual_bits - shift)
    oldest = _END - pages - 2 * _MIB

    def plan(modules: int, vmemmap: int, vmalloc: int, *others: Area) -> AreaPlan:
        return AreaPlan(
            "arm64",
            (mode.name,),
            (
                Area("direct map", at(direct), Bound(DIRECT_END), AreaRule.DIRECT),
                Area("modules", at(middle), at(middle + modules)),
                # where KASLR puts modules, near the image: since 6.5 (two areas), and before
                Area("modules", Bound("module_direct_base"), Bound("module_direct_base", 128 * _MIB)),
                Area("modules", Bound("module_plt_base"), Bound("module_plt_base", 2048 * _MIB)),
                Area("modules", Bound("module_alloc_base"), Bound("module_alloc_base", 128 * _MIB)),
                Area("vmalloc", at(middle + modules), at(vmalloc)),
                Area("vmemmap", at(vmemmap), at(vmemmap + pages), AreaRule.PAGES),
                *others,
            ),
            origin=(at(direct), Bound("memstart_addr")),
        )

    def pci(start: int) -> Area:
        return Area("PCI I/O", at(start), at(start + 16 * _MIB))

    def fixmap(end: int, start: int) -> Area:
        return Area("fixmap", at(start), at(end))

    newest_end = newest + pages
    newest_others = (pci(newest_end + 8 * _MIB), fixmap(_END - 8 * _MIB, newest_end + 24 * _MIB))
    older_others = (pci(older - 24 * _MIB), fixmap(older - 32 * _MIB, older - 256 * _MIB))
    upper_table = _END - (1 << mode.shifts[-3 if len(mode.shifts) > 2 else 0])
    return (
        plan(2048 * _MIB, newest, newest - 8 * _MIB, *newest_others),
        plan(2048 * _MIB, older, older - 256 * _MIB, *older_others),
        plan(128 * _MIB, older, older - 256 * _MIB, *older_others),
        plan(256 * _MIB, older, older - 256 * _MIB, *older_others),
        plan(
            256 * _MIB,
            oldest,
            upper_table - pages - (64 << 10),
            pci(oldest - 18 * _MIB),
            fixmap(oldest - 20 * _MIB, oldest - 64 * _MIB),
        ),
    )


AREA_PLANS = tuple(plan for mode in MODES for plan in _plans(mode))
"""Ways in which kernels divide the address space; of a mode's plans, the first one that fits best is used."""
