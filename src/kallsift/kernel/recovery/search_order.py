"""Choose the parts of physical memory to search first, where a kernel probably lies.

The source's hints on the machine, and digits in packed data, tell these parts. They prove nothing, and what is found
elsewhere counts as much. But a dump whose blocks have to be decoded need not be decoded as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

import numpy as np

from kallsift.arch import x86
from kallsift.arch.encryption import with_encryption, without_encryption
from kallsift.arch.paging import translate
from kallsift.arch.registry import MODES, ROOT_REGISTERS
from kallsift.kallsyms.token_scan import packed_runs
from kallsift.kernel.checks.cpu_registers import KERNEL_HALF, POSITIONS, ROOTS
from kallsift.kernel.checks.vmcoreinfo import parse
from kallsift.kernel.placement.pointers import AFTER, BEFORE
from kallsift.memory.memory import AddressSpace, CpuState, Memory

OTHER_TABLE = 0x1000
"""Bit of CR3 that distinguishes a program's table from the kernel's, with page-table isolation."""

X86_64_TEXT = 0xFFFF_FFFF_8000_0000
"""Virtual address of physical address 0 in an x86-64 image that was not moved (__START_KERNEL_map)."""

WORD = (1 << 64) - 1

MOST_PROCESSORS = 8
"""Highest number of processors whose registers are used."""

MOST_PACKED = 1 << 10
"""Highest number of places in packed data that are followed."""


def priority_ranges(memory: Memory) -> Iterator[tuple[int, int]]:
    """Yield address ranges of physical memory around the kernel's text or tables.

    The ranges are guesses.
    """
    if memory.space is not AddressSpace.PHYSICAL or memory.image is not None:
        return
    places = [*processor_places(memory), *_of_vmcoreinfo(memory.hints.vmcoreinfo)]
    yield from ((place - BEFORE, place + AFTER) for place in dict.fromkeys(places))
    yield from islice(packed_runs(memory), MOST_PACKED)


def processor_places(memory: Memory) -> tuple[int, ...]:
    """Return the physical addresses of the code that processors' registers point at.

    They are translated by the page tables that the processors use.
    """
    return tuple(place for cpu in memory.hints.cpus[:MOST_PROCESSORS] for place in _of_processor(memory, cpu))


def _of_processor(memory: Memory, cpu: CpuState) -> Iterator[int]:
    """Yield the physical addresses of code that one processor's registers point at."""
    addresses = [value for name in POSITIONS if (value := cpu.registers.get(name, 0)) >= KERNEL_HALF]
    base = cpu.registers.get("idt_base", 0)
    for register, architectures in ROOTS.items():
        value = cpu.registers.get(register, 0) & ROOT_REGISTERS[register]
        for mode in MODES if value else ():
            if mode.architecture not in architectures or mode.word_size != 8:
                continue
            end = memory.segments[-1].end if memory.segments else 0
            plain = without_encryption(value, end)
            for root in dict.fromkeys((plain, plain & ~OTHER_TABLE)):
                mode = with_encryption(memory, end, mode, root)
                wanted = np.array([*addresses, base, base + 8 & WORD], np.uint64)
                physical, mapped = translate(memory, mode, root, wanted)
                yield from physical[:-2][mapped[:-2]].tolist()
                gate, held = memory.words(physical[-2:], np.dtype("<u8"))
                if base >= KERNEL_HALF and (held & mapped[-2:]).all():
                    handler, there = translate(memory, mode, root, x86.handlers(gate.view(np.uint8), 8))
                    yield from handler[there].tolist()


def _of_vmcoreinfo(text: bytes | None) -> Iterator[int]:
    """Yield the physical address of x86-64's text."""
    info = parse(text, "note") if text else None
    start = info.symbol("_stext") if info else None
    moved = info.values.get("NUMBER(phys_base)", "") if info else ""
    if start is not None and re.fullmatch("-?[0-9]{1,19}", moved):
        yield start - X86_64_TEXT + int(moved)
