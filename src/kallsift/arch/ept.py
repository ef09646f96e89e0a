"""Describe Intel's extended page tables, which translate a guest's physical addresses into its host's.

Source: Intel SDM volume 3, "EPT".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.paging import LEAF, PRESENT, Entries, Grants, PagingMode, granted_by

_ADDRESS = np.uint64(0x000F_FFFF_FFFF_F000)
# rights to read, write and execute; an entry with any of them is present, there is no separate bit
_RIGHTS, _LARGE = np.uint64(0b111), np.uint64(1 << 7)
_RESERVED = np.uint64(0b1111_1000)
"""Bits that are zero in entries that lead to a further table; the bit of a large page is above them."""

_ENTRY_GRANTS = Grants(write=(1 << 1, 1 << 1), execute=(1 << 2, 1 << 2))

_SHIFTS = {3: (39, 30, 21, 12), 4: (48, 39, 30, 21, 12)}
"""Shifts of the levels, by bits 5 to 3 of an EPT pointer, which hold the number of levels less one."""


def _flags(entries: Entries, shift: int) -> NDArray[np.uint8]:
    leaf = np.full(len(entries), shift == 12)
    if 12 < shift <= 30:
        leaf = entries & _LARGE != 0
    present = (entries & _RIGHTS != 0) & (leaf | (entries & _RESERVED == 0))
    return (np.where(present, PRESENT, 0) | np.where(leaf, LEAF, 0)).astype(np.uint8)


def _mode(shifts: tuple[int, ...]) -> PagingMode:
    return PagingMode(
        architecture="x86-64",
        name=f"EPT, {len(shifts)}-level",
        shifts=shifts,
        virtual_bits=shifts[0] + 9,
        entry=np.dtype("<u8"),
        classify=lambda entries, level: _flags(entries, shifts[level]),
        target=lambda entries, _: entries & _ADDRESS,
        grants=granted_by(_ENTRY_GRANTS, _ENTRY_GRANTS),
        first=0,
    )


_MODES = {levels: _mode(shifts) for levels, shifts in _SHIFTS.items()}


def extended_paging(pointer: int) -> tuple[PagingMode, int] | None:
    """Return the paging mode of an EPT pointer and the address of its top table.

    The result is None if the value cannot be an EPT pointer.
    """
    uncached_or_write_back = pointer & 0b111 in (0, 6)
    mode = _MODES.get(pointer >> 3 & 0b111)
    if mode is None or not uncached_or_write_back or pointer & 0xF00 or pointer >> 52:
        return None
    return mode, pointer & ~0xFFF


def is_top_table(entries: Entries) -> bool:
    """Tell whether 512 entries can be those of a top table.

    Every entry must have only rights and an address, and at least one must not be zero.
    """
    used = entries[entries != 0]
    return bool(len(used)) and bool(((used & _RIGHTS != 0) & (used & _RESERVED == 0)).all())
