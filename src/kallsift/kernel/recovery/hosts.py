"""Check that a kernel whose memory is not at its own addresses is not a guest of another kernel.

Such a kernel may be all that was recovered, because the host's tables are damaged. But the processors' registers lead
to the machine's kernel, and outside of a guest's RAM its host's banner remains.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kallsift.arch.encryption import with_encryption, without_encryption
from kallsift.arch.paging import PRESENT, PagingMode
from kallsift.arch.registry import MODES, ROOT_REGISTERS
from kallsift.errors import UnmappedError
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kernel.checks.cpu_registers import REGISTER_CHECKS
from kallsift.kernel.checks.landmarks import BANNER, MAX_BANNER
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.recovery.roles import ram_end
from kallsift.kernel.recovery.search_order import processor_places
from kallsift.memory.memory import Memory, printable

TOP_TABLES = {"cr3": ("x86-64",), "ttbr1": ("arm64",)}
"""Registers with the physical address of a top-level table, and the architectures whose tables can be recognised."""

BATCH = 16 << 20

MAX_SHOWN = 60
"""Highest number of characters of a banner that are shown."""


def host_check(source: Memory, kernel: Kernel, displacement: int) -> Check | None:
    """Return the check that shows a kernel as a guest; None if nothing does.

    Args:
        source: the memory of the machine, at its addresses.
        kernel: a kernel that was found in the same memory at other addresses.
        displacement: address in ``source`` less physical address of the kernel's memory.
    """
    failed = [c.name for c in kernel.evidence if c.name in REGISTER_CHECKS and c.outcome is Outcome.FAILED]
    if failed and _leads_to_kernel(source):
        detail = f"the processors' registers ({', '.join(failed)}) belong to another kernel, whose guest this one is"
        return Check.that(CheckId.MACHINE, False, detail, is_quoted=True)
    for place, banner in _foreign_banners(source, kernel, displacement):
        found = printable(banner[:MAX_SHOWN])
        detail = (
            f"outside of this kernel's RAM, at {place:#x}, is the banner of another kernel ({found}...), "
            "probably its host"
        )
        return Check.that(CheckId.MACHINE, False, detail, is_quoted=True)
    return None


def _leads_to_kernel(source: Memory) -> bool:
    """Tell whether registers lead to a kernel in the source at its addresses.

    They do if they lead to code, or at least to a top-level table.
    """
    if processor_places(source):
        return True
    end = source.segments[-1].end
    for cpu in source.hints.cpus:
        for register, architectures in TOP_TABLES.items():
            root = cpu.registers.get(register, 0) & ROOT_REGISTERS[register]
            if root and any(
                _is_top_table(source, with_encryption(source, end, mode, root), without_encryption(root, end))
                for mode in MODES
                if mode.architecture in architectures
            ):
                return True
    return False


def _is_top_table(memory: Memory, mode: PagingMode, root: int) -> bool:
    """Tell whether all used entries of a top-level table lead to memory.

    Only the kernel's half is read.
    """
    count = 1 << mode.virtual_bits - mode.shifts[0]
    first = count // 2 if mode.signed else 0
    places = np.uint64(root) + np.arange(first, count, dtype=np.uint64) * np.uint64(mode.entry.itemsize)
    entries, held = memory.words(places, mode.entry)
    present = mode.classify(entries, 0) & PRESENT != 0
    targets = mode.target(entries[present], 0)
    return bool(held.all() and present.any() and memory.words(targets, np.dtype("u1"))[1].all())


def _foreign_banners(source: Memory, kernel: Kernel, displacement: int) -> Iterator[tuple[int, str]]:
    """Yield other kernels' banners outside of a kernel's RAM.

    If nothing tells how much RAM it has, banners of other releases are searched everywhere.
    """
    ram = ram_end(kernel)
    inside = range(displacement, displacement + ram)
    wanted = np.uint32(int.from_bytes(BANNER[:4], "little"))
    for segment in source.segments:
        for offset in segment.steps(BATCH, -segment.start % 4):
            block = segment.read(offset, offset + BATCH)
            words = block[: len(block) // 4 * 4].view("<u4")
            for index in np.flatnonzero(words == wanted).tolist():
                place = segment.start + offset + 4 * index
                if place in inside:
                    continue
                banner = _banner(source, place)
                # if its amount of RAM is unknown, its own banner may also stand in its own files and logs
                if banner and (ram or _release(banner) != _release(kernel.banner or "")):
                    yield place, banner


def _release(banner: str) -> str:
    return banner[len(BANNER) :].partition(" ")[0]


def _banner(source: Memory, place: int) -> str | None:
    try:
        text = source.window(place, 0, MAX_BANNER).data.tobytes()
    except UnmappedError:
        return None
    line, end, _ = text.partition(b"\n")
    if not text.startswith(BANNER) or not end or not line[len(BANNER) : len(BANNER) + 1].isdigit() or b" #" not in line:
        return None
    return line.decode("latin-1")
