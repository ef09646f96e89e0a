"""Memory files of Firecracker and Cloud Hypervisor: the regions of a guest's RAM, back to back.

The regions are those of ``arch_memory_regions`` in each program's source: of Firecracker, src/vmm/src/arch/x86_64 and
aarch64 with their layout.rs, before and after its hole grew to make room for PCI; of Cloud Hypervisor, arch/src/x86_64
and aarch64 with their layout.rs, before and after arm64 got a hole.
"""

from __future__ import annotations

from collections.abc import Callable

Regions = list[tuple[int, int]]
"""First address and size of each."""

MIB, GIB = 1 << 20, 1 << 30


def _around(start: int, hole: int) -> Callable[[int], Regions]:
    """RAM from ``start`` on with a hole from ``hole`` to 4 GiB."""

    def regions(size: int) -> Regions:
        below = min(size, hole - start)
        return [(start, below), (4 * GIB, size - below)] if size > below else [(start, size)]

    return regions


FIRECRACKER = {
    "x86-64": _around(0, 0xD000_0000),
    "x86-64, newer": _around(0, 0xC000_0000),
    "arm64": lambda size: [(0x8000_0000, size)],
}
CLOUD_HYPERVISOR = {
    "x86-64": _around(0, 0xC000_0000),
    "arm64": lambda size: [(0x4000_0000, size)],
    "arm64, newer": _around(0x4000_0000, 0xFC00_0000),
}
