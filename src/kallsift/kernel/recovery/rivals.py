"""Tell which one of several kernels of a source that seem to run does run.

A proof that an image is mapped where it lies does not exclude that another one is. The processors' registers and the
processes' page tables were checked before. Here a kernel's variables tell whether it ended, and last its lists: memory
that a kernel no longer uses is overwritten. If nothing tells, none of the kernels is proven.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from kallsift.errors import UnmappedError
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kernel.checks.cpu_registers import REGISTER_CHECKS
from kallsift.kernel.kernel import Kernel, Role, State
from kallsift.memory.memory import AddressSpace
from kallsift.memory.segments import BytesSegment

ALIGNMENT = 2 << 20
"""Alignment in bytes of loaded images, so copies of a table lie at the same offset from a multiple of it."""

PAGE = 4096
MAX_COPIES = 16
MORE_LISTS = 2
"""Ratio of the closed lists of a running kernel to those of one that ended, for the same number that is followed."""

TOKENS = "token_table"


def is_inhabited(kernel: Kernel) -> bool:
    """Return whether page tables of processes show that this copy of a kernel runs."""
    return any(check.name == CheckId.PROCESSES and check.outcome is Outcome.PASSED for check in kernel.evidence)


def copies(kernel: Kernel) -> tuple[int, ...]:
    """Return the addresses of other copies of a kernel's token table in its memory.

    Only a fast search is made. A copy that page tables could map at the same addresses lies at the same offset in a
    page. If processes show which copy runs, only addresses of images that a loader could have chosen are compared.
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
        # a packed segment would have to be unpacked as a whole
        if not isinstance(segment, BytesSegment):
            continue
        first = segment.start + (table.physical - segment.start) % step
        # only stored parts are searched: a hole of a sparse file holds no copy
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
    """Return the kernels with at most one proven running kernel left among them.

    The evidence of the others tells why they do not count as running.
    """
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
    """Return the kernels; a panicked one's note does not count for its capture kernel.

    The first kernel gave the note to what holds it: to a hypervisor by the device ``vmcoreinfo``, or to a vmcore.
    """
    noted = any(
        kernel.role is Role.PANICKED and kernel.memory.hints.vmcoreinfo is not None and _agrees(kernel)
        for kernel in kernels
    )
    of_other = Check(CheckId.VMCOREINFO, Outcome.ABSENT, "the note belongs to the kernel that panicked")
    return [
        replace(
            kernel, evidence=tuple(of_other if each.name == CheckId.VMCOREINFO else each for each in kernel.evidence)
        )
        if noted and kernel.role is Role.CAPTURE and not _agrees(kernel)
        else kernel
        for kernel in kernels
    ]


def _agrees(kernel: Kernel) -> bool:
    """Return whether a VMCOREINFO text agrees with a kernel.

    If there is a note, its text counts.
    """
    return any(check.name == CheckId.VMCOREINFO and check.outcome is Outcome.PASSED for check in kernel.evidence)


def _runs(kernel: Kernel) -> bool:
    return kernel.state is State.RUNNING and kernel.memory.image is None


def _claims(kernel: Kernel) -> bool:
    return kernel.proven and _runs(kernel)


def _left_for_capture_kernel(kernel: Kernel) -> Kernel:
    """Return a panicked kernel as such, because its capture kernel runs.

    The capture kernel need not be proven. Other kernels are returned unchanged.
    """
    if kernel.role is not Role.PANICKED or not _runs(kernel):
        return kernel
    return replace(kernel, state=State.PANICKED, evidence=(*kernel.evidence, _ended("its capture kernel runs")))


def _left_by_processors(kernel: Kernel) -> Kernel:
    """Return a kernel as not running if the registers lead to another one."""
    failed = any(check.name in REGISTER_CHECKS and check.outcome is Outcome.FAILED for check in kernel.evidence)
    if not _runs(kernel) or not failed:
        return kernel
    state = State.PANICKED if kernel.role is Role.PANICKED else State.STALE
    return replace(kernel, state=state, evidence=(*kernel.evidence, _ended("the processors run another kernel")))


def _told(kernels: Sequence[Kernel]) -> Iterator[tuple[int, State, Check]]:
    """Yield the number, the state and the check of each kernel that is decided on.

    Args:
        kernels: kernels that seem to run.
    """
    numbers = range(len(kernels))
    left = {number for number in numbers if kernels[number].role in (Role.ORDINARY, Role.CAPTURE)}
    if left and len(left) < len(kernels):
        for number in set(numbers) - left:
            panicked = kernels[number].role is Role.PANICKED
            detail = (
                "this kernel panicked, and another one runs"
                if panicked
                else "this kernel started another one, which runs"
            )
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
        detail = f"{kernels[number].lists} of its lists are intact, but {most} of another kernel: this one ran earlier"
        yield number, State.STALE, _ended(detail)
    if len(alive) > 1:
        for number in alive:
            others = ", ".join(f"{kernels[other].physical_base or 0:#x}" for other in sorted(alive - {number}))
            detail = f"another kernel, at {others}, seems to run as well; nothing shows which one runs"
            yield number, State.RUNNING, Check.that(CheckId.ONLY_KERNEL, False, detail, is_quoted=True)


def _ended(detail: str) -> Check:
    return Check.that(CheckId.ONLY_KERNEL, False, detail, is_quoted=True)
