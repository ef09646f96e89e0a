"""Judge the candidates around one token table: place each, check it, and return the best as the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from kallsift.addresses import PhysicalAddress, VirtualAddress
from kallsift.arch.registry import word_sizes_of
from kallsift.errors import Step
from kallsift.kallsyms.evidence import Check, CheckId, Outcome, proven
from kallsift.kallsyms.format.token_table import TokenTable, moved
from kallsift.kallsyms.recovered_tables import MAX_UNPLACED, Attempt, Layout, Tables
from kallsift.kallsyms.solvers.shared_tables import SharedTables
from kallsift.kernel.checks.cpu_registers import processor_checks
from kallsift.kernel.checks.landmarks import landmark_checks, nearest_banner, read_banner
from kallsift.kernel.checks.processes import processes_check
from kallsift.kernel.checks.vmcoreinfo import vmcoreinfo_check
from kallsift.kernel.cross_checks.held_twice import held_twice
from kallsift.kernel.kernel import Kernel, State, TableLocation
from kallsift.kernel.placement.placement import Placement
from kallsift.kernel.placement.pointers import AFTER, BEFORE
from kallsift.kernel.placement.search import placements
from kallsift.kernel.placement.window_facts import SharedWindows
from kallsift.kernel.placement.word_size import WORD_SIZES, word_size_check
from kallsift.kernel.recovery.interpretations import Interpretations
from kallsift.kernel.recovery.kaslr import kaslr_slide
from kallsift.kernel.recovery.ranking import Ranking, is_seen
from kallsift.kernel.recovery.unplaced import is_seamless
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment

Solver = Callable[[BytesSegment, TokenTable, Sequence[int], Attempt], Iterator[Tables]]
"""A function that finds all tables around a token table for words of some sizes."""

MAX_CANDIDATES = 256
"""Highest number of ways to read one token table's surroundings that are followed."""

PLACEMENT_COST = BEFORE + AFTER
"""Bytes that are passed over to place one of them."""

PASSES = 32
"""Number of times that all bytes of a small source can be passed over for work that costs more."""


@dataclass(frozen=True, eq=False)
class SharedWork:
    """Work that one recovery does once, even if it reads the same bytes several times.

    Attributes:
        tables: the tables around token tables.
        windows: facts of the images around tables.
    """

    tables: SharedTables = field(default_factory=SharedTables)
    windows: SharedWindows = field(default_factory=SharedWindows)


def placement_cost(memory: Memory) -> int:
    """Return the bytes that are passed over to place what is around one token table."""
    return min(PLACEMENT_COST, memory.stored_size)


def cost_in(memory: Memory, cost: int) -> int:
    """Return the limit in bytes for a scan of a source, lower for small sources."""
    return min(cost, PASSES * memory.stored_size)


def best_at(
    memory: Memory, segment: BytesSegment, tokens: TokenTable, attempt: Attempt | None, shared: SharedWork
) -> Kernel | None:
    """Return the best of the kernels that one token table can belong to.

    None if landmarks contradict all of them. ``attempt`` is as for `best_of`.
    """
    found = shared.tables.recover(segment, tokens, word_sizes(memory), attempt or Attempt())
    return best_of(memory, found, attempt, shared)


def running_at(memory: Memory, segment: BytesSegment, tokens: TokenTable, shared: SharedWork) -> Kernel | None:
    """Return the best of the running kernels that a token table can belong to.

    Other kernels are not judged.
    """
    found = shared.tables.recover(segment, tokens, word_sizes(memory), Attempt())
    return best_of(memory, found, None, shared, is_running_only=True)


def best_of(
    memory: Memory,
    candidates: Iterator[Tables],
    attempt: Attempt | None,
    shared: SharedWork,
    *,
    is_running_only: bool = False,
) -> Kernel | None:
    """Return the best of the kernels that some tables can be.

    None if landmarks contradict all of them.

    Args:
        memory: the source.
        candidates: the tables, the likeliest first.
        attempt: the record of the furthest step that was reached; its budget bounds how many tables are placed after
            the first. None if nobody asks for it: then no placement is looked at that landmarks contradict.
        shared: work that is done once.
        is_running_only: whether only kernels that run are wanted.
    """
    ranking = Ranking(memory.hints.word_size)
    scattered = Interpretations(memory)
    cost = placement_cost(memory)
    is_recorded = attempt is not None
    attempt = attempt or Attempt()
    for number, tables in enumerate(islice(candidates, MAX_CANDIDATES)):
        if not number and attempt.budget is not None:
            attempt.budget.spend(cost)
        elif not attempt.can_afford("attempts to read tables", cost):
            break
        if not _is_wanted(memory, tables, attempt) or (
            tables.array.needs_base and ranking.has_proven(tables.word_size)
        ):
            # an array whose base was read is preferred to one whose base must be found
            continue
        if tables.layout is Layout.AMBIGUOUS and scattered.is_unambiguous:
            break
        found = f"{tables.count} symbols, addresses at {tables.array_address:#x}"
        attempt.is_seamless |= is_seamless(tables)
        attempt.reached(4, Step.PLACEMENT, f"{found}, but nothing shows where they are mapped")
        has_place = False
        # of tables that lie as usual there are few readings, of others many
        is_wanted = None if is_recorded and tables.layout is Layout.ADJACENT else partial(_agrees, memory, tables)
        found_at = placements(memory, tables, shared.windows, is_running_only=is_running_only, is_wanted=is_wanted)
        for placement in found_at:
            has_place = True
            if is_running_only and not placement.running:
                continue
            landmarks = tuple(landmark_checks(memory, tables, placement))
            if proven(landmarks) and not placement.running and len(word_sizes(memory)) > 1:
                landmarks = (*landmarks, word_size_check(memory, tables, placement, shared.windows))
            if not proven(landmarks):
                # a symbol that misses its landmark shows wrong addresses; no result is better than a wrong one
                failed = next(check for check in landmarks if check.outcome is Outcome.FAILED)
                attempt.reached(5, Step.LANDMARKS, f"{found}, but {failed.name} {failed.detail}")
                continue
            if tables.layout is not Layout.ADJACENT:
                if not scattered.add(tables, placement, landmarks):
                    attempt.reached(5, Step.LANDMARKS, f"{found}, but no landmark or pointer confirms them")
                continue
            kernel = _kernel(memory, tables, placement, landmarks)
            if ranking.add(kernel, placement.hits):
                return kernel
            attempt.has_landmarks |= is_seen(kernel)
            if _shows_word_size(memory, kernel, placement):
                attempt.running_word_size = tables.word_size
        if not has_place and tables.layout is Layout.ADJACENT and len(attempt.unplaced) < MAX_UNPLACED:
            attempt.unplaced.append(tables)
    best = scattered.best()
    if best is None:
        return ranking.best()
    return _kernel(memory, best.tables, best.placement, best.landmarks)


