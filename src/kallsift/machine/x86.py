"""x86: four and five levels of 512 entries, and the two ways of 32-bit paging (Intel SDM volume 3, chapter 5)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.machine.model import LEAF, PRESENT, Entries, PagingMode

_ADDRESS = np.uint64(0x000F_FFFF_FFFF_F000)
# Linux marks every entry of the kernel's part as accessed; tables of arm64 and of LPAE read the same but for that bit.
_PRESENT, _ACCESSED, _LARGE = np.uint64(1), np.uint64(1 << 5), np.uint64(1 << 7)


def _flags(entries: Entries, shift: int, largest: int, required: np.uint64 = _PRESENT) -> NDArray[np.uint8]:
    """Flags of entries that cover ``1 << shift`` bytes each, where pages have ``1 << largest`` bytes at most."""
    present = entries & required == required
    leaf = np.full(len(entries), shift == 12)
    if 12 < shift <= largest:
        leaf = entries & _LARGE != 0
        # the bits below a large page's address, but for PAT (and bits of the address in pages of 4 MiB), are reserved
        present &= ~leaf | (entries & np.uint64((1 << shift) - (1 << (21 if shift == 22 else 13))) == 0)
    return (np.where(present, PRESENT, 0) | np.where(leaf, LEAF, 0)).astype(np.uint8)


def _mode(name: str, shifts: tuple[int, ...]) -> PagingMode:
    """IA-32e paging: pages of 4 KiB, 2 MiB and 1 GiB."""
    return PagingMode(
        architecture="x86-64",
        name=name,
        shifts=shifts,
        virtual_bits=shifts[0] + 9,
        entry=np.dtype("<u8"),
        classify=lambda entries, level: _flags(entries, shifts[level], 30, _PRESENT | _ACCESSED),
        target=lambda entries, _: entries & _ADDRESS,
    )


def _two_level_target(entries: Entries, level: int) -> Entries:
    """Pages of 4 MiB: address bits 39 to 32 stand in bits 20 to 13 (PSE-36)."""
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
        # top entries have no bit for accessed
        classify=lambda entries, level: _flags(
            entries, (30, 21, 12)[level], 21, _PRESENT | _ACCESSED if level else _PRESENT
        ),
        target=lambda entries, _: entries & _ADDRESS,
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
        first=0,
        word_size=4,
    ),
)

_GATES = {
    8: np.dtype("<u2,<u2,<u2,<u2,<u4,<u4"),
    4: np.dtype("<u2,<u2,<u2,<u2"),
}
"""Gates of the interrupt descriptor table, by the size of a word (Intel SDM 3A, "IDT Descriptors"): bits 0 to 15 of the
address, segment, kind, bits 16 to 31 of the address, bits 32 to 63."""

_GATE_PRESENT = np.uint16(0x8000)


def gate_size(word_size: int) -> int:
    """Bytes of a gate of the interrupt descriptor table."""
    return _GATES[word_size].itemsize


def handlers(table: NDArray[np.uint8], word_size: int) -> Entries:
    """Where the gates lead that are present in (the beginning of) an interrupt descriptor table."""
    gates = np.ascontiguousarray(table).view(_GATES[word_size])
    gates = gates[gates["f2"] & _GATE_PRESENT != 0]
    found: Entries = gates["f0"].astype(np.uint64) | gates["f3"].astype(np.uint64) << np.uint64(16)
    return found | gates["f4"].astype(np.uint64) << np.uint64(32) if word_size == 8 else found


ROOT_SYMBOLS = ("init_top_pgt", "init_level4_pgt", "swapper_pg_dir")
"""The kernel's own top table: since 4.13 init_top_pgt; before, init_level4_pgt; of 32 bits, swapper_pg_dir."""

LINK_BASE = 0xFFFF_FFFF_8100_0000
"""Where ``_text`` is linked: __START_KERNEL_map plus the default PHYSICAL_START of 16 MiB."""

LINK_BASE_32 = 0xC100_0000
"""The same of 32 bits: the default PAGE_OFFSET plus the default PHYSICAL_START."""
