"""Recover a kernel from an address in its text, with few reads, where reading memory is expensive.

The search goes from the address that a processor's register gives upwards to the token table, and then as far around
the token table as the other tables need. Besides that only landmarks are read, so a debugger or an introspection tool
has to read some megabytes only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from kallsift.arch import x86
from kallsift.errors import KallsiftError, RecoveryError, Step, UnmappedError
from kallsift.kallsyms.format.token_table import INDEX_SIZE, MAX_TABLE, token_tables
from kallsift.kallsyms.token_scan import DIGITS, digit_runs
from kallsift.kernel.checks.cpu_registers import KERNEL_HALF, MOST_GATES, POSITIONS
from kallsift.kernel.checks.landmarks import MAX_BANNER
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.recovery.search import Progress, recover
from kallsift.memory.on_demand import PAGE, OnDemandMemory

STEP = 1 << 20
"""Bytes of one step of the search."""

FARTHEST = 96 << 20
"""Highest distance in bytes of the token table from the given address; the kernel's text has some tens of MiB."""

WIDEST_GAP = 32 << 20
"""Bytes without a mapped page behind which nothing of the same image is expected."""

REACHES = (5 << 20, 20 << 20, 64 << 20)
"""Distances in bytes around the token table in which the other tables are searched, in turn."""

OVERLAP = 2 * MAX_TABLE + INDEX_SIZE
LANDMARKS = ("linux_banner", "__start_BTF")


def recover_from_address(
    fetched: OnDemandMemory, *addresses: int, widest: int = REACHES[-1], progress: Progress | None = None
) -> Kernel:
    """Recover the kernel whose text contains some addresses, or lies near them.

    Args:
        fetched: virtual memory of the machine.
        addresses: addresses to start from, before those that the registers in ``fetched.hints`` give.
        widest: highest distance in bytes around the token table that may be read.
        progress: called with the name of the step, the work done, and the work in all.

    Returns:
        The kernel; its memory fetches the bytes that it lacks.

    Raises:
        RecoveryError: if no address leads to a table that could be recovered; it names the step that failed.
    """
    failure = RecoveryError(Step.TOKEN_TABLE, "no address in the kernel is known; give --lstar, --vbar or --idt")
    for address in dict.fromkeys((*addresses, *anchors(fetched))):
        try:
            kernel = _recover_from(fetched, address, widest, progress)
        except RecoveryError as error:
            failure = error
        else:
            return replace(kernel, memory=fetched.reading_on(kernel.memory))
    raise failure


def anchors(fetched: OnDemandMemory) -> Iterator[int]:
    """Yield addresses in the kernel's text that registers give, the surest first."""
    for name in POSITIONS:
        for cpu in fetched.hints.cpus:
            if (value := cpu.registers.get(name, 0)) >= KERNEL_HALF:
                yield value
    for cpu in fetched.hints.cpus:
        base = cpu.registers.get("idt_base", 0)
        if base < KERNEL_HALF:
            continue
        try:
            table = fetched.bytes_at(base, x86.gate_size(8) * MOST_GATES)
        except UnmappedError:
            continue
        yield from (int(value) for value in x86.handlers(table, 8)[:1] if value >= KERNEL_HALF)


def _recover_from(fetched: OnDemandMemory, address: int, widest: int, progress: Progress | None) -> Kernel:
    failure: RecoveryError | None = None
    for place in _token_tables(fetched, address, progress):
        for reach in REACHES:
            reach = min(reach, widest)
            fetched.fetch(place - reach, place + reach)
            try:
                kernel = recover(fetched.snapshot(place - reach, place + reach))
            except RecoveryError as error:
                failure = error
            else:
                if kernel.is_placed or reach == widest:
                    return _with_landmarks(fetched, kernel)
            if reach == widest:
                break
    raise failure or RecoveryError(
        Step.TOKEN_TABLE, f"no token table within {FARTHEST >> 20} MiB of {address:#x} in the readable memory"
    )


def _token_tables(fetched: OnDemandMemory, address: int, progress: Progress | None) -> Iterator[int]:
    """Yield the addresses of token tables, those above the given address first.

    Read-only data follow the text.
    """
    for low in _steps(fetched, address // STEP * STEP, progress):
        hand = fetched.snapshot(low - OVERLAP, low + STEP)
        for segment, runs in digit_runs(hand):
            for run in runs.tolist():
                place = segment.start + run
                if place + len(DIGITS) <= low:
                    continue
                fetched.fetch(place - OVERLAP, place + OVERLAP)
                near = fetched.snapshot(place - OVERLAP, place + OVERLAP).around(place, OVERLAP, OVERLAP)
                for tokens in token_tables(near, place - near.start):
                    yield near.start + tokens.offset


def _steps(fetched: OnDemandMemory, start: int, progress: Progress | None) -> Iterator[int]:
    """Yield the address ranges of `STEP` bytes that hold something.

    The search goes upwards from ``start``, then downwards.
    """
    done = 0
    for steps in (np.arange(0, FARTHEST, STEP), np.arange(-STEP, -FARTHEST, -STEP)):
        missing = 0
        for step in steps.tolist():
            low = start + step
            done += STEP
            if progress:
                progress("searching for the token table", done, 2 * FARTHEST)
            if not 0 <= low < 1 << 64 or missing > WIDEST_GAP:
                break
            if fetched.fetch(low, low + STEP):
                missing = 0
                yield low
            else:
                missing += STEP


def _with_landmarks(fetched: OnDemandMemory, kernel: Kernel) -> Kernel:
    """Return the kernel with the evidence of its landmarks and registers.

    These may lie outside of the bytes that were read before.
    """
    wanted: list[int] = [symbol.address for name in LANDMARKS for symbol in kernel.symbols.all(name)]
    wanted += [cpu.registers.get("idt_base", 0) for cpu in fetched.hints.cpus]
    for address in wanted:
        if address >= PAGE:
            fetched.fetch(address, address + MAX_BANNER)
    try:
        return recover(fetched.snapshot())
    except KallsiftError:
        return kernel
