"""Sources that live: read once more where they changed, through the kernel's tables where a program's are in use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import kallsift
from kallsift.arch import x86
from kallsift.errors import RecoveryError, Step, UnmappedError
from kallsift.kallsyms.evidence import CheckId
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.recovery import from_address
from kallsift.kernel.recovery import recover as live
from kallsift.kernel.recovery import search as at_once
from kallsift.memory.memory import AddressSpace, CpuState, Hints, Memory
from kallsift.memory.on_demand import PAGE, OnDemandMemory
from kallsift.memory.segments import BytesSegment
from tests.arch.pages import LAYOUTS, Tables
from tests.output.sample import kernel

HERE, FAR = 0xFFFF_FFFF_8100_0000, 0xFFFF_FFFF_8110_0000
IDT = 0xFFFF_FE00_0000_0000
LAYOUT = next(layout for layout in LAYOUTS if str(layout) == "x86-64 4-level")
SYMBOLS = [(HERE, "T", "_text")]


@pytest.fixture
def machine() -> tuple[Memory, int]:
    """Physical memory in which the kernel's table maps pages here and there, and the table's address."""
    tables = Tables(LAYOUT)
    for virtual, physical in ((HERE, 0x1000), (HERE + PAGE, 0x5000), (FAR, 0x2000), (IDT, 0x3000)):
        tables.map(virtual, physical, 3)
    pages = [BytesSegment(number << 12, np.full(PAGE, number, np.uint8)) for number in (1, 2, 3, 5)]
    held = sorted((*pages, *tables.memory().segments), key=lambda segment: segment.start)
    return Memory("test", "test", AddressSpace.PHYSICAL, tuple(held)), tables.root


def fetched_of(memory: Memory, space: AddressSpace) -> OnDemandMemory:
    def read(address: int, size: int) -> bytes | None:
        try:
            return memory.read(address, size).tobytes()
        except UnmappedError:
            return None

    return OnDemandMemory(read, space=space)


def test_memory_through_tables_that_somebody_else_reads(machine: tuple[Memory, int]) -> None:
    memory, root = machine
    physical = fetched_of(memory, AddressSpace.PHYSICAL)
    view = live.through_tables(physical, x86.MODES[0], root, ())
    assert view.bytes_at(HERE + 4090, 12).tobytes() == b"\1" * 6 + b"\5" * 6
    with pytest.raises(UnmappedError):
        view.bytes_at(HERE + 2 * PAGE, 1)
    assert physical.bytes_read == view.bytes_read + 4 * PAGE  # a table of each level, once


@pytest.mark.parametrize(("bit", "views"), [(0x1000, 2), (0, 1)])
def test_a_program_with_tables_of_its_own(
    machine: tuple[Memory, int], monkeypatch: pytest.MonkeyPatch, bit: int, views: int
) -> None:
    memory, root = machine
    tried: list[OnDemandMemory] = []

    def recover_from_address(fetched: OnDemandMemory, **_: object) -> Kernel:
        tried.append(fetched)
        raise RecoveryError(Step.TOKEN_TABLE, "none")

    monkeypatch.setattr(from_address, "recover_from_address", recover_from_address)
    physical = fetched_of(memory, AddressSpace.PHYSICAL)
    own = OnDemandMemory(lambda address, size: None, physical=physical, advice="try this")
    cpus = (CpuState(0, {"rip": 0x401000, "cr3": root | bit, "idt_base": IDT}),)
    source = Memory("test", "test", AddressSpace.VIRTUAL, (), Hints(cpus), fetched=own)
    with pytest.raises(RecoveryError, match=r"^token table: none; try this$"):
        live.recover(source)
    assert len(tried) == views
    assert (tried[-1].advice, tried[-1].hints, own.hints) == (own.advice, Hints(cpus), Hints())
    assert all(view.hints.cpus == cpus for view in tried)


def test_a_program_of_arm64(monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU shows it nothing of the kernel, although the kernel's table is in use."""
    tables = Tables(next(layout for layout in LAYOUTS if str(layout) == "arm64 16 KiB pages, 47-bit"))
    vectors = 0xFFFF_C000_8001_0000
    tables.map(vectors, 0x4000, 2)
    page = BytesSegment(0x4000, np.full(4 * PAGE, 7, np.uint8))
    memory = Memory("test", "test", AddressSpace.PHYSICAL, (page, *tables.memory().segments))
    seen: list[bytes] = []

    def recover_from_address(fetched: OnDemandMemory, **_: object) -> Kernel:
        seen.append(fetched.bytes_at(vectors + 8, 2).tobytes())
        return kernel(SYMBOLS)

    monkeypatch.setattr(from_address, "recover_from_address", recover_from_address)
    own = OnDemandMemory(lambda address, size: None, physical=fetched_of(memory, AddressSpace.PHYSICAL))
    cpus = (CpuState(0, {"pc": 0x401000, "ttbr1": tables.root | 0xDB << 48 | 1, "vbar": vectors}),)
    live.recover(Memory("test", "test", AddressSpace.VIRTUAL, (), Hints(cpus), fetched=own))
    assert seen == [b"\7\7"]


