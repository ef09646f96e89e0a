"""Describe address translation of mips: unmapped segments, and mapped ones with tables that only the kernel knows.

Kernels lie in kseg0. Data of 64-bit kernels lies in xkphys, which has one part for each caching mode (MIPS Architecture
for Programmers volume III, "Virtual Memory"). All other memory, such as modules, is mapped by tables, which the
kernel's own code walks. Entries of upper tables are addresses of the next tables; those of the last tables are page
numbers above some flag bits, whose number depends on the configuration (arch/mips/include/asm/pgtable-32.h,
pgtable-64.h, pgtable-bits.h; arch/mips/mm/tlbex.c).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.paging import LEAF, PRESENT, Entries, Grants, PagingMode, Segmented, Window, Windows, granted_by

_XKPHYS = tuple(Window(0x8000_0000_0000_0000 | attribute << 59, 0, 1 << 59) for attribute in range(8))

_WIDE = Windows(
    "mips64",
    "kseg0 and xkphys",
    (Window(0xFFFF_FFFF_8000_0000, 0, 1 << 29), Window(0xFFFF_FFFF_A000_0000, 0, 1 << 29), *_XKPHYS),
    byte_orders="<>",
)

_NARROW = Windows(
    "mips",
    "kseg0",
    (Window(0x8000_0000, 0, 1 << 29), Window(0xA000_0000, 0, 1 << 29)),
    word_size=4,
    byte_orders="<>",
)

WINDOWS = (_WIDE, _NARROW)

_XKSEG = 0xC000_0000_0000_0000
_KSEG2_SIZE = 1 << 30
"""Size in bytes of kseg2 and kseg3, which end the address space.

64-bit kernels keep the end of their tables for them.
"""

_WIDE_SHAPES = ((12, 3, 40), (12, 4, 48), (13, 3, 43), (14, 3, 47), (14, 3, 48), (15, 3, 51), (16, 2, 42), (16, 3, 55))
"""Shapes of tables in 64-bit kernels: address bits inside of a page, levels, and translated address bits.

Each table but the first is one page.
"""

_PAGE_BITS = range(12, 17)
"""Possible address bits inside of a page in 32-bit kernels, which have two levels; last-level tables are one page."""

_FIRST_BITS = range(6, 19)
"""Possible lowest bits of the page number in an entry, for pages of 4 KiB.

Below it are 6 bits for the TLB, and bits of the kernel's own. For larger pages, it is higher by the number of further
address bits inside of a page.
"""

_ALCHEMY, _EXTENDED = 6, 8
"""Lowest bits of the page number in the upper word of entries that consist of two 32-bit words.

The first is for pages of any size, the second for pages of 4 KiB.
"""

_EXTENDED_BITS = 24
"""Number of bits of a page number in that upper word; the others are in the lower word.

Source: MIPS32 release 5, "Extended Physical Addressing".
"""

_PageNumber = tuple[str, Callable[[Entries], Entries]]
"""A description of the page number's bits in an entry, and a function that returns the number."""


def _from_bit(first: int) -> _PageNumber:
    return f"page numbers from bit {first}", lambda entries: entries >> np.uint64(first)


def _of_two_words(page_bits: int, byte_order: str) -> Iterator[_PageNumber]:
    """Yield the possible page numbers in entries that consist of two 32-bit words.

    The kernel stores the lower word first, in either byte order.
    """
    half, low_mask = np.uint64(32), np.uint64(0xFFFF_FFFF)
    extended = np.uint64(_EXTENDED + page_bits - 12)

    def upper(entries: Entries) -> Entries:
        return entries >> half if byte_order == "<" else entries & low_mask

    def lower(entries: Entries) -> Entries:
        return (entries & low_mask if byte_order == "<" else entries >> half) & np.uint64((1 << _EXTENDED_BITS) - 1)

    yield f"page numbers from bit {_ALCHEMY} of the upper word", lambda entries: upper(entries) >> np.uint64(_ALCHEMY)
    yield (
        f"page numbers from bit {extended} of the upper word, and the lower word",
        lambda entries: upper(entries) >> extended | lower(entries) << np.uint64(_EXTENDED_BITS),
    )


def _tables(
    windows: Windows,
    byte_order: str,
    shifts: tuple[int, ...],
    virtual_bits: int,
    number: _PageNumber,
    last_entry: np.dtype[np.unsignedinteger],
) -> Segmented:
    where, page_number = number
    last, page_bits = len(shifts) - 1, np.uint64(shifts[-1])

    def classify(entries: Entries, level: int) -> NDArray[np.uint8]:
        if level == last:
            return np.where(page_number(entries) != 0, PRESENT | LEAF, 0).astype(np.uint8)
        # an empty entry leads to a table of empty entries
        aligned = entries & np.uint64((1 << shifts[-1]) - 1) == 0
        return np.where(windows.translatable(entries) & aligned, PRESENT, 0).astype(np.uint8)

    def target(entries: Entries, level: int) -> Entries:
        return page_number(entries) << page_bits if level == last else windows.translate(entries)[0]

    end = 1 << 8 * windows.word_size
    top = range(end - _KSEG2_SIZE, end)
    bits = "" if last_entry.itemsize == windows.word_size else f"entries of {8 * last_entry.itemsize} bits, "
    size = f"{(1 << shifts[-1]) >> 10} KiB pages"
    return Segmented(
        windows,
        PagingMode(
            architecture=windows.architecture,
            name=f"{len(shifts)} levels, {virtual_bits}-bit, {size}, {bits}{where}",
            shifts=shifts,
            virtual_bits=virtual_bits,
            entry=np.dtype(f"{byte_order}u{windows.word_size}"),
            classify=classify,
            target=target,
            # the positions of the bits for rights depend on the configuration too; user space has no mapped segment
            grants=granted_by(Grants(user=(0, 1))),
            stretches=(top,) if virtual_bits == 32 else (range(_XKSEG, _XKSEG + (1 << virtual_bits) - len(top)), top),
            last_entry=last_entry,
            word_size=windows.word_size,
            byte_orders=byte_order,
        ),
    )


def _wide(byte_order: str, page_bits: int, levels: int, virtual_bits: int) -> tuple[Segmented, ...]:
    shifts = tuple(page_bits + level * (page_bits - 3) for level in reversed(range(levels)))
    entry = np.dtype(f"{byte_order}u8")
    return tuple(
        _tables(_WIDE, byte_order, shifts, virtual_bits, _from_bit(first + page_bits - 12), entry)
        for first in _FIRST_BITS
    )


def _narrow(byte_order: str, page_bits: int, width: int) -> tuple[Segmented, ...]:
    shifts = (2 * page_bits - (width.bit_length() - 1), page_bits)
    entry = np.dtype(f"{byte_order}u{width}")
    numbers = [_from_bit(first + page_bits - 12) for first in _FIRST_BITS]
    numbers += _of_two_words(page_bits, byte_order) if width == 8 else ()
    return tuple(_tables(_NARROW, byte_order, shifts, 32, number, entry) for number in numbers)


@cache
def segmented() -> tuple[tuple[Segmented, ...], ...]:
    """Return the possible page tables, by byte order and shape of the tables.

    Those of one shape differ in the bits of an entry that are the page number; the lowest first bit comes first. There
    are some 500 of them, so they are made on first use.
    """
    return (
        *(_wide(byte_order, *shape) for byte_order in "<>" for shape in _WIDE_SHAPES),
        *(_narrow(byte_order, bits, width) for byte_order in "<>" for bits in _PAGE_BITS for width in (4, 8)),
    )
