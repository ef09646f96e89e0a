"""Recover a kernel in memory with its true addresses, where the source holds the RAM at other ones.

A source can leave out holes of RAM, lay ranges beside each other, or begin elsewhere than at the address 0. What the
kernel and its firmware say of the RAM tells where each range belongs (`kallsift.kernel.ram`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from kallsift.kallsyms.evidence import Check, CheckId
from kallsift.kallsyms.format.token_table import TokenTable
from kallsift.kernel.checks.cpu_registers import REGISTER_CHECKS
from kallsift.kernel.checks.processes import lacks_processes
from kallsift.kernel.kernel import Kernel, State
from kallsift.kernel.placement.pointers import ENOUGH_LISTS
from kallsift.kernel.recovery.candidates import SharedWork, best_at, running_at, surrounded
from kallsift.kernel.recovery.others import tables_at
from kallsift.kernel.recovery.roles import may_lack_hole, ram_end
from kallsift.memory.memory import Memory
from kallsift.memory.segments import BytesSegment

if TYPE_CHECKING:
    from kallsift.kernel.ram.layout_candidates import Arrangement


def arrangements(memory: Memory) -> tuple[Arrangement, ...]:
    """Return the ways to lay the memory out as bare RAM."""
    from kallsift.kernel.ram import layout_candidates

    return tuple(layout_candidates.arrangements(memory))


def with_all_ram(memory: Memory, kernel: Kernel) -> Kernel:
    """Return a running kernel in memory with its true addresses.

    A kernel in front of a hole that the source leaves out is mapped where it lies, but the memory behind the hole is
    not.
    """
    if kernel.memory is not memory or not kernel.proven or not may_lack_hole(kernel):
        return kernel
    table = next((table for table in kernel.tables if table.name == "token_table"), None)
    ways = [way for way in arrangements(memory) if way.is_from_memory] if table is not None else []
    for near, tokens in tables_at(memory, table.physical) if ways and table is not None else ():
        if found := laid_out(ways, near, tokens, SharedWork()):
            return found
    if not (end := ram_end(kernel)):
        return kernel
    detail = f"this kernel's RAM ends at {end:#x}, the source at {memory.segments[-1].end:#x}: memory after a hole"
    doubt = Check.that(CheckId.RAM, False, f"{detail} is missing, or at wrong addresses", essential=False)
    return replace(kernel, evidence=(*kernel.evidence, doubt))


def laid_out(ways: Iterable[Arrangement], near: BytesSegment, tokens: TokenTable, shared: SharedWork) -> Kernel | None:
    """Return the kernel in the first layout of RAM in which it is proven, or None."""
    for arrangement in ways:
        place = near.start + tokens.offset
        there = BytesSegment(near.start + arrangement.address(place) - place, near.data)
        segment, moved_tokens = surrounded(arrangement.memory, there, tokens)
        found = running_at(arrangement.memory, segment, moved_tokens, shared)
        if found is not None and found.proven and found.lists >= ENOUGH_LISTS and arrangement.named_by(found):
            return replace(found, evidence=(*found.evidence, arrangement.check))
    return None


def at_physical_offset(
    memory: Memory, segment: BytesSegment, tokens: TokenTable, kernel: Kernel, hosted: bool, shared: SharedWork
) -> Kernel | None:
    """Return a kernel in memory with its true addresses, or None.

    In the source no page table maps it where it lies. It must have many lists: a few close within a copy of a kernel's
    image and the memory beside it.

    Args:
        memory: the source.
        segment: the memory in which the kernel was found.
        tokens: its token table.
        kernel: the kernel as recovered without a displacement.
        hosted: whether another kernel runs without a displacement: then this one is its guest.
        shared: work on the bytes around the token table that was done before.
    """
    from kallsift.kernel.ram.physical_offset import displacements
    from kallsift.kernel.recovery.hosts import host_check

    for displacement in displacements(memory, kernel):
        shift = _shift(memory, displacement)
        memory_there = memory.moved(shift)
        if hosted:
            # the container's hints on the machine are about the host
            memory_there = replace(memory_there, hints=replace(memory.hints, cpus=(), vmcoreinfo=None))
        there = BytesSegment(segment.start + shift, segment.data)
        found = best_at(memory_there, there, tokens, None, shared)
        if found is None or found.lists < ENOUGH_LISTS or (hosted and lacks_processes(found)):
            continue
        detail = f"the source has this machine's memory at an offset of {-shift:+#x} from the physical addresses"
        check = Check.that(CheckId.DISPLACEMENT, True, detail)
        if hosted:
            evidence = tuple(each for each in found.evidence if each.name not in REGISTER_CHECKS)
            return replace(found, state=State.GUEST, evidence=(*evidence, check))
        contrary = host_check(memory, found, -shift)
        state = found.state if contrary is None else State.GUEST
        return replace(found, state=state, evidence=(*found.evidence, check, *filter(None, (contrary,))))
    return None


def _shift(memory: Memory, displacement: int) -> int:
    """Return the number to add to a displaced memory's addresses.

    Of the numbers equal modulo 2^64, it is the one that keeps the memory's end within the address space.
    """
    up = -displacement % (1 << 64)
    return up if memory.segments[-1].end + up <= 1 << 64 else up - (1 << 64)