def test_a_bit_that_means_nothing_is_not_followed(machine: tuple[Memory, int], monkeypatch: pytest.MonkeyPatch) -> None:
    memory, root = machine
    tried: list[OnDemandMemory] = []

    def recover_from_address(fetched: OnDemandMemory, **_: object) -> Kernel:
        tried.append(fetched)
        return kernel(SYMBOLS)

    monkeypatch.setattr(from_address, "recover_from_address", recover_from_address)
    own = OnDemandMemory(lambda address, size: None, physical=fetched_of(memory, AddressSpace.PHYSICAL))
    cpus = (CpuState(0, {"rip": HERE, "cr3": root + 0x5000, "idt_base": IDT}),)
    live.recover_all(Memory("test", "test", AddressSpace.VIRTUAL, (), Hints(cpus), fetched=own))
    assert [each.physical for each in tried] == [own.physical]
    assert own.hints == Hints()


def test_what_the_user_knows_reaches_a_source_that_fetches(monkeypatch: pytest.MonkeyPatch) -> None:
    own = OnDemandMemory(lambda address, size: None)
    tried: list[OnDemandMemory] = []

    def recover_from_address(fetched: OnDemandMemory, **_: object) -> Kernel:
        tried.append(fetched)
        return kernel(SYMBOLS)

    monkeypatch.setattr(from_address, "recover_from_address", recover_from_address)
    source = Memory("test", "test", AddressSpace.VIRTUAL, (), fetched=own)
    live.recover(source.with_hints(Hints((CpuState(0, {"lstar": HERE}),))))
    assert tried[0].hints.cpus[0].registers["lstar"] == HERE
    assert own.hints == Hints()


@pytest.mark.parametrize("first", ["nothing", "doubt"])
def test_a_source_that_changes_is_read_once_more(monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    whole = kernel(SYMBOLS)
    doubtful = replace(whole, evidence=(*whole.evidence, kallsift.Check.that(CheckId.CR3, False, "changed meanwhile")))
    assert whole.proven
    assert not doubtful.proven
    seen: list[Memory] = []

    def recover(memory: Memory, **_: object) -> Kernel:
        seen.append(memory)
        if len(seen) > 1:
            return whole
        if first == "nothing":
            raise RecoveryError(Step.NAMES, "changed meanwhile")
        return doubtful

    monkeypatch.setattr(at_once, "recover", recover)
    again = Memory("test", "test", AddressSpace.PHYSICAL, ())
    hints = Hints((CpuState(0, {"cr3": 1}),))
    assert live.recover(replace(again, refreshed=lambda: again, hints=hints)) is whole
    assert [memory.hints for memory in seen] == [hints, hints]


def test_what_stands_still_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    def recover(memory: Memory, **_: object) -> Kernel:
        nonlocal count
        count += 1
        raise RecoveryError(Step.NAMES, "none")

    monkeypatch.setattr(at_once, "recover", recover)
    with pytest.raises(RecoveryError):
        live.recover(Memory("test", "test", AddressSpace.PHYSICAL, ()))
    assert count == 1


def test_a_found_kernels_memory_reads_on(machine: tuple[Memory, int], monkeypatch: pytest.MonkeyPatch) -> None:
    memory, root = machine
    view = live.through_tables(fetched_of(memory, AddressSpace.PHYSICAL), x86.MODES[0], root, ())
    found = replace(kernel(SYMBOLS), memory=view.snapshot())
    monkeypatch.setattr(from_address, "_recover_from", lambda *_: found)
    reading = from_address.recover_from_address(view, HERE).memory
    assert reading.read(FAR + 1, 2).tobytes() == b"\2\2"
    wanted = np.array([HERE + 4092, HERE + 4096, HERE + 2 * PAGE, FAR, (1 << 64) - 4], np.uint64)
    values, held = reading.words(wanted, np.dtype("<u8"))
    assert held.tolist() == [True, True, False, True, False]
    assert values[[0, 1, 3]].tolist() == [0x0505050501010101, 0x0505050505050505, 0x0202020202020202]
    with pytest.raises(UnmappedError):
        reading.read(FAR + 4090, 10)


def test_all_hints_of_a_source_share_what_was_read() -> None:
    own = OnDemandMemory(lambda address, size: bytes(size))
    other = own.with_hints(Hints((CpuState(0, {"lstar": HERE}),)))
    other.bytes_at(HERE, 8)
    assert own.bytes_at(HERE, 8).tobytes() == bytes(8)
    assert own.bytes_read == other.bytes_read == PAGE
