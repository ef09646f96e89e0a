"""From a memory to its kernels: tables found, placed, checked against all that the source says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice

from kallsift.addresses import PhysicalAddress, VirtualAddress
from kallsift.errors import RecoveryError
from kallsift.image.unwrap import payloads
from kallsift.kallsyms.anywhere import WITHIN, recover_anywhere
from kallsift.kallsyms.damage import moved, recover_damaged
from kallsift.kallsyms.early import recover_early
from kallsift.kallsyms.evidence import Check, Outcome, proven
from kallsift.kallsyms.name_regions import name_regions
from kallsift.kallsyms.recover import recover_tables
from kallsift.kallsyms.scan import digit_runs
from kallsift.kallsyms.tables import Attempt, Layout, Tables
from kallsift.kallsyms.tokens import MAX_TABLE, TokenTable, lone_token_tables, token_tables
from kallsift.kallsyms.tokens_left import cut_token_tables, table_before, token_indices
from kallsift.kallsyms.uncompressed import holds_entries, recover_uncompressed
from kallsift.kernel.bare_ram import Arrangement, arrangements
from kallsift.kernel.displaced import displacements
from kallsift.kernel.landmarks import landmark_checks, nearest_banner, read_banner
from kallsift.kernel.likely import likely_ranges
from kallsift.kernel.model import Kernel, State, TablePlace
from kallsift.kernel.placement import Placement, placements
from kallsift.kernel.pointers import AFTER, BEFORE, ENOUGH_LISTS
from kallsift.kernel.processors import processor_checks
from kallsift.kernel.readings import LANDMARKS, Readings, weight
from kallsift.kernel.slide import kaslr_slide
from kallsift.kernel.vmcoreinfo import vmcoreinfo_check
from kallsift.machine.registry import MODES, WINDOWS
from kallsift.memory.model import AddressSpace, Hints, Memory, Segment

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

Solver = Callable[[Segment, TokenTable, Sequence[int], Attempt], Iterator[Tables]]
"""Finds all tables around a token table for words of some sizes."""

WORD_SIZES = (8, 4)
NEAR = 2 * MAX_TABLE
"""Bytes below and above its digits that hold a token table with the index behind it."""

MAX_PLACES = 1 << 16
"""Places with all digits that are looked at; a dump of many gigabytes has some hundreds (UTF-16 text, mostly)."""

MAX_TOKEN_TABLES = 256
"""Token tables with their index that are followed; a host full of virtual machines has some dozens."""

MAX_PARTS = 16
"""Token tables of which only a part is left that are followed."""

WITH_NAMES = 2
"""Rank of an attempt that came as far as names that markers prove."""

MAX_STREAMS = 64
"""Regions of names, each with its length, that are followed where there is no token table."""

MAX_CANDIDATES = 256
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
    for kernel in _kernels(memory, failed, progress, likely_ranges(memory)):
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


def _kernels(
    memory: Memory, failed: list[Attempt], progress: Progress | None, first: Iterable[tuple[int, int]] = ()
) -> Iterator[Kernel]:
    """Kernels whose tables lie as usual, in the order of their token tables' addresses; then those that take longer.

    What lies in the ranges ``first`` comes before all others.
    ``failed`` is told of token tables that led to none.
    """
    scanned = (lambda done, total: progress("searching for token tables", done, total)) if progress else None
    harder: list[tuple[Segment, TokenTable, Attempt]] = []
    lone: list[int] = []
    unmapped: list[tuple[Segment, TokenTable, Kernel]] = []
    hosted = found = False
    seen = places = 0
    for segment, runs in digit_runs(memory, scanned, first):
        places += len(runs)
        if places > MAX_PLACES:
            raise RecoveryError("token table", f"over {MAX_PLACES:,} places look like one: a contrived source")
        for run in runs.tolist():
            before = seen
            near = memory.around(segment.start + run, NEAR, NEAR)
            for tokens in token_tables(near, segment.start + run - near.start):
                seen += 1
                if seen > MAX_TOKEN_TABLES:
                    raise RecoveryError("token table", f"over {MAX_TOKEN_TABLES:,} tables: a contrived source")
                attempt = Attempt()
                if kernel := _best(memory, *_surrounded(memory, near, tokens), attempt, recover_tables):
                    found = True
                    if kernel.state is State.STALE:
                        unmapped.append((near, tokens, kernel))
                    else:
                        hosted |= kernel.state is State.RUNNING
                        yield kernel
                else:
                    harder.append((near, tokens, attempt))
            if seen == before:
                lone.append(segment.start + run)
    ways = tuple(arrangements(memory)) if unmapped or harder else ()
    for near, tokens, kernel in unmapped:
        yield (
            _laid_out(ways, near, tokens)
            or _displaced(memory, *_surrounded(memory, near, tokens), kernel, hosted)
            or kernel
        )
    # what lies behind a gap that is no multiple of pages is not even placed, unless something says how large it is
    named = [way for way in ways if way.name is not None]
    for each in tuple(harder if named else ()):
        if kernel := _laid_out(named, *each[:2]):
            found = True
            harder.remove(each)
            yield kernel
    sources = (lambda: harder, lambda: _lone(memory, lone), lambda: () if hosted else _partly_lost(memory, lone))
    for near, tokens, attempt in chain.from_iterable(source() for source in sources):
        # of a table that is partly lost the begin may be missing, but then its index is not
        anchor = tokens.offset if tokens.index_offset is None else tokens.index_offset
        whole = memory.around(near.start + anchor, WITHIN, WITHIN)
        kernel = _best(memory, whole, moved(tokens, near.start - whole.start), attempt, recover_damaged)
        if kernel is None and tokens.known is None:
            # what seems to be damaged may lie elsewhere, but then nothing else may speak for damage
            elsewhere = Attempt() if attempt.damaged else attempt
            kernel = _best(memory, *_surrounded(memory, near, tokens), elsewhere, recover_anywhere)
            if attempt.damaged and kernel is not None and not kernel.proven:
                kernel = None
        if kernel:
            found = True
            hosted |= kernel.state is State.RUNNING
            yield kernel
        else:
            failed.append(attempt)
    if not found:
        yield from _without_tokens(memory, failed)


def _without_tokens(memory: Memory, failed: list[Attempt]) -> Iterator[Kernel]:
    """Kernels whose names are stored as they are, as up to 2.6.9 and by OpenWrt; then those that lie compressed."""
    attempt = Attempt()
    word_sizes = _word_sizes(memory)
    found = False
    streams = 0
    for low, high in name_regions(memory):
        kernel = _best_of(memory, recover_early(memory, low, word_sizes, attempt), attempt)
        if kernel and not _pointed_at(kernel):
            # numbers in order, how many there are and as many strings alone are no proof
            kernel = None
        if kernel is None and streams < MAX_STREAMS and holds_entries(memory.read(low, high - low)):
            streams += 1
            kernel = _best_of(memory, recover_uncompressed(memory, low, high, word_sizes, attempt), attempt)
        if kernel:
            found = True
            yield kernel
    if attempt.rank:
        failed.append(attempt)
    # a table that is there but damaged is worth more than the tables of another kernel, even of the same build
    if not found and memory.image is None and max((one.rank for one in failed), default=0) < WITH_NAMES:
        # a firmware holds its kernel so; but nothing tells it from a machine's memory with a file in it
        detail = "none was found in the source itself; this one lies compressed in it"
        for inner in payloads(memory):
            for kernel in _kernels(inner, failed, None):
                yield replace(kernel, evidence=(*kernel.evidence, Check.that("running kernel", False, detail)))


def _laid_out(ways: Iterable[Arrangement], near: Segment, tokens: TokenTable) -> Kernel | None:
    """The kernel if the memory is bare RAM, in the first of the ways to lay it out in which it is proven."""
    for arrangement in ways:
        place = near.start + tokens.offset
        there = Segment(near.start + arrangement.address(place) - place, near.data)
        segment, moved_tokens = _surrounded(arrangement.memory, there, tokens)
        found = _best(arrangement.memory, segment, moved_tokens, Attempt(), recover_tables)
        if found is not None and found.proven and found.lists >= ENOUGH_LISTS and arrangement.named_by(found):
            return replace(found, evidence=(*found.evidence, arrangement.check))
    return None


def _displaced(memory: Memory, segment: Segment, tokens: TokenTable, kernel: Kernel, hosted: bool) -> Kernel | None:
    """A kernel that no page table maps where it lies, in memory with its true addresses; None if that has none.

    It must have many lists: a few close within a copy of a kernel's image and what was beside it.

    Args:
        memory: the source.
        segment: where the kernel was found.
        tokens: its token table.
        kernel: what was made of it without that.
        hosted: whether another kernel runs, without a displacement: then this one is its guest.
    """
    for displacement in displacements(memory, kernel):
        # what the container says of processors is about the host's
        memory_there = replace(memory.moved(-_signed(displacement)), hints=Hints())
        there = Segment(segment.start - _signed(displacement), segment.data)
        found = _best(memory_there, there, tokens, Attempt(), recover_tables)
        if found is None or found.lists < ENOUGH_LISTS:
            continue
        detail = f"the source holds this machine's memory {_signed(displacement):+#x} from its physical addresses"
        check = Check.that("displacement", True, detail)
        state = State.GUEST if hosted else State.RUNNING
        return replace(found, state=state, evidence=(*found.evidence, check))
    return None


def _signed(displacement: int) -> int:
    return displacement - (1 << 64) if displacement >> 63 else displacement


def _surrounded(memory: Memory, near: Segment, tokens: TokenTable) -> tuple[Segment, TokenTable]:
    """As much of the memory as an image takes around a token table, and the table in it."""
    whole = memory.around(near.start + tokens.offset, BEFORE, AFTER)
    return whole, moved(tokens, near.start - whole.start)


def _lone(memory: Memory, places: list[int]) -> Iterator[tuple[Segment, TokenTable, Attempt]]:
    """The token tables among places with digits that no index follows."""
    found = 0
    for place in places:
        segment = memory.window(place, WITHIN + NEAR, WITHIN + NEAR)
        for tokens in lone_token_tables(segment, place - segment.start, WITHIN):
            found += 1
            if found > MAX_TOKEN_TABLES:
                raise RecoveryError("token table", f"over {MAX_TOKEN_TABLES:,} without an index: a contrived source")
            yield segment, tokens, Attempt()


def _partly_lost(memory: Memory, places: list[int]) -> Iterator[tuple[Segment, TokenTable, Attempt]]:
    """The token tables of which only a part is left: those before an index, and those around digits.

    Looked for where no other kernel runs: it takes a pass over all memory.
    """
    parts = chain(_before_indices(memory), _around_digits(memory, places))
    yield from ((near, tokens, Attempt()) for near, tokens in islice(parts, MAX_PARTS))


def _before_indices(memory: Memory) -> Iterator[tuple[Segment, TokenTable]]:
    for stretch in memory.segments:
        for offset, byte_order in token_indices(stretch):
            near = memory.around(stretch.start + offset, NEAR, NEAR)
            if tokens := table_before(near, stretch.start + offset - near.start, byte_order):
                yield near, tokens


def _around_digits(memory: Memory, places: list[int]) -> Iterator[tuple[Segment, TokenTable]]:
    for place in places:
        near = memory.around(place, NEAR, NEAR)
        for tokens in cut_token_tables(near, place - near.start):
            yield near, tokens


def _best(memory: Memory, segment: Segment, tokens: TokenTable, attempt: Attempt, solver: Solver) -> Kernel | None:
    """The best of the kernels that one token table can belong to; None if its landmarks contradict all of them."""
    return _best_of(memory, solver(segment, tokens, _word_sizes(memory), attempt), attempt)


def _best_of(memory: Memory, candidates: Iterator[Tables], attempt: Attempt) -> Kernel | None:
    """The best of the kernels that some tables can be; None if landmarks contradict all of them."""
    best: Kernel | None = None
    most = -1.0
    scattered = Readings(memory)
    for tables in islice(candidates, MAX_CANDIDATES):
        if tables.array.adrift and best is not None and best.proven:
            # a base that is there before one that has to be found
            continue
        if tables.layout is Layout.LOOSE and scattered.unmistakable:
            break
        found = f"{tables.count} symbols, addresses at {tables.array_address:#x}"
        attempt.reached(4, "placement", f"{found}, but nothing tells where they are mapped")
        for placement in placements(memory, tables):
            landmarks = tuple(landmark_checks(memory, tables, placement))
            if not proven(landmarks):
                # addresses that point past what we can see are wrong: better none than these
                failed = next(check for check in landmarks if check.outcome is Outcome.FAILED)
                attempt.reached(5, "landmarks", f"{found}, but {failed.name} {failed.detail}")
                continue
            if tables.layout is not Layout.USUAL:
                if not scattered.add(tables, placement, landmarks):
                    attempt.reached(5, "landmarks", f"{found}, but nothing that they name or point at bears it out")
                continue
            kernel = _kernel(memory, tables, placement, landmarks)
            if kernel.proven and _unmistakable(kernel):
                return kernel
            # of readings that nothing tells apart but their pointers, the one that most of them bear out
            if best is None or (*_merit(kernel), weight(placement)) > (*_merit(best), most):
                best, most = kernel, weight(placement)
    clearest = scattered.clearest()
    return best if clearest is None else _kernel(memory, clearest.tables, clearest.placement, clearest.landmarks)


def _word_sizes(memory: Memory) -> Sequence[int]:
    """The word sizes to try: all, unless a header says which architecture an image is of."""
    architecture = memory.image.architecture if memory.image else None
    known = {mode.word_size for mode in MODES if mode.architecture == architecture}
    known |= {window.word_size for window in WINDOWS if window.architecture == architecture}
    return sorted(known, reverse=True) or WORD_SIZES


def _unmistakable(kernel: Kernel) -> bool:
    """Whether things that symbols name were seen where they say: another word size, or an array that begins one entry
    later, would not have that."""
    return any(check.name in LANDMARKS and check.outcome is Outcome.PASSED for check in kernel.evidence)


def _pointed_at(kernel: Kernel) -> bool:
    """Whether words of the image equal symbols."""
    return any(check.name == "pointers to symbols" and check.outcome is Outcome.PASSED for check in kernel.evidence)


def _merit(kernel: Kernel) -> tuple[bool, bool, int]:
    failed = sum(check.outcome is Outcome.FAILED for check in kernel.evidence)
    return kernel.proven, kernel.state is State.RUNNING, -failed


def _state(memory: Memory, placement: Placement, slide: int | None) -> State:
    """What the kernel is, as far as its image tells."""
    if memory.image is not None:
        return State.IMAGE
    if placement.running or memory.space is AddressSpace.VIRTUAL:
        # what virtual addresses lead to, and points to itself through them, is no copy
        return State.RUNNING
    return State.STALE if placement.ran or slide else State.IMAGE


def _kernel(memory: Memory, tables: Tables, placement: Placement, landmarks: tuple[Check, ...]) -> Kernel:
    symbols = placement.symbols
    info, agreement = vmcoreinfo_check(memory, tables, placement)
    cpus = processor_checks(memory, tables, placement)
    base = next((s.address for name in ("_text", "_stext") for s in symbols.all(name)), None)
    architecture = placement.mapping.architecture if placement.mapping else None
    if architecture is None and memory.image is not None:
        architecture = memory.image.architecture
    slide = kaslr_slide(memory, placement, info)
    banner = read_banner(memory, symbols, placement) or nearest_banner(memory, tables.array_address)
    return Kernel(
        symbols=symbols,
        evidence=(*tables.checks, *placement.checks, *landmarks, *cpus, agreement),
        state=_state(memory, placement, slide),
        byte_order=tables.byte_order,
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
        paging=placement.mapping.name if placement.mapping else None,
        memory=memory,
        distance=placement.distance,
        damage=tables.damage,
        lists=placement.lists,
    )
