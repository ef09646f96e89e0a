"""Which of several page tables that map an image is the kernel's own."""

from __future__ import annotations

import pytest

import kallsift
from tests.kernel.made_machine import DATA, KERNEL_TABLE, ROOT, Machine

BASE = 0xFFFF_9000_0100_0000
"""Where an image can lie so that something else is mapped behind it, as on 32-bit machines."""


@pytest.mark.parametrize("has_more", [True, False])
def test_the_table_that_maps_what_came_later(monkeypatch: pytest.MonkeyPatch, has_more: bool) -> None:
    """No symbol names it, and before it in the image is the one that the kernel booted with."""
    monkeypatch.setattr("kallsift.kernel.placement.page_table.ROOT_SYMBOLS", ())
    machine = Machine(base=BASE)
    booted = machine.place + DATA - 4096
    machine.data[booted : booted + 4096] = machine.data[machine.root : machine.root + 4096]
    if has_more:
        machine.put(machine.root + 8 * 402, machine.take() | KERNEL_TABLE)
    kernel = kallsift.recover(machine.memory())
    assert kernel.proven
    assert kernel.page_table_root == (machine.place + ROOT if has_more else booted)