def _shows_word_size(memory: Memory, kernel: Kernel, placement: Placement) -> bool:
    """Tell whether no reading with words of another size can be better than a kernel.

    Its page table and the lists that close through it have words of one size, so with others no kernel runs.
    """
    is_allowed = memory.hints.word_size in (None, kernel.symbols.word_size)
    return is_allowed and placement.running and kernel.state is State.RUNNING


def _agrees(memory: Memory, tables: Tables, placement: Placement) -> bool:
    """Return whether no landmark contradicts a placement."""
    return proven(tuple(landmark_checks(memory, tables, placement)))


def _is_wanted(memory: Memory, tables: Tables, attempt: Attempt) -> bool:
    """Tell whether tables have the byte order that a user gives, if any."""
    given = memory.hints.byte_order
    if given is None or tables.byte_order == given:
        return True
    attempt.reached(
        4,
        Step.BYTE_ORDER,
        f"{tables.count} symbols, but their tables are not in the given byte order; leave out --byte-order",
    )
    return False


def surrounded(memory: Memory, near: BytesSegment, tokens: TokenTable) -> tuple[BytesSegment, TokenTable]:
    """Return the part of the memory that an image around a token table can take.

    With it comes the token table at its offset there.
    """
    whole = memory.around(near.start + tokens.offset, BEFORE, AFTER)
    return whole, moved(tokens, near.start - whole.start)


def word_sizes(memory: Memory) -> Sequence[int]:
    """Return the word sizes to try: all, unless a header gives the architecture."""
    known = word_sizes_of(memory.image.architecture if memory.image else None)
    return sorted(known, reverse=True) or WORD_SIZES


def pointed_at(kernel: Kernel) -> bool:
    """Tell whether words of the image equal symbols."""
    return any(
        check.name == CheckId.POINTERS_TO_SYMBOLS and check.outcome is Outcome.PASSED for check in kernel.evidence
    )


def _inhabited(memory: Memory, tables: Tables, placement: Placement) -> tuple[Check, ...]:
    """Check that processes run in this copy of the image, if it seems to run."""
    if memory.image is not None or memory.space is AddressSpace.VIRTUAL or not placement.running:
        return ()
    return (processes_check(memory, tables, placement),)


def _state(memory: Memory, placement: Placement, slide: int | None, inhabited: tuple[Check, ...]) -> State:
    """Return the state of a kernel, by its image and the processes that it knows."""
    if memory.image is not None:
        return State.IMAGE
    if not proven(inhabited):
        return State.STALE
    if placement.running or memory.space is AddressSpace.VIRTUAL:
        # a kernel that virtual addresses lead to, and that points to itself through them, is no copy
        return State.RUNNING
    return State.STALE if placement.ran or slide else State.IMAGE


def _kernel(memory: Memory, tables: Tables, placement: Placement, landmarks: tuple[Check, ...]) -> Kernel:
    symbols = placement.symbols
    twice = held_twice(memory, placement)
    info, agreement = vmcoreinfo_check(memory, tables, placement)
    cpus = processor_checks(memory, tables, placement)
    base = next((s.address for name in ("_text", "_stext") for s in symbols.all(name)), None)
    architecture = placement.mapping.architecture if placement.mapping else None
    if architecture is None and memory.image is not None:
        architecture = memory.image.architecture
    slide = kaslr_slide(memory, placement, info)
    inhabited = _inhabited(memory, tables, placement)
    banner = read_banner(memory, symbols, placement) or nearest_banner(memory, tables.array_address)
    return Kernel(
        symbols=symbols,
        evidence=(*tables.checks, *placement.checks, *landmarks, *inhabited, *cpus, agreement, *twice),
        state=_state(memory, placement, slide, inhabited),
        byte_order=tables.byte_order,
        architecture=architecture,
        banner=banner,
        encoding=tables.array.encoding.name,
        tables=tuple(
            TableLocation(name, PhysicalAddress(place), VirtualAddress(placement.virtual(place)), size)
            for name, place, size in tables.places
        ),
        virtual_base=base,
        physical_base=None if base is None else PhysicalAddress(placement.physical(base)),
        kaslr_slide=slide,
        page_table_root=None if placement.root is None else PhysicalAddress(placement.root),
        mapping=placement.mapping,
        memory=memory,
        distance=placement.distance,
        damage=tables.damage,
        lists=placement.lists,
    )
