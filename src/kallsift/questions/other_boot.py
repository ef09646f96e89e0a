"""Another boot of the same kernel: by how much its addresses differ from those of the kernel at hand.

A kernel that panics prints its KASLR offset, and what that is counted from (``dump_kernel_offset()`` of each
architecture): ``Kernel Offset: 0x2be00000 from 0xffffffff81000000``.
"""

from __future__ import annotations

import re

from kallsift.errors import KallsiftError
from kallsift.kallsyms.table import SymbolTable

OFFSET = re.compile(rb"Kernel Offset: (?:(0x[0-9a-fA-F]{1,16}) from (0x[0-9a-fA-F]{1,16})|disabled)")
"""The line's text; ``disabled`` where the kernel runs as it was linked."""

BASES = ("_text", "_stext")
"""Symbols that people name as a kernel's base."""


class UnknownBaseError(KallsiftError):
    """What somebody knows of another boot cannot be compared with the kernel at hand."""


def base_in_line(line: bytes, linked: int | None) -> int | None:
    """Where ``_text`` was in the boot that a line of its log tells the offset of; None for all other lines.

    Args:
        line: of a log.
        linked: where ``_text`` was linked; None where nothing tells.

    Raises:
        UnknownBaseError: if that is needed, but not known.
    """
    found = OFFSET.search(line)
    if found is None:
        return None
    if found[1] is not None:
        return int(found[1], 16) + int(found[2], 16)
    if linked is None:
        raise UnknownBaseError(
            "the log's kernel was not moved, and nothing tells where it was linked; give --from-base"
        )
    return linked


def distance_from(symbols: SymbolTable, given: int, linked: int | None) -> int:
    """What has to be added to another boot's addresses to get those of the kernel at hand; may be negative.

    Args:
        symbols: of the kernel at hand.
        given: the other boot's ``_text`` or ``_stext``, whichever moves the kernel by the rounder number, or its
            KASLR offset.
        linked: where ``_text`` was linked; None where nothing tells.

    Raises:
        UnknownBaseError: if there is no ``_text`` or ``_stext`` to compare it with.
    """
    bases = [symbols.symbol(index).address for name in BASES if (index := symbols.find(name)) is not None]
    if not bases:
        raise UnknownBaseError("this kernel's table lists neither _text nor _stext, so no other boot compares with it")
    half = 1 << 8 * symbols.word_size - 1
    if bases[0] >= half > given:
        # no address of a kernel's, so an offset
        if linked is None:
            raise UnknownBaseError(
                f"nothing tells where this kernel was linked, so the offset {given:#x} says nothing; give its _text"
            )
        return bases[0] - linked - given
    return max((base - given for base in bases), key=lambda distance: distance & -distance if distance else half)
