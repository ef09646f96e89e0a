"""VirtualBox' cores: memory, and registers by the version of the format."""

from __future__ import annotations

import pytest

from kallsift.memory.formats import elf_core
from tests.memory.opened import open_bytes, ranges
from tests.memory.writers import virtualbox

REGISTERS = {
    "rip": 0xFFFFFFFF81000000,
    "gs_base": 0xFFFF88801F600000,
    "cr0": 0x80050033,
    "cr3": 0x1AA000,
    "cr4": 0x6F0,
    "gdt_base": 0xFFFFFE0000001000,
    "idt_base": 0xFFFFFE0000000000,
    "lstar": 0xFFFFFFFF81E00080,
    "kernel_gs_base": 0x7F0000000000,
}
PARTS = [(0, b"low" * 1000), (0x100000, b"mid" * 500), (1 << 32, b"high" * 700)]


@pytest.mark.parametrize("version", virtualbox.CPU_SIZES)
def test_memory_and_registers(version: int) -> None:
    states = [virtualbox.processor({**REGISTERS, "cr3": number << 12}, version) for number in range(1, 4)]
    memory = open_bytes(elf_core, virtualbox.core(PARTS, states, version))
    assert ranges(memory) == dict(PARTS)
    assert memory.notes == ()
    assert [cpu.registers for cpu in memory.hints.cpus] == [
        {**REGISTERS, "cr3": number << 12} for number in range(1, 4)
    ]


@pytest.mark.parametrize("version", [0x00010000, 0x00010003, 0x00010007, 0])
def test_registers_in_an_unknown_version_are_left_out(version: int) -> None:
    memory = open_bytes(elf_core, virtualbox.core(PARTS, [virtualbox.processor(REGISTERS)], version))
    assert ranges(memory) == dict(PARTS)
    assert memory.hints.cpus == ()


def test_registers_that_are_cut_short_are_left_out() -> None:
    memory = open_bytes(elf_core, virtualbox.core(PARTS, [virtualbox.processor(REGISTERS)[:543]]))
    assert memory.hints.cpus == ()


def test_memory_at_address_0_alone_is_a_machine() -> None:
    assert ranges(open_bytes(elf_core, virtualbox.core(PARTS[:1], []))) == dict(PARTS[:1])
