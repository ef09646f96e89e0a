"""From the address that system calls or exceptions enter at, and a callback that reads pages: the exact table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import kallsift
from kallsift import CpuState, Hints, Memory, OnDemandMemory
from kallsift.arch.paging import translate
from kallsift.arch.registry import MODES
from kallsift.kallsyms.evidence import CheckId
from tests.real.comparison import text_of
from tests.real.conftest import GUESTS, Taken

MOST = 32 << 20
"""Bytes of the guest that may be read."""

ENTRIES = {"x86-64": ("lstar", "entry_SYSCALL_64"), "arm64": ("vbar", "vectors")}
WITH_ENTRIES = [name for name in GUESTS if name.startswith(("amd64", "arm64"))]


def reader(memory: Memory, kernel: kallsift.Kernel) -> Callable[[int, int], bytes | None]:
    """Reads a guest's virtual memory out of a dump, as an introspection tool does it."""
    (mode,) = (mode for mode in MODES if (mode.architecture, mode.name) == (kernel.architecture, kernel.paging))

    def read(address: int, size: int) -> bytes | None:
        pages = np.arange(address, address + size, 4096, dtype=np.uint64)
        physical, mapped = translate(memory, mode, kernel.page_table_root, pages)
        if not mapped.all():
            return None
        try:
            return b"".join(memory.read(int(page), 4096).tobytes() for page in physical)
        except kallsift.UnmappedError:
            return None

    return read


@pytest.mark.parametrize("guest", WITH_ENTRIES)
def test_an_entry_point_and_pages_are_enough(taken: Taken, guest: str) -> None:
    capture = taken(guest)
    with kallsift.open(capture.dump("elf")) as memory:
        whole = kallsift.recover(memory)
        register, symbol = ENTRIES[str(whole.architecture)]
        given = Hints(cpus=(CpuState(0, {register: whole.symbols[symbol].address}),))
        fetched = OnDemandMemory(reader(memory, whole), hints=given)
        kernel = kallsift.recover_from_address(fetched)
    assert text_of(kernel) == capture.core_kallsyms()
    assert kernel.proven
    assert {check.name: check.outcome for check in kernel.evidence}[
        CheckId(register.upper())
    ] is kallsift.Outcome.PASSED
    assert fetched.bytes_read < MOST


def test_interrupt_descriptors_are_enough(taken: Taken) -> None:
    capture = taken("amd64-7.2")
    with kallsift.open(capture.dump("elf")) as memory:
        registers = {"idt_base": memory.hints.cpus[0].registers["idt_base"]}
        fetched = OnDemandMemory(reader(memory, kallsift.recover(memory)), hints=Hints(cpus=(CpuState(0, registers),)))
        kernel = kallsift.recover_from_address(fetched)
    assert text_of(kernel) == capture.core_kallsyms()
    assert {check.name: check.outcome for check in kernel.evidence}[CheckId.IDT] is kallsift.Outcome.PASSED


def test_the_recorded_entry_is_the_kernels(taken: Taken) -> None:
    """What the guest itself read from the register (see tests/lab) equals what the table calls the entry."""
    capture = taken("amd64-7.2")
    recorded = capture.manifest["lstar"]
    assert recorded
    with kallsift.open(capture.dump("elf")) as memory:
        entry = kallsift.recover(memory).symbols["entry_SYSCALL_64"].address
    assert {int(value, 16) if isinstance(value, str) else value for value in recorded} == {entry}


def test_a_wrong_entry_is_noticed(taken: Taken) -> None:
    capture = taken("amd64-7.2")
    with kallsift.open(capture.dump("elf")) as memory:
        whole = kallsift.recover(memory)
        wrong = whole.symbols["entry_SYSCALL_64"].address + 3
        fetched = OnDemandMemory(reader(memory, whole), hints=Hints(cpus=(CpuState(0, {"lstar": wrong}),)))
        kernel = kallsift.recover_from_address(fetched)
    assert not kernel.proven
    assert {check.name: check.outcome for check in kernel.evidence}[CheckId.LSTAR] is kallsift.Outcome.FAILED


@pytest.mark.parametrize("answer", [None, b"", bytes(4096)])
def test_what_cannot_be_read_ends_soon(answer: bytes | None) -> None:
    asked = 0

    def read(address: int, size: int) -> bytes | None:
        nonlocal asked
        asked += 1
        return answer

    with pytest.raises(kallsift.RecoveryError, match="no token table within 96 MiB"):
        kallsift.recover_from_address(OnDemandMemory(read), 0xFFFF_FFFF_8100_0000)
    assert asked < 1 << 17


def test_nothing_known_is_said() -> None:
    with pytest.raises(kallsift.RecoveryError, match="give --lstar, --vbar or --idt"):
        kallsift.recover_from_address(OnDemandMemory(lambda address, size: None))
