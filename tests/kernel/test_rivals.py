"""Several kernels in one memory that seem to run: which one does, and what is said of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

import kallsift
from kallsift import Kernel, Outcome, State
from kallsift.cli.options.source import remarks
from kallsift.kernel.kernel import Role
from kallsift.kernel.recovery import others
from kallsift.kernel.recovery.rivals import settled
from kallsift.memory.memory import CpuState, Hints
from tests.kernel.forged_image import FORGED, forge
from tests.kernel.made_machine import DATA, IMAGE_SIZE, LARGE, LISTS, MIB, ROOT, Machine, memory_of

CRASH_MEMORY = (64 * MIB, 128 * MIB)
NONE_YET = (1 << 64) - 1


def without_processes(machine: Machine) -> Machine:
    """Nothing tells which copy of an image the processes run in, as on most architectures but x86."""
    for pgd in machine.pgds:
        machine.data[pgd : pgd + 4096] = 0
    return machine


def only_kernel(kernel: Kernel) -> Sequence[Outcome]:
    return [check.outcome for check in kernel.evidence if check.name == "only kernel"]


def test_where_nothing_tells_neither_is_proven() -> None:
    machine = without_processes(Machine())
    forge(machine)
    kernels = kallsift.recover_all(machine.memory())
    assert [kernel.physical_base for kernel in kernels] == [FORGED, machine.place]
    assert [(kernel.state, kernel.proven) for kernel in kernels] == [(State.RUNNING, False)] * 2
    assert [only_kernel(kernel) for kernel in kernels] == [[Outcome.FAILED]] * 2
    one = kallsift.recover(machine.memory())
    assert (one.proven, one.others) == (False, (State.RUNNING,))
    assert list(remarks((one,))) == ["1 more kernel is in this source: running (kallsift info --all)"]


def test_what_processors_say_decides() -> None:
    machine = without_processes(Machine())
    forge(machine)
    kernel = kallsift.recover(machine.memory(cr3=machine.root))
    assert (kernel.proven, kernel.physical_base) == (True, machine.place)


def test_lists_that_memory_was_taken_from_tell_the_one_that_ran_before() -> None:
    machine = without_processes(Machine())
    forge(machine)
    for number in range(70):
        head = FORGED + LISTS + 48 * number
        machine.put(head, *[machine.direct + 0x70_0000 + 64 * number] * 2)
    running, ended = kallsift.recover_all(machine.memory())
    assert (running.physical_base, running.proven) == (machine.place, True)
    assert (ended.proven, ended.state, only_kernel(ended)) == (False, State.STALE, [Outcome.FAILED])
    assert kallsift.recover(machine.memory()).physical_base == machine.place


def test_a_copy_of_the_image_is_counted() -> None:
    """A boot before, say; it lies where a loader could have put it, and is not looked at."""
    machine = Machine()
    copy = machine.place + 2 * LARGE
    machine.data[copy : copy + IMAGE_SIZE] = machine.data[machine.place : machine.place + IMAGE_SIZE]
    machine.data[copy + DATA : copy + DATA + 4096] = 0
    kernel = kallsift.recover(machine.memory())
    assert (kernel.proven, kernel.physical_base, kernel.others) == (True, machine.place, (None,))
    assert list(remarks((kernel,))) == ["1 more kernel is in this source (kallsift info --all)"]
    assert len(kallsift.recover_all(machine.memory())) == 2


def test_a_copy_that_was_met_before_is_not_recovered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = without_processes(Machine())
    machine.data[FORGED : FORGED + IMAGE_SIZE] = machine.data[machine.place : machine.place + IMAGE_SIZE]
    machine.data[FORGED + DATA : FORGED + DATA + 4096] = 0
    expected = kallsift.recover(machine.memory())
    assert (expected.physical_base, expected.others) == (machine.place, (State.STALE,))
    asked: list[int] = []
    monkeypatch.setattr(others, "best_at", lambda memory, segment, *rest: asked.append(segment.start))
    kernel = kallsift.recover(machine.memory())
    assert (kernel.physical_base, kernel.others, kernel.evidence) == (machine.place, (State.STALE,), expected.evidence)
    assert not asked


def crashed(*, capture: bool = True, address: int = 0x7F00_0000, low: bool = False) -> Machine:
    """A kernel that panicked, with memory for its capture kernel; and that, unless it did not come so far."""
    kept = CRASH_MEMORY
    named = {
        "crashk_res": kept[0],
        "crashk_res_last": kept[1] - 1,
        "elfcorehdr_addr": NONE_YET,
        "panic_cpu": 1 << 32 | 0 if capture else 0,
    }
    first = Machine(size=192 * MIB, place=(132 if low else 6) * MIB, heap=16 * MIB, variables=named)
    if capture:
        second = Machine(
            size=192 * MIB,
            place=66 * MIB,
            heap=80 * MIB,
            base=0xFFFF_FFFF_8A00_0000,
            variables={"elfcorehdr_addr": address, "panic_cpu": 0xFFFF_FFFF, "crashk_res": 0, "other": 0},
        )
        first.data[slice(*kept)] = second.data[slice(*kept)]
        first.pgds = second.pgds
    return first


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_a_kernel_that_panicked_and_its_capture_kernel(given: bool, low: bool) -> None:
    machine = crashed(low=low)
    memory = machine.memory(cr3=machine.pgds[0]) if given else machine.memory()
    kernels = kallsift.recover_all(memory)
    expected = [(66 * MIB, State.RUNNING, Role.CAPTURE, True), (machine.place, State.PANICKED, Role.PANICKED, False)]
    assert [(k.physical_base, k.state, k.role, k.proven) for k in kernels] == expected
    kernel = kallsift.recover(memory)
    assert (kernel.physical_base, kernel.role, kernel.proven) == (66 * MIB, Role.CAPTURE, True)


def noted(kernel: Kernel) -> bytes:
    """A note of VMCOREINFO that a kernel wrote."""
    first = kernel.symbols.symbol(0)
    return f"OSRELEASE=5\nPAGESIZE=4096\nSYMBOL({first.name})={first.address:x}\n".encode()


def test_a_note_of_the_one_that_panicked_says_nothing_of_its_capture_kernel() -> None:
    """A hypervisor keeps the note of the first kernel; a processor that the second does not use keeps its registers."""
    machine = crashed()
    panicked = next(kernel for kernel in kallsift.recover_all(machine.memory()) if kernel.role is Role.PANICKED)
    hints = Hints(
        vmcoreinfo=noted(panicked),
        cpus=tuple(CpuState(i, {"cr3": root}) for i, root in enumerate((machine.root, machine.pgds[0]))),
    )
    memory = replace(machine.memory(), hints=hints)
    kernel = kallsift.recover(memory)
    assert (kernel.physical_base, kernel.role, kernel.proven) == (66 * MIB, Role.CAPTURE, True)
    assert [check.outcome for check in kernel.evidence if check.name == "VMCOREINFO"] == [Outcome.ABSENT]
    assert [each.proven for each in kallsift.recover_all(memory)] == [True, False]


def test_beside_a_capture_kernel_that_is_not_proven_the_one_that_panicked_does_not_run() -> None:
    """The note is of neither."""
    memory = replace(crashed().memory(), hints=Hints(vmcoreinfo=b"OSRELEASE=5\nPAGESIZE=4096\nSYMBOL(_text)=1\n"))
    kernels = kallsift.recover_all(memory)
    assert [(kernel.role, kernel.proven) for kernel in kernels] == [(Role.CAPTURE, False), (Role.PANICKED, False)]
    assert kernels[1].state is State.PANICKED


def test_both_are_named_without_asking_for_all() -> None:
    kernel = kallsift.recover(crashed().memory())
    assert list(remarks((kernel,))) == [
        "this is the capture kernel (kdump) of a kernel that panicked",
        "1 more kernel is in this source: panicked (kallsift info --all)",
    ]


def test_a_kernel_that_panicked_alone_is_the_machines() -> None:
    """As in a vmcore that a capture kernel saved, which leaves itself out."""
    kernel = kallsift.recover(crashed(capture=False).memory())
    assert (kernel.state, kernel.role, kernel.proven) == (State.RUNNING, Role.PANICKED, True)
    assert list(remarks((kernel,))) == ["this kernel panicked, and no other running kernel was found"]


def test_what_has_ended_counts_for_nothing_beside_what_runs() -> None:
    machine = Machine(variables={"kexec_in_progress": 1})
    replaced = kallsift.recover(machine.memory())
    assert (replaced.proven, replaced.role) == (True, Role.REPLACED)
    running = kallsift.recover(Machine(base=0xFFFF_FFFF_8A00_0000, place=10 * MIB).memory())
    assert [kernel.proven for kernel in settled([replaced, running])] == [False, True]
    assert settled([running]) == [running]


def test_kernels_that_are_alike_are_not_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contrived: a token table on each page."""
    machine = without_processes(Machine())
    table = next(table for table in kallsift.recover(machine.memory()).tables if table.name == "token_table")
    data = np.array(machine.data)
    for page in range(0x1C0_0000, 0x1E0_0000, 4096):
        data[page + table.physical % 4096 :][: table.size] = machine.data[table.physical :][: table.size]
    kernel = kallsift.recover(memory_of(data))
    assert kernel.proven
    assert len(kernel.others) == 16


def test_root_is_in_the_image() -> None:
    assert kallsift.recover(Machine().memory()).page_table_root == Machine().place + ROOT


def test_a_copy_where_all_memory_is_mapped_as_the_image_is() -> None:
    """As on 32-bit processors: the page table maps the copy too, and its tables lead to the image that runs."""
    linear = 0xFFFF_FFFF_8000_0000
    place, copy = 40 * MIB, 4 * MIB
    machine = Machine(size=64 * MIB, place=place, base=linear + place, direct=linear, era="6.2-x86")
    machine.data[copy : copy + IMAGE_SIZE] = machine.data[machine.place : machine.place + IMAGE_SIZE]
    running, stale = kallsift.recover_all(machine.memory())
    assert (running.physical_base, running.state, running.proven) == (machine.place, State.RUNNING, True)
    assert (stale.physical_base, stale.state, stale.proven) == (copy, State.STALE, False)
    one = kallsift.recover(machine.memory())
    assert (one.proven, one.physical_base, one.tables) == (True, machine.place, running.tables)
