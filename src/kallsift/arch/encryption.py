"""Find the attribute bits of encrypted and shared memory among the address bits of page-table entries.

AMD's SME and SEV set one bit, the C-bit, in each entry that leads to encrypted memory (AMD64 Architecture Programmer's
Manual volume 2, "Secure Memory Encryption"). CPUID tells which bit this is, but a dump has no CPUID. Linux sets the bit
in every entry of the kernel's half of the top table (`_KERNPG_TABLE`, arch/x86/include/asm/pgtable_types.h), and no
memory lies at such a high address. Intel's TDX and Arm's CCA set the highest bit of a guest's physical address only in
entries of shared memory.
"""

from __future__ import annotations

import numpy as np

from kallsift.arch.paging import PRESENT, HoldsWords, PagingMode

LOWEST_BIT = 40
"""Lowest address bit that can be the C-bit; processors have it at 47 or 51."""

HIGHEST_BIT = 51
"""Highest bit of an address in entries of x86-64."""

ARCHITECTURE = "x86-64"

SHARED_MASKS = {"x86-64": "cc_mask", "arm64": "prot_ns_shared"}
"""Variable with the bit of encrypted or shared memory, by architecture.

It exists since 5.18 on x86-64 (arch/x86/coco/core.c) and since 6.13 on arm64 (arch/arm64/kernel/rsi.c).
"""

LOWEST_SHARED_BIT = 32


def bits_beyond(end: int) -> int:
    """Return the bits that can be the C-bit where no memory lies at ``end`` or above."""
    lowest = max(LOWEST_BIT, (end - 1).bit_length())
    return (1 << HIGHEST_BIT + 1) - (1 << min(lowest, HIGHEST_BIT + 1))


def encryption_bit(memory: HoldsWords, end: int, mode: PagingMode, root: int) -> int:
    """Return the C-bit of the page table with a given top table.

    It is the one bit above all memory that is set in all used entries of the kernel's half.

    Args:
        memory: physical memory.
        end: address at and above which no memory lies.
        mode: paging mode of the table.
        root: physical address of the top table.

    Returns:
        The bit's mask; 0 where there is none, or more than one.
    """
    possible = bits_beyond(end)
    if mode.architecture != ARCHITECTURE or not possible:
        return 0
    count = 1 << mode.virtual_bits - mode.shifts[0]
    places = np.uint64(root) + np.arange(count // 2, count, dtype=np.uint64) * np.uint64(mode.entry.itemsize)
    entries, held = memory.words(places, mode.entry)
    used = entries[held & (mode.classify(entries, 0) & PRESENT != 0)]
    common = int(np.bitwise_and.reduce(used)) & possible if len(used) else 0
    return common if common.bit_count() == 1 else 0


def with_encryption(memory: HoldsWords, end: int, mode: PagingMode, root: int) -> PagingMode:
    """Return the mode with the C-bit of the table at ``root`` as an attribute.

    See `encryption_bit`.
    """
    return mode.with_attributes(encryption_bit(memory, end, mode, root))


def without_encryption(register: int, end: int) -> int:
    """Return the address of a top table in CR3 without bits that can be the C-bit."""
    return register & ~bits_beyond(end)


def is_shared_bit(value: int, end: int) -> bool:
    """Tell whether a value can be the bit that marks shared memory.

    No memory may lie at ``end`` or above.
    """
    lowest = max(LOWEST_SHARED_BIT, (end - 1).bit_length())
    return value.bit_count() == 1 and lowest < value.bit_length() <= HIGHEST_BIT + 1
