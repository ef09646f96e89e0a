"""Several kernels of one source that seem to run: which of them does, and how that is told.

A proof that an image is mapped where it lies is no proof that no other one is. What the processors' registers and the
processes' page tables say has been heard by then; what a kernel's variables say of its end is heard here, and last the
lists: memory that a kernel no longer cares for is overwritten. Where nothing tells, none of them is proven.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from kallsift.errors import UnmappedError
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kernel.checks.cpu_registers import REGISTER_CHECKS
from kallsift.kernel.kernel import Kernel, Role, State
from kallsift.memory.memory import AddressSpace, Segment

ALIGNMENT = 2 << 20
"""Images are loaded at multiples of it, so that copies of one lie at the same distance from such a place."""

PAGE = 4096
MAX_COPIES = 16
MORE_LISTS = 2
"""How many times as many lists close in a kernel that goes on as in one that ended, for as many that are followed."""

TOKENS = "token_table"


def is_inhabited(kernel: Kernel) -> bool:
    """Return whether page tables of processes show that a kernel is the one of its copies that runs."""
    return any(check.name == CheckId.PROCESSES and check.outcome is Outcome.PASSED for check in kernel.evidence)


def copies(kernel: Kernel) -> tuple[int, ...]:
    """Return where other copies of a kernel's token table lie in its memory, as far as that takes no time.

    A copy that page tables could map at the same addresses lies at the same distance from a page's start. Where
    processes show which copy runs, only places of images that a loader could have chosen are looked at.
    """
    if kernel.memory.image is not None or kernel.memory.space is not AddressSpace.PHYSICAL:
        return ()
    table = next((table for table in kernel.tables if table.name == TOKENS), None)
    if table is None:
        return ()
    step = ALIGNMENT if is_inhabited(kernel) else PAGE
    wanted = kernel.memory.around(table.physical, 0, table.size).data
    found: list[int] = []
    for segment in kernel.memory.segments:
        # what is packed would have to be unpacked as a whole
        if not isinstance(segment, Segment):
            continue
        first = segment.start + (table.physical - segment.start) % step
        # a hole of a sparse file holds none
        parts = [
            np.arange(
                first + -(-(segment.start + low - first) // step) * step, segment.start + high, step, dtype=np.uint64
            )
            for low, high in segment.stored()
        ]
        places = np.concatenate(parts) if parts else np.empty(0, np.uint64)
        places = places[places + np.uint64(table.size) <= np.uint64(segment.end)]
        words, held = kernel.memory.words(places, np.dtype("<u8"))
        for place in places[held & (words == wanted[:8].view("<u8")[0])].tolist():
            if place != table.physical and _holds(kernel, place, wanted.tobytes()):
                found.append(place)
                if len(found) == MAX_COPIES:
                    return tuple(found)
    return tuple(found)


def _holds(kernel: Kernel, place: int, wanted: bytes) -> bool:
    try:
        return kernel.memory.read(place, len(wanted)).tobytes() == wanted
    except UnmappedError:
        return False


def settled(kernels: Sequence[Kernel]) -> list[Kernel]:
    """Return the kernels with at most one of those that seem to run left as proven, and how that was told."""
    result = _with_notes_of_panicked(kernels)
    rivals = [number for number, kernel in enumerate(result) if _claims(kernel)]
    if rivals:
        result = [_left_by_processors(kernel) for kernel in result]
    if any(kernel.role is Role.CAPTURE and _runs(kernel) for kernel in result):
        result = [_left_for_capture_kernel(kernel) for kernel in result]
        rivals = [number for number in rivals if _claims(result[number])]
    if len(rivals) < 2:
        return result
    for number, state, check in _told([result[number] for number in rivals]):
        kernel = result[rivals[number]]
        result[rivals[number]] = replace(kernel, state=state, evidence=(*kernel.evidence, check))
    return result


def _with_notes_of_panicked(kernels: Sequence[Kernel]) -> list[Kernel]:
    """Return the kernels; a note of the one that panicked says nothing against its capture kernel.

    What holds the note was given it by the first kernel: a hypervisor by the device ``vmcoreinfo``, or a vmcore.
    """
    noted = any(
        kernel.role is Role.PANICKED and kernel.memory.hints.vmcoreinfo is not None and _agrees(kernel)
        for kernel in kernels
    )
    of_other = Check(CheckId.VMCOREINFO, Outcome.ABSENT, "the note is of the kernel that panicked")
    return [
        replace(
            kernel, evidence=tuple(of_other if each.name == CheckId.VMCOREINFO else each for each in kernel.evidence)
        )
        if noted and kernel.role is Role.CAPTURE and not _agrees(kernel)
        else kernel
        for kernel in kernels
    ]


def _agrees(kernel: Kernel) -> bool:
    """Return whether a VMCOREINFO text agrees with a kernel: the note's, where there is one."""
    return any(check.name == CheckId.VMCOREINFO and check.outcome is Outcome.PASSED for check in kernel.evidence)


