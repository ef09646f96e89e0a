"""The KASLR slide: by how much a kernel runs above the addresses it was linked at."""

from __future__ import annotations

from kallsift.arch.registry import LINK_BASES, UNMOVED
from kallsift.kernel.checks.vmcoreinfo import Vmcoreinfo
from kallsift.kernel.placement.placement import Placement
from kallsift.memory.memory import Memory

FARTHEST = 1 << 30
"""No kernel that says nothing of its slide moves farther; a greater distance means another configuration."""


def kaslr_slide(memory: Memory, placement: Placement, info: Vmcoreinfo | None) -> int | None:
    """The slide, None if it cannot be known.

    Args:
        memory: what the kernel was found in.
        placement: where.
        info: what the kernel says of itself.
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
