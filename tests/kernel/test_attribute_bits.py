"""Bits of page-table entries that mark encrypted or shared memory are no part of addresses."""

from __future__ import annotations

import numpy as np
import pytest

import kallsift
from kallsift.arch.paging import translate
from kallsift.kallsyms.evidence import Outcome
from kallsift.kernel.access.virtual_memory import virtual_memory
from tests.kernel.made_machine import DIRECT, KERNEL_PAGE, LARGE, MIB, ROOT, Machine

pytestmark = pytest.mark.sampled(2)


def assert_as_without(kernel: kallsift.Kernel, bits: int) -> None:
    plain = kallsift.recover(Machine().memory())
    assert plain.proven
    assert (plain.attribute_bits, plain.state) == (0, kallsift.State.RUNNING)
    assert kernel.proven, [check for check in kernel.evidence if check.outcome is Outcome.FAILED]
    assert kernel.symbols.same_as(plain.symbols)
    assert (kernel.physical_base, kernel.page_table_root) == (plain.physical_base, plain.page_table_root)
    assert (kernel.paging, kernel.attribute_bits) == ("4-level", bits)
    virtual = virtual_memory(kernel)
    assert virtual.mapping is not None
    places, mapped = translate(kernel.memory, virtual.mapping, virtual.root, np.array([DIRECT + 5 * MIB], np.uint64))
    assert (places.tolist(), mapped.tolist()) == ([5 * MIB], [True])


@pytest.mark.parametrize("bit", [43, 47, 51])
def test_encrypted_memory(bit: int) -> None:
    machine = Machine(mark=1 << bit)
    assert_as_without(kallsift.recover(machine.memory()), 1 << bit)
    kernel = kallsift.recover(machine.memory(cr3=machine.pgds[0] | 1 << bit))
    assert_as_without(kernel, 1 << bit)
    (cr3,) = (check for check in kernel.evidence if check.name == "CR3")
    assert cr3.outcome is Outcome.PASSED


def test_shared_pages_of_an_encrypted_machine_lack_the_bit() -> None:
    machine = Machine(mark=1 << 47)
    table = machine.root + 8 * (DIRECT >> 39 & 511)
    for _ in range(2):
        table = machine.word(table) & 0x7FFF_FFFF_F000
    machine.put(table + 8 * (6 * MIB // LARGE), 6 * MIB | KERNEL_PAGE)
    assert_as_without(kallsift.recover(machine.memory()), 1 << 47)


def test_a_bit_that_one_entry_lacks_is_none() -> None:
    """Nothing else tells that it is no part of addresses: no page table maps the image then."""
    machine = Machine(mark=1 << 47)
    machine.put(machine.root + 8 * 300, machine.take() | 0x63)
    kernel = kallsift.recover(machine.memory())
    assert not kernel.proven


def test_a_bit_below_the_end_of_memory_is_of_addresses() -> None:
    machine = Machine(mark=1 << 24)
    assert not kallsift.recover(machine.memory()).proven


@pytest.mark.parametrize("bit", [47, 51])
def test_memory_that_a_guest_shares(bit: int) -> None:
    """Intel TDX marks the pages that its host may see, and no table: a variable has the bit."""
    machine = Machine(variables={"cc_mask": 1 << bit})
    table = machine.root + 8 * (DIRECT >> 39 & 511)
    for _ in range(2):
        table = machine.word(table) & 0x7FFF_FFFF_F000
    machine.put(table + 8 * (4 * MIB // LARGE), 4 * MIB | KERNEL_PAGE | 1 << bit)
    kernel = kallsift.recover(machine.memory())
    assert kernel.proven
    assert kernel.attribute_bits == 1 << bit
    virtual = virtual_memory(kernel)
    assert virtual.physical(np.array([DIRECT + 5 * MIB], np.uint64))[0].tolist() == [5 * MIB]


@pytest.mark.parametrize("value", [0, 3 << 47, 1 << 20, 1 << 52, 1 << 63])
def test_a_variable_that_holds_no_such_bit(value: int) -> None:
    kernel = kallsift.recover(Machine(variables={"cc_mask": value}).memory())
    assert (kernel.proven, kernel.attribute_bits) == (True, 0)


def test_without_the_name_of_the_top_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kallsift.kernel.placement.page_table.ROOT_SYMBOLS", ())
    kernel = kallsift.recover(Machine(mark=1 << 51).memory())
    assert (kernel.proven, kernel.attribute_bits) == (True, 1 << 51)
    assert kernel.page_table_root == Machine().place + ROOT


def test_ram_that_is_not_at_its_addresses() -> None:
    memory = Machine(mark=1 << 47).memory().moved(0x123_4000)
    assert_as_without(kallsift.recover(memory), 1 << 47)
