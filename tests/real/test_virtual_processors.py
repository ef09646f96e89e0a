"""A 7.2 host whose memory holds a 5.10 guest, both real, and the VMCSs between them by the tests' own writer.

No genuine VMX host can be had here (QEMU emulates none): what a processor would write is made up at random places.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import kallsift
from kallsift.cli.app import run
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment
from kallsift.output.dumps.elf_core import elf_core_dump
from kallsift.output.dumps.machine_facts import memory_facts
from tests.analysis import vmcs_pages as pages
from tests.real.conftest import Taken

EXTRA = 3 << 32
"""Where the made-up pages lie."""

RAM = 512 << 20
GUEST_EXTRA = {"guest_cr0": 0x80050033, "guest_cr4": 0x3506F0, "guest_rflags": 0x246, "link": (1 << 64) - 1}
HOST_EXTRA = {"host_cr0": 0x80050033, "host_cr4": 0x3526F0}


@dataclass(frozen=True)
class Machines:
    """Host and guest: their memories, and the host's kernel."""

    host: Memory
    guest: Memory
    kernel: kallsift.Kernel
    lstar: int


@pytest.fixture(scope="module")
def machines(taken: Taken) -> Machines:
    host = kallsift.open(taken("amd64-7.2").dump("elf"))
    guest = kallsift.open(taken("amd64-5.10").dump("elf"))
    low, high = taken("amd64-5.10").truth("msr").decode().split("\n")[0].split()[2:]
    return Machines(host, guest, kallsift.recover(host), int(high + low, 16))


def fields(machines: Machines, cpu: int, pointer: int, lists: tuple[int, int]) -> dict[str, int]:
    """What a VMCS of one of the guest's processors holds."""
    host, guest = machines.host.hints.cpus[cpu].registers, machines.guest.hints.cpus[cpu].registers
    symbols = machines.kernel.symbols
    return {
        **GUEST_EXTRA,
        **HOST_EXTRA,
        "vm_entry_msr_load": lists[0],
        "vm_exit_msr_store": lists[0],
        "vm_exit_msr_load": lists[1],
        "ept_pointer": pointer,
        "guest_cr3": guest["cr3"],
        "guest_gs_base": guest["gs_base"] if "gs_base" in guest else guest["idt_base"] + 0x1000,
        "guest_tr_base": guest["idt_base"] + 0x3000,
        "guest_gdtr_base": guest["idt_base"] + 0x1000,
        "guest_idtr_base": guest["idt_base"],
        "guest_rsp": guest["rsp"],
        "guest_rip": guest["rip"],
        "guest_sysenter_eip": machines.lstar,
        "host_cr3": host["cr3"],
        "host_gs_base": host["idt_base"] + 0x2000,
        "host_tr_base": host["idt_base"] + 0x3000,
        "host_gdtr_base": host["idt_base"] + 0x1000,
        "host_idtr_base": host["idt_base"],
        "host_sysenter_eip": symbols["entry_SYSENTER_compat"].address,
        "host_rsp": host["idt_base"] + 0x2FF0,
        "host_rip": symbols["schedule"].address,
    }


def hosting(machines: Machines, revision: int, layout: dict[str, int], **changed: int) -> Memory:
    """The host's memory with the guest's in it and a VMCS for each processor of that; some fields may be changed."""
    tables, pointer = pages.ept(EXTRA, RAM)
    lists = EXTRA + len(tables), EXTRA + len(tables) + pages.PAGE
    guest_list = pages.msr_list({0xC0000081: 0x23001000000000, 0xC0000082: machines.lstar, 0xC0000084: 0x47700})
    host_list = pages.msr_list({0xC0000082: machines.kernel.symbols["entry_SYSCALL_64"].address})
    content = tables + guest_list + host_list
    content += pages.vmcs(revision, layout, {})  # as VMXON has one
    for cpu in range(len(machines.guest.hints.cpus)):
        content += pages.vmcs(revision, layout, fields(machines, cpu, pointer, lists) | changed)
    ram = [segment for segment in machines.guest.segments if segment.end <= RAM]
    segments = (
        *(segment for segment in machines.host.segments if segment.end <= pages.GUEST_AT),
        *(segment.moved(pages.GUEST_AT) for segment in ram),
        BytesSegment(EXTRA, np.frombuffer(content, np.uint8)),
    )
    return Memory("test", "raw", AddressSpace.PHYSICAL, segments)


