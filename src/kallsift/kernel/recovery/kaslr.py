"""Compute the KASLR slide: the distance of a running kernel from the addresses that it was linked at."""

from __future__ import annotations

from kallsift.arch.registry import LINK_BASES, UNMOVED
from kallsift.kernel.checks.vmcoreinfo import Vmcoreinfo
from kallsift.kernel.placement.placement import Placement
from kallsift.memory.memory import Memory

FARTHEST = 1 << 30
"""Highest slide of a kernel that does not state it; a greater distance means another configuration."""


def kaslr_slide(memory: Memory, placement: Placement, info: Vmcoreinfo | None) -> int | None:
    """Return the slide; None if it cannot be known.

    Args:
        memory: the memory in which the kernel was found.
        placement: its placement.
        info: the kernel's VMCOREINFO, if there is one.
    """
    if memory.image is not None:
        return 0
    if info is not None and info.kernel_offset is not None:
        return info.kernel_offset
    architecture = placement.mapping.architecture if placement.mapping else None
    if architecture in UNMOVED:
        return 0
    symbol, linked = LINK_BASES.get(architecture or "", ("", 0))
    if symbol not in placement.symbols:
        return None
    slide = placement.symbols[symbol].address - linked & placement.words.mask
    return slide if slide < FARTHEST else None
