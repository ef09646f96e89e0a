"""Recover kernels from any source, also from one that fetches its bytes on demand or one that changes.

A source that fetches its bytes is searched from a register's address on; one that changes is read twice if need be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from kallsift.arch import arm64, x86
from kallsift.arch.paging import PagingMode, translate
from kallsift.arch.registry import ROOT_REGISTERS
from kallsift.errors import RecoveryError, UnmappedError
from kallsift.kernel.checks.cpu_registers import KERNEL_HALF, POSITIONS
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.recovery import search as at_once
from kallsift.kernel.recovery.search import Progress
from kallsift.memory.lazy_segment import Cache, LazySegment
from kallsift.memory.memory import AddressSpace, CpuState, Hints, Memory
from kallsift.memory.on_demand import PAGE, OnDemandMemory

HIGHEST = 1 << 52
"""Physical addresses lie below this."""

LA57 = 1 << 12
"""Bit of CR4: page tables have five levels."""

OTHER_HALF = 0x1000
"""Bit of CR3 that distinguishes a process's two tables where user programs see no kernel (page-table isolation)."""


def recover(memory: Memory, *, progress: Progress | None = None) -> Kernel:
    """Recover the running kernel, from live sources as well.

    See `kallsift.kernel.recovery.search.recover`.

    Raises:
        RecoveryError: if no table could be recovered; it names the step that failed.
        TypeError: if ``memory`` is no memory, but the name of a file, say.
    """
    _require_memory(memory)
    if memory.fetched is not None:
        return _recover_fetched(memory.fetched, memory.hints, progress)
    return _looked_at(memory, lambda memory: (at_once.recover(memory, progress=progress),))[0]


def recover_all(memory: Memory, *, progress: Progress | None = None) -> tuple[Kernel, ...]:
    """Recover all kernels; of a source that fetches its bytes, the running one only.

    See `kallsift.kernel.recovery.search.recover_all`.

    Raises:
        RecoveryError: as `recover`.
    """
    _require_memory(memory)
    if memory.fetched is not None:
        return (_recover_fetched(memory.fetched, memory.hints, progress),)
    return _looked_at(memory, lambda memory: at_once.recover_all(memory, progress=progress))


def _require_memory(memory: object) -> None:
    """Reject early what was passed in place of an opened memory.

    Raises:
        TypeError: if it is no `Memory`.
    """
    if not isinstance(memory, Memory):
        raise TypeError(
            f"recover() takes a Memory, not {type(memory).__name__}: with kallsift.open(SOURCE) as memory: ..."
        )


def _looked_at(memory: Memory, look: Callable[[Memory], tuple[Kernel, ...]]) -> tuple[Kernel, ...]:
    """Return what ``look`` finds; look again at a source that changes.

    It is read a second time if no kernel proved itself.
    """
    try:
        kernels = look(memory)
        memory.check_files()
    except RecoveryError:
        memory.check_files()
        if memory.refreshed is None:
            raise
    else:
        if memory.refreshed is None or any(kernel.proven for kernel in kernels):
            return kernels
    return look(replace(memory.refreshed(), hints=memory.hints))


def _recover_fetched(fetched: OnDemandMemory, hints: Hints, progress: Progress | None) -> Kernel:
    """Recover the kernel that the processor sees.

    If the processor runs a user's program, this is the kernel that it will see when it leaves the program.
    """
    from kallsift.kernel.recovery.from_address import recover_from_address

    fetched = fetched.with_hints(hints)
    for view in (*_kernel_halves(fetched), fetched):
        try:
            return recover_from_address(view, progress=progress)
        except RecoveryError as error:
            failure = error
    message = str(failure).removeprefix(f"{failure.step}: ")
    raise RecoveryError(failure.step, "; ".join(filter(None, (message, fetched.advice))))


def _kernel_halves(fetched: OnDemandMemory) -> Iterator[OnDemandMemory]:
    """Yield the virtual memory that processors will see when they enter the kernel.

    This is for processors that run a user's program.
    """
    if fetched.physical is None:
        return
    for cpu in fetched.hints.cpus:
        for mode, root in _kernel_tables(cpu):
            half = through_tables(fetched.physical, mode, root, fetched.hints.cpus)
            # a table that is not the kernel's hardly maps these addresses
            if any(half.fetch(place, place + 1) for place in _mapped_in_kernel(cpu)):
                yield half


def _kernel_tables(cpu: CpuState) -> Iterator[tuple[PagingMode, int]]:
    """Yield the page tables that a processor may use in the kernel.

    They may map more than a stub shows. On x86-64, if a user's program has a table of its own, it lies right above the
    kernel's. On arm64 QEMU's stub shows nothing of the kernel while a program runs, although the kernel's table is in
    use.

    Yields:
        The mode of the tables, and the address of the top-level table.
    """
    root = cpu.registers.get("cr3", 0)
    if root & OTHER_HALF:
        yield x86.MODES[1 if cpu.registers.get("cr4", 0) & LA57 else 0], root & ~0x1FFF & (HIGHEST - 1)
    root = cpu.registers.get("ttbr1", 0) & ROOT_REGISTERS["ttbr1"]
    if root and cpu.registers.get("pc", 0) < KERNEL_HALF:
        yield from ((mode, root) for mode in arm64.MODES)


def _mapped_in_kernel(cpu: CpuState) -> Iterator[int]:
    """Return the addresses in registers that are mapped whenever the kernel runs."""
    values = (cpu.registers.get(name, 0) for name in (*POSITIONS, "idt_base"))
    return (value for value in values if value >= KERNEL_HALF)


def through_tables(physical: OnDemandMemory, mode: PagingMode, root: int, cpus: tuple[CpuState, ...]) -> OnDemandMemory:
    """Return virtual memory by page tables in physical memory read on demand.

    Args:
        physical: the physical memory.
        mode: the translation of addresses.
        root: physical address of the top-level table.
        cpus: the processors' registers.
    """
    pages = LazySegment(0, PAGE, HIGHEST, lambda number: physical.bytes_at(number * PAGE, PAGE).copy(), Cache(1 << 20))
    tables = Memory(physical.source, "read on request", AddressSpace.PHYSICAL, (pages,))

    def read(address: int, size: int) -> bytes | None:
        try:
            wanted = np.uint64(address) + np.arange(0, size, PAGE, dtype=np.uint64)
            places, mapped = translate(tables, mode, root, wanted)
            if not mapped.all():
                return None
            breaks = np.flatnonzero(np.diff(places) != np.uint64(PAGE)) + 1
            runs = np.split(places, breaks)
            return b"".join(physical.bytes_at(int(run[0]), len(run) * PAGE).tobytes() for run in runs)
        except UnmappedError:
            return None

    return OnDemandMemory(read, source=physical.source, hints=replace(physical.hints, cpus=cpus))
