"""Machines in whose memory two kernels are that both ran: the boot before a reset, and the kernel before a panic."""

from __future__ import annotations

import re

import pytest

import kallsift
from kallsift import Kernel, State
from kallsift.kernel.kernel import Role
from tests.real.conftest import Taken
from tests.real.dynamic_table import printed

REBOOTED, CRASHED = "amd64-7.2-rebooted", "amd64-7.2-crashed"


def table(kernel: Kernel) -> list[tuple[str, int]]:
    """Names and addresses of a kernel's own symbols."""
    return [(symbol.name, symbol.address) for symbol in kernel.symbols]


@pytest.mark.parametrize("container", ["elf", "raw"])
@pytest.mark.parametrize("guest", [REBOOTED, CRASHED])
def test_the_one_that_runs_is_printed(taken: Taken, guest: str, container: str) -> None:
    capture = taken(guest)
    with kallsift.open(capture.dump(container)) as memory:
        assert kallsift.recover(memory).proven
        assert printed(memory) == (capture.truth("kallsyms"), ())


@pytest.mark.parametrize("container", ["elf", "raw"])
def test_the_boot_before_is_a_stale_copy_at_its_own_addresses(taken: Taken, container: str) -> None:
    capture = taken(REBOOTED)
    before = re.search(rb"LAB-RESET ([0-9a-f]{16}) T _text", (capture.folder / "console.log").read_bytes())
    assert before is not None
    with kallsift.open(capture.dump(container)) as memory:
        running, *others = kallsift.recover_all(memory)
        assert (running.proven, [kernel for kernel in others if kernel.proven]) == (True, [])
        # where KASLR and the second boot's processes were put decides how much of it is left
        whole = [kernel for kernel in others if len(kernel.symbols) == len(running.symbols) and not kernel.damage]
        if not whole:
            pytest.skip("the second boot has overwritten the first one's tables")
        for stale in whole:
            assert stale.state is State.STALE
            assert stale.virtual_base == int(before[1], 16)
            assert running.virtual_base is not None
            slide = stale.virtual_base - running.virtual_base
            assert table(stale) == [(name, address + slide) for name, address in table(running)]


@pytest.mark.parametrize("container", ["elf", "raw"])
def test_the_capture_kernel_runs_at_the_addresses_of_the_one_that_panicked(taken: Taken, container: str) -> None:
    capture = taken(CRASHED)
    with kallsift.open(capture.dump(container)) as memory:
        running, panicked = kallsift.recover_all(memory)
        assert (running.role, running.proven) == (Role.CAPTURE, True)
        assert (panicked.role, panicked.state, panicked.proven) == (Role.PANICKED, State.PANICKED, False)
        assert running.virtual_base == panicked.virtual_base
        assert running.physical_base != panicked.physical_base
        lines = capture.truth("first-kallsyms").decode().split("\n")
        truth = [(line.split(" ", 2)[2], int(line.split(" ")[0], 16)) for line in lines if line and "\t[" not in line]
        assert table(panicked) == truth
        assert kallsift.recover(memory).others == (State.PANICKED,)
