"""The paging mode that a layout of the manuals describes, and where a kernel lies under it."""

from __future__ import annotations

from kallsift.arch.paging import PagingMode
from kallsift.arch.registry import mapping_named
from tests.arch.pages import Layout

HALF = {"x86-64", "riscv64"}
"""Architectures whose kernel has the upper half of what the tables translate."""


def mode_of(layout: Layout) -> PagingMode:
    """Return the mode of the registry that a layout describes."""
    mode = mapping_named(layout.architecture, layout.name, ">" if layout.architecture == "s390x" else "<")
    assert isinstance(mode, PagingMode)
    return mode


def kernel_start(layout: Layout) -> int:
    """Return the lowest address that a kernel may have under a layout."""
    return (1 << 64) - (1 << layout.bits - 1) if layout.architecture in HALF else layout.lowest()