def _runs(kernel: Kernel) -> bool:
    return kernel.state is State.RUNNING and kernel.memory.image is None


def _claims(kernel: Kernel) -> bool:
    return kernel.proven and _runs(kernel)


def _left_for_capture_kernel(kernel: Kernel) -> Kernel:
    """A kernel that panicked, beside its capture kernel, which need not be proven."""
    if kernel.role is not Role.PANICKED or not _runs(kernel):
        return kernel
    return replace(kernel, state=State.PANICKED, evidence=(*kernel.evidence, _ended("its capture kernel runs")))


def _left_by_processors(kernel: Kernel) -> Kernel:
    """A kernel that seems to run, but for the registers, beside one that they lead to."""
    failed = any(check.name in REGISTER_CHECKS and check.outcome is Outcome.FAILED for check in kernel.evidence)
    if not _runs(kernel) or not failed:
        return kernel
    state = State.PANICKED if kernel.role is Role.PANICKED else State.STALE
    return replace(kernel, state=state, evidence=(*kernel.evidence, _ended("the processors are in another kernel")))


def _told(kernels: Sequence[Kernel]) -> Iterator[tuple[int, State, Check]]:
    """What is to be said of several kernels that seem to run: number, state, and why."""
    numbers = range(len(kernels))
    left = {number for number in numbers if kernels[number].role in (Role.ORDINARY, Role.CAPTURE)}
    if left and len(left) < len(kernels):
        for number in set(numbers) - left:
            panicked = kernels[number].role is Role.PANICKED
            detail = "it panicked, and another kernel runs" if panicked else "it started another kernel, which runs"
            yield number, State.PANICKED if panicked else State.STALE, _ended(detail)
    left = left or set(numbers)
    inhabited = {number for number in left if is_inhabited(kernels[number])}
    if inhabited and inhabited != left:
        for number in left - inhabited:
            yield number, State.STALE, _ended("page tables of processes map another kernel, and none maps this one")
        left = inhabited
    most = max(kernels[number].lists for number in left)
    alive = {number for number in left if MORE_LISTS * kernels[number].lists > most}
    for number in left - alive:
        detail = f"{kernels[number].lists} of its lists close, but {most} of another kernel's: it ran before that"
        yield number, State.STALE, _ended(detail)
    if len(alive) > 1:
        for number in alive:
            others = ", ".join(f"{kernels[other].physical_base or 0:#x}" for other in sorted(alive - {number}))
            detail = f"another kernel seems to run as well, at {others}; nothing tells which of them does"
            yield number, State.RUNNING, Check.that(CheckId.ONLY_KERNEL, False, detail, is_quoted=True)


def _ended(detail: str) -> Check:
    return Check.that(CheckId.ONLY_KERNEL, False, detail, is_quoted=True)
