"""From a memory to its kernels: tables found, placed, checked against all that the source says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

from kallsift.addresses import PhysicalAddress, VirtualAddress
from kallsift.errors import RecoveryError
from kallsift.kallsyms.evidence import Check, Outcome, proven
from kallsift.kallsyms.recover import recover_tables
from kallsift.kallsyms.scan import digit_runs
from kallsift.kallsyms.tables import Attempt, Tables
from kallsift.kallsyms.tokens import TokenTable, token_tables
from kallsift.kernel.landmarks import landmark_checks, nearest_banner, read_banner
from kallsift.kernel.model import Kernel, State, TablePlace
from kallsift.kernel.placement import Placement, cpu_checks, placements
from kallsift.kernel.vmcoreinfo import vmcoreinfo_check
from kallsift.machine.registry import LINK_BASES
from kallsift.memory.model import Memory, Segment

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

WORD_SIZE = 8
MAX_PLACES = 1 << 16
"""Places with all digits that are looked at; a dump of many gigabytes has some hundreds (UTF-16 text, mostly)."""

MAX_TOKEN_TABLES = 256
"""Token tables with their index that are followed; a host full of virtual machines has some dozens."""

MAX_CANDIDATES = 8
"""Ways to read one token table's surroundings that are followed at most."""


def recover(memory: Memory, *, progress: Progress | None = None) -> Kernel:
    """The running kernel; the search ends as soon as it has proved itself.

    Args:
        memory: physical memory.
        progress: is told how far the search came.

    Returns:
        The running kernel, or, if none can be shown to run, the best candidate, with another state.

    Raises:
        RecoveryError: if no table could be recovered; names the step that failed.
    """
    found: list[Kernel] = []
    failed: list[Attempt] = []
    for kernel in _kernels(memory, failed, progress):
        if kernel.proven:
            return kernel
        found.append(kernel)
    return _ranked(found, failed)[0]


def recover_all(memory: Memory, *, progress: Progress | None = None) -> tuple[Kernel, ...]:
    """Every kernel whose table is whole, running ones first.

    Raises:
        RecoveryError: as `recover`.
    """
    failed: list[Attempt] = []
    return _ranked(list(_kernels(memory, failed, progress)), failed)


def _ranked(kernels: list[Kernel], failed: list[Attempt]) -> tuple[Kernel, ...]:
    """Proven kernels first; if there is none, the others say which table could not be recovered: it may be the one."""
    furthest = max(failed, key=lambda attempt: attempt.rank, default=Attempt())
    if not kernels:
        raise RecoveryError(furthest.step, furthest.message)
    if failed and not any(kernel.proven for kernel in kernels):
        lost = Check.that("other tables", False, f"{furthest.step}: {furthest.message}", essential=False)
        kernels = [replace(kernel, evidence=(*kernel.evidence, lost)) for kernel in kernels]
    return tuple(sorted(kernels, key=lambda kernel: (not kernel.proven, kernel.state is not State.RUNNING)))


def _kernels(memory: Memory, failed: list[Attempt], progress: Progress | None) -> Iterator[Kernel]:
    """Kernels in the order of their token tables' addresses; ``failed`` is told of tables that led to none."""
    scanned = (lambda done, total: progress("searching for token tables", done, total)) if progress else None
    seen = places = 0
    for segment, runs in digit_runs(memory, scanned):
        places += len(runs)
        if places > MAX_PLACES:
            raise RecoveryError("token table", f"over {MAX_PLACES:,} places look like one: a contrived source")
        for run in runs:
            for tokens in token_tables(segment, int(run)):
                seen += 1
                if seen > MAX_TOKEN_TABLES:
                    raise RecoveryError("token table", f"over {MAX_TOKEN_TABLES:,} tables: a contrived source")
                attempt = Attempt()
                if kernel := _best(memory, segment, tokens, attempt):
                    yield kernel
                else:
                    failed.append(attempt)


def _best(memory: Memory, segment: Segment, tokens: TokenTable, attempt: Attempt) -> Kernel | None:
    """The best of the kernels that one token table can belong to; None if its landmarks contradict all of them."""
    best: Kernel | None = None
    for tables in islice(recover_tables(segment, tokens, WORD_SIZE, attempt), MAX_CANDIDATES):
        found = f"{tables.count} symbols, addresses at {tables.array_address:#x}"
        attempt.reached(4, "placement", f"{found}, but nothing tells where they are mapped")
        for placement in placements(memory, tables):
            landmarks = tuple(landmark_checks(memory, tables, placement))
            if not proven(landmarks):
                # addresses that point past what we can see are wrong: better none than these
                failed = next(check for check in landmarks if check.outcome is Outcome.FAILED)
                attempt.reached(5, "landmarks", f"{found}, but {failed.name} {failed.detail}")
                continue
            kernel = _kernel(memory, tables, placement, landmarks)
            if kernel.proven:
                return kernel
            best = max([k for k in (best, kernel) if k], key=_merit)
    return best


def _merit(kernel: Kernel) -> tuple[bool, int]:
    failed = sum(check.outcome is Outcome.FAILED for check in kernel.evidence)
    return kernel.state is State.RUNNING, -failed


def _kernel(memory: Memory, tables: Tables, placement: Placement, landmarks: tuple[Check, ...]) -> Kernel:
    symbols = placement.symbols
    info, agreement = vmcoreinfo_check(memory, tables, placement)
    cpus = cpu_checks(memory, tables, placement)
    base = next((s.address for name in ("_text", "_stext") for s in symbols.all(name)), None)
    architecture = placement.mode.architecture if placement.mode else None
    slide = info.kernel_offset if info else None
    if slide is None and base is not None and architecture in LINK_BASES and "_text" in symbols:
        slide = base - LINK_BASES[architecture]
    banner = read_banner(memory, symbols, placement) or nearest_banner(memory, tables.array_address)
    return Kernel(
        symbols=symbols,
        evidence=(*tables.checks, *placement.checks, *landmarks, *cpus, agreement),
        state=State.RUNNING if placement.running else State.IMAGE,
        architecture=architecture,
        banner=banner,
        encoding=tables.array.encoding.name,
        tables=tuple(
            TablePlace(name, PhysicalAddress(place), VirtualAddress(placement.virtual(place)), size)
            for name, place, size in tables.places
        ),
        virtual_base=base,
        physical_base=None if base is None else PhysicalAddress(placement.physical(base)),
        kaslr_slide=slide,
        page_table_root=None if placement.root is None else PhysicalAddress(placement.root),
        paging=placement.mode.name if placement.mode else None,
        memory=memory,
        distance=placement.distance,
    )