def found(machines: Machines, memory: Memory) -> tuple[kallsift.VirtualProcessor, ...]:
    return kallsift.virtual_processors(kallsift.recover(memory))


@pytest.mark.parametrize("seed", range(4))
def test_places_nobody_knows(machines: Machines, seed: int) -> None:
    processors = found(machines, hosting(machines, 0x12 + seed, pages.places(seed)))
    assert len(processors) == len(machines.guest.hints.cpus)
    for number, processor in enumerate(processors):
        own = machines.guest.hints.cpus[number].registers
        assert processor.vmcs == EXTRA + (6 + number) * pages.PAGE
        assert processor.revision == 0x12 + seed
        assert processor.ept_pointer == EXTRA | 0x5E
        assert processor.cr3 == own["cr3"]
        assert processor.idt_base == own["idt_base"]
        assert processor.lstar == machines.lstar
        assert processor.rip is None
        assert any("entry_SYSENTER_compat" in line for line in processor.agreeing)


def test_the_layout_that_kvm_publishes(machines: Machines) -> None:
    processors = found(machines, hosting(machines, pages.KVM_REVISION, pages.KVM_OFFSETS))
    assert [processor.rip for processor in processors] == [cpu.registers["rip"] for cpu in machines.guest.hints.cpus]
    assert [processor.cr3 for processor in processors] == [cpu.registers["cr3"] for cpu in machines.guest.hints.cpus]
    assert {processor.lstar for processor in processors} == {machines.lstar}


@pytest.mark.parametrize(
    "changed",
    [
        {"host_cr3": 0x5000},
        {"host_idtr_base": 0xFFFF_FE00_0001_0000, "guest_idtr_base": 0xFFFF_FE00_0001_0000},
        {"host_rip": 0xFFFF_FFFF_0000_0001, "host_sysenter_eip": 0},
    ],
)
def test_pages_of_another_host_are_none(machines: Machines, changed: dict[str, int]) -> None:
    assert found(machines, hosting(machines, 0x12, pages.places(1), **changed)) == ()


def test_what_makes_no_sense_is_not_told(machines: Machines) -> None:
    memory = hosting(machines, 0x12, pages.places(2), guest_cr3=0x7000)
    assert {(each.cr3, each.lstar, each.idt_base) for each in found(machines, memory)} == {(None, None, None)}
    memory = hosting(machines, 0x12, pages.places(2), ept_pointer=0x1E)
    assert {(each.ept_pointer, each.cr3) for each in found(machines, memory)} == {(None, None)}
    memory = hosting(machines, 0x12, pages.places(2), vm_entry_msr_load=0, vm_exit_msr_store=0)
    assert {each.lstar for each in found(machines, memory)} == {None}


def test_pages_that_were_made_to_mislead(machines: Machines) -> None:
    memory = hosting(machines, 0x12, pages.places(3))
    own = fields(machines, 0, EXTRA | 0x5E, (EXTRA, EXTRA))
    # every field everywhere: nothing can be told, in no more time
    values = np.array(list(own.values()), np.uint64)
    content = np.random.default_rng(1).choice(values, (300, pages.PAGE // 8))
    content[:, 0] = 0x13
    more = BytesSegment(EXTRA << 1, content.view(np.uint8).reshape(-1))
    started = time.process_time()
    processors = found(machines, replace(memory, segments=(*memory.segments, more)))
    assert time.process_time() - started < 60
    assert len([each for each in processors if each.revision == 0x12]) == len(machines.guest.hints.cpus)


def test_a_host_without_guests(machines: Machines) -> None:
    assert kallsift.virtual_processors(machines.kernel) == ()


def test_the_command(machines: Machines, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    memory = hosting(machines, 0x12, pages.places(3))
    path = tmp_path / "host.elf"
    with path.open("wb") as out:
        for offset, data in elf_core_dump(memory, memory_facts(memory, None)):
            out.seek(offset)
            out.write(data)
    assert run(["guests", str(path)]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["vmcs", "revision", "ept_pointer", "cr3", "lstar", "idt_base", "rip"]
    own = machines.guest.hints.cpus[0].registers
    assert lines[1][2:] == [
        f"{EXTRA | 0x5E:#x}",
        f"{own['cr3']:#x}",
        f"{machines.lstar:#x}",
        f"{own['idt_base']:#x}",
        "-",
    ]
