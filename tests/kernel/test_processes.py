"""Page tables of processes tell which copy of an image is the one that runs."""

from __future__ import annotations

import numpy as np
import pytest

import kallsift
from kallsift import Kernel, State
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from tests.kernel.forged_image import FORGED, forge
from tests.kernel.made_machine import (
    INIT_TASK,
    KERNEL_TABLE,
    MIB,
    ROOT,
    TASK_COMM,
    TASK_LIST,
    TASK_MM,
    Machine,
    memory_of,
)

pytestmark = pytest.mark.sampled(2)


def processes(kernel: Kernel) -> Check:
    (check,) = (check for check in kernel.evidence if check.name == CheckId.PROCESSES)
    return check


def tasks(machine: Machine) -> list[int]:
    """Physical addresses of the processes' structures behind init_task."""
    found, link = [], machine.word(machine.place + INIT_TASK + TASK_LIST)
    while link != machine.base + INIT_TASK + TASK_LIST:
        found.append(link - TASK_LIST - machine.direct)
        link = machine.word(found[-1] + TASK_LIST)
    return found


def test_processes_are_found() -> None:
    check = processes(kallsift.recover(Machine().memory()))
    assert check.outcome is Outcome.PASSED
    assert check.detail.startswith("3 page tables of 6 processes")


@pytest.mark.parametrize("registers", ["", "cr3"])
def test_a_forged_copy_is_not_the_one_that_runs(registers: str) -> None:
    machine = Machine()
    forge(machine)
    memory = machine.memory(cr3=machine.pgds[0]) if registers else machine.memory()
    kernel = kallsift.recover(memory)
    assert kernel.proven
    assert kernel.physical_base == machine.place
    running, copy = kallsift.recover_all(memory)
    assert (running.physical_base, copy.physical_base) == (machine.place, FORGED)
    assert (running.proven, copy.proven) == (True, False)
    assert copy.state is not State.RUNNING


def test_what_some_processes_contradict_is_not_proven() -> None:
    machine = Machine()
    forge(machine)
    machine.data[machine.pgds[1] + 2048 : machine.pgds[1] + 4096] = machine.data[FORGED + ROOT :][2048:4096]
    kernels = kallsift.recover_all(machine.memory())
    assert [processes(kernel).outcome for kernel in kernels] == [Outcome.FAILED] * 2
    assert not any(kernel.proven for kernel in kernels)


def test_fields_may_stand_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the fields of structures are shuffled; tasks, mm, comm and pgd."""
    for name, value in (("TASK_LIST", 0x900), ("TASK_MM", 0x120), ("TASK_ACTIVE_MM", 0x128), ("MM_PGD", 0x3E8)):
        monkeypatch.setattr(f"tests.kernel.made_machine.{name}", value)
    assert processes(kallsift.recover(Machine().memory())).outcome is Outcome.PASSED


def _no_names(machine: Machine) -> None:
    machine.data[machine.place + INIT_TASK + TASK_COMM] = 0


def _no_list(machine: Machine) -> None:
    machine.put(machine.place + INIT_TASK + TASK_LIST, 0, 0)


def _broken_list(machine: Machine) -> None:
    machine.put(tasks(machine)[2] + TASK_LIST, 0, 0)


def _no_spaces(machine: Machine) -> None:
    for task in tasks(machine):
        machine.put(task + TASK_MM, 0, 0)


def _no_tables(machine: Machine) -> None:
    for pgd in machine.pgds:
        machine.data[pgd : pgd + 4096] = 0


def _tables_without_kernel(machine: Machine) -> None:
    """They map something else where the kernel's address is: a program's, on other architectures."""
    table = machine.take(3)
    machine.put(table + 8 * (machine.base >> 30 & 511), (table + 4096) | KERNEL_TABLE)
    machine.data[table + 4096 : table + 8192] = np.full(512, 4 * MIB | 0x1E3, "<u8").view(np.uint8)
    for pgd in machine.pgds:
        machine.put(pgd + 8 * (machine.base >> 39 & 511), table | KERNEL_TABLE)


@pytest.mark.parametrize("change", [_no_names, _no_list, _broken_list, _no_spaces, _no_tables, _tables_without_kernel])
def test_what_cannot_be_asked_is_said(change: object) -> None:
    machine = Machine()
    assert callable(change)
    change(machine)
    kernel = kallsift.recover(machine.memory())
    assert processes(kernel).outcome is Outcome.ABSENT
    assert kernel.proven


@pytest.mark.parametrize("seed", range(4))
def test_damaged_processes_are_no_harm(seed: int) -> None:
    machine = Machine()
    random = np.random.default_rng(seed)
    low = tasks(machine)[0]
    machine.data[random.integers(low, machine.heap, (machine.heap - low) // 64)] ^= np.uint8(1 << seed)
    assert kallsift.recover(memory_of(machine.data)).symbols.same_as(kallsift.recover(Machine().memory()).symbols)
