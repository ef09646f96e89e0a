"""A guest is not its host, even where the host's own table is lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import kallsift
from kallsift import Outcome, State
from kallsift.memory.segments import BytesSegment
from tests.kernel.made_machine import BANNER, MIB, TABLES, Machine, memory_of

GUEST_AT = 40 * MIB
"""Where the guest's RAM lies in its host's."""


def host_and_guest(*, lost: bool = True) -> tuple[Machine, Machine]:
    """A host whose token table is lost, with a guest's RAM in one piece inside."""
    host = Machine(
        size=80 * MIB, base=0xFFFF_FFFF_9200_0000, heap=18 * MIB, seed=2, variables={"max_pfn": 80 * MIB >> 12}
    )
    guest = Machine(release="6.1.0-guest", variables={"max_pfn": 32 * MIB >> 12})
    host.data[GUEST_AT : GUEST_AT + guest.size] = guest.data
    if lost:
        token_table = next(
            table for table in kallsift.recover(memory_of(host.data)).tables if table.name == "token_table"
        )
        assert token_table.physical > host.place + TABLES
        host.data[token_table.physical // 4096 * 4096 :][: 2 * 4096] = 0
    return host, guest


def registers_of(host: Machine, which: str) -> dict[str, int]:
    found = {"cr3": host.pgds[0], "lstar": host.symbols[100].address}
    return {name: value for name, value in found.items() if name in which.split()}


@pytest.mark.slow
@pytest.mark.parametrize("given", ["", "cr3", "lstar", "cr3 lstar"])
def test_the_guest_of_a_host_whose_table_is_lost(given: str) -> None:
    host, guest = host_and_guest()
    kernels = kallsift.recover_all(memory_of(host.data, **registers_of(host, given)))
    (found,) = (kernel for kernel in kernels if kernel.banner and "6.1.0-guest" in kernel.banner)
    assert not found.proven
    assert found.state is State.GUEST
    assert [check.outcome for check in found.evidence if check.name == "machine"] == [Outcome.FAILED]
    if "cr3" in given:
        (cr3,) = (check for check in found.evidence if check.name == "CR3")
        assert cr3.outcome is Outcome.FAILED
    assert found.symbols.same_as(kallsift.recover(guest.memory()).symbols)
    assert not kallsift.recover(memory_of(host.data, **registers_of(host, given))).proven


def test_without_the_hosts_banner_its_registers_tell() -> None:
    host, _ = host_and_guest()
    host.data[host.place + BANNER : host.place + BANNER + 64] = 0
    kernel = kallsift.recover(memory_of(host.data, **registers_of(host, "cr3")))
    assert (kernel.proven, kernel.state) == (False, State.GUEST)


def test_the_host_comes_first_where_it_is_whole() -> None:
    host, _ = host_and_guest(lost=False)
    kernels = kallsift.recover_all(memory_of(host.data, **registers_of(host, "cr3 lstar")))
    assert [(kernel.state, kernel.proven) for kernel in kernels] == [(State.RUNNING, True), (State.GUEST, False)]
    assert not any(check.name in ("CR3", "LSTAR", "machine") for check in kernels[1].evidence)


@pytest.mark.parametrize("given", ["", "cr3 lstar"])
def test_a_machine_that_is_not_at_its_addresses_is_no_guest(given: str) -> None:
    machine = Machine(variables={"max_pfn": 32 * MIB >> 12})
    data = np.concatenate((np.full(4 * MIB, 7, np.uint8), machine.data))
    kernel = kallsift.recover(memory_of(data, **registers_of(machine, given)))
    assert (kernel.proven, kernel.state) == (True, State.RUNNING)


def test_another_kernels_banner_in_its_own_ram_is_a_file() -> None:
    machine = Machine(variables={"max_pfn": 32 * MIB >> 12})
    banner = b"Linux version 5.4.0 (somebody@somewhere) #1 SMP\n\0"
    machine.data[30 * MIB : 30 * MIB + len(banner)] = np.frombuffer(banner, np.uint8)
    assert kallsift.recover(machine.memory().moved(0x123_4000)).proven


def test_a_wrong_register_makes_no_guest() -> None:
    kernel = kallsift.recover(
        Machine().memory().moved(0x123_4000).with_hints(memory_of(np.zeros(8, np.uint8), cr3=0x5000).hints)
    )
    assert (kernel.proven, kernel.state) == (False, State.RUNNING)


@pytest.mark.parametrize("address", [1 << 40, (1 << 64) - (64 << 20)])
def test_memory_that_ends_with_all_addresses_is_displaced_as_any(address: int) -> None:
    machine = Machine()
    data = machine.data
    start = min(address, (1 << 64) - len(data))
    memory = replace(memory_of(data), segments=(BytesSegment(start, data),))
    kernel = kallsift.recover(memory)
    assert kernel.proven
    assert kernel.symbols.same_as(kallsift.recover(machine.memory()).symbols)
    (check,) = (check for check in kernel.evidence if check.name == "displacement")
    assert f"{start:+#x}" in check.detail
