"""A forged kernel in a made machine: an image that no process runs in, which only its own page table maps."""

from __future__ import annotations

from tests.kernel.made_machine import IMAGE_SIZE, MIB, ROOT, Machine

FORGED = 2 * MIB
"""Where a copy of the image lies, below the real one."""


def forge(machine: Machine) -> None:
    """Copy the image, and let the page table in the copy map the copy itself."""
    machine.data[FORGED : FORGED + IMAGE_SIZE] = machine.data[machine.place : machine.place + IMAGE_SIZE]
    root = FORGED + ROOT
    machine.put(root + 8 * (machine.base >> 39 & 511), 0)
    for step in range(0, IMAGE_SIZE, 2 * MIB):
        machine.map_large(root, machine.base + step, FORGED + step)
