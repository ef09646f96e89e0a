"""Recover the kernels of a memory: find tables, place them, and check them against the whole source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, tee
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import STRETCH_STEP, WorkBudget
from kallsift.errors import RecoveryError, Step
from kallsift.kallsyms.evidence import Check, CheckId
from kallsift.kallsyms.format.token_table import TokenTable, lone_token_tables, moved
from kallsift.kallsyms.recovered_tables import Attempt, Tables
from kallsift.kernel.checks.cpu_registers import REGISTER_CHECKS
from kallsift.kernel.checks.processes import lacks_processes
from kallsift.kernel.checks.relocated import as_built
from kallsift.kernel.kernel import Kernel, State
from kallsift.kernel.placement.pointers import ENOUGH_LISTS
from kallsift.kernel.recovery.candidates import (
    SharedWork,
    Solver,
    best_at,
    best_of,
    pointed_at,
    running_at,
    surrounded,
    word_sizes,
)
from kallsift.kernel.recovery.others import beside_others, tables_at, with_role
from kallsift.kernel.recovery.rivals import settled
from kallsift.kernel.recovery.roles import may_lack_hole, ram_end
from kallsift.kernel.recovery.search_order import priority_ranges
from kallsift.kernel.recovery.token_search import NEAR, TokenSearch
from kallsift.kernel.recovery.unplaced import unplaced_kernel
from kallsift.memory.memory import BytesSegment, Memory

# Modules that are needed only if the usual tables lead to no proven kernel are imported where they are used: to import
# all of them takes as long as to recover an undamaged kernel.
if TYPE_CHECKING:
    from kallsift.kernel.ram.layout_candidates import Arrangement

Progress = Callable[[str, int, int], None]
"""A function that is called with the name of the step, the work done, and the work in all."""

MIN_FALLBACKS = 2
"""Number of token tables around which damaged or scattered tables are searched, even if the budget is spent."""

MAX_FALLBACK_COST = 1 << 32
"""Highest number of bytes that may be passed over to try all ways to read the tables around one token table: a damaged
kernel's have two or three, each of which takes less than 1 << 27."""

FALLBACK_COST, LONE_COST, CUT_COST, IN_FILE_COST = 1 << 30, 1 << 27, 1 << 20, 1 << 25
"""Bytes that could be passed over to search for damaged or scattered tables around a token table, for the index of one
without an index, for the rest of a damaged one, and for the beginning of an image around one."""

PASSES = 32
"""Number of times that all bytes of a small source could be passed over meanwhile."""

MAX_IMAGES = 16
"""Highest number of images in a file that are searched further if no kernel runs."""

MAX_HARDER = 64
"""Highest number of token tables that are followed further although no usual tables are around them."""

_Harder = tuple[BytesSegment, TokenTable, Attempt]
"""The bytes around a token table, the table, and the attempt that says which step was reached."""

WITH_NAMES = 2
"""Rank of an attempt that reached names that markers prove."""

MAX_STREAMS = 64
"""Highest number of regions of plain names with lengths that are followed where there is no token table."""


def recover(memory: Memory, *, progress: Progress | None = None, budget: WorkBudget | None = None) -> Kernel:
    """Recover the running kernel; the search ends as soon as it is proven.

    Args:
        memory: physical memory.
        progress: called with the progress of the search.
        budget: the work that the search may cost; None for the default of a source of this size.

    Returns:
        The running kernel, or, if none can be shown to run, the best candidate, with another state.

    Raises:
        RecoveryError: if no table could be recovered; it names the step that failed.
    """
    found: list[Kernel] = []
    failed: list[Attempt] = []
    met: list[Kernel] = []
    budget = budget or WorkBudget.of(memory.stored_size)
    search = _Search(memory, failed, budget, progress, priority_ranges(memory), met)
    for kernel in map(as_built, search.kernels()):
        if kernel.proven:
            kernel = _with_all_ram(memory, kernel)
            # if the RAM was laid out anew, the addresses of the others belong to another layout
            chosen = beside_others(kernel, met if kernel.memory is memory else [])
            if chosen.proven:
                return chosen
            kernel = chosen
        found.append(kernel)
    best, *others = _ranked(memory, found, failed, budget)
    return replace(best, others=tuple(other.state for other in others))


def recover_all(
    memory: Memory, *, progress: Progress | None = None, budget: WorkBudget | None = None
) -> tuple[Kernel, ...]:
    """Recover every kernel whose table is whole, running ones first.

    `Kernel.left_out` tells what was left out if the budget was spent before the end.

    Raises:
        RecoveryError: as `recover`.
    """
    failed: list[Attempt] = []
    budget = budget or WorkBudget.of(memory.stored_size)
    # the kernel that runs first: what is left of the budget is for the others
    kernels = map(as_built, _Search(memory, failed, budget, progress, priority_ranges(memory)).kernels())
    found = [with_role(_with_all_ram(memory, kernel)) for kernel in kernels]
    return _ranked(memory, settled(found), failed, budget)


def _ranked(memory: Memory, kernels: list[Kernel], failed: list[Attempt], budget: WorkBudget) -> tuple[Kernel, ...]:
    """Return the kernels, proven ones first.

    If none is proven, their evidence names the table that came furthest and could not be recovered: it may be the
    running kernel's.
    """
    furthest = max(failed, key=lambda attempt: attempt.rank, default=Attempt())
    if not kernels:
        alone = [unplaced_kernel(memory, attempt.unplaced) for attempt in failed]
        if not any(alone):
            raise RecoveryError(furthest.step, "; ".join(filter(None, (furthest.message, budget.left_out))))
        kernels = [kernel for kernel in alone if kernel is not None]
        return tuple(replace(kernel, left_out=budget.left_out) for kernel in kernels)
    if failed and not any(kernel.proven for kernel in kernels):
        lost = Check.that(CheckId.OTHER_TABLES, False, f"{furthest.step}: {furthest.message}", essential=False)
        kernels = [replace(kernel, evidence=(*kernel.evidence, lost)) for kernel in kernels]
    kernels.sort(key=lambda kernel: (not kernel.proven, kernel.state is not State.RUNNING))
    return tuple(replace(kernel, left_out=budget.left_out) for kernel in kernels)


@dataclass(eq=False)
class _Search:
    """The search of one memory for kernels.

    Attributes:
        memory: what is searched.
        failed: list that gets the attempts that led to no kernel.
        budget: limit of the work.
        progress: function that shows how much is done; None for no display.
        first: ranges of addresses that are searched before all others.
        met: list that gets each kernel as soon as it is found.
        shared: results that several steps use.
        search: search for token tables.
        harder: token tables that the usual solver led to no kernel.
        images: searches of image files around such token tables, by address and byte order of the token table.
        told: ways to lay out the memory that something in it tells.
        hosted: true if a running kernel was found.
        found: true if any kernel was found.
        is_proven: true if a proven kernel was found.
    """

    memory: Memory
    failed: list[Attempt]
    budget: WorkBudget
    progress: Progress | None = None
    first: Iterable[tuple[int, int]] = ()
    met: list[Kernel] | None = None
    shared: SharedWork = field(default_factory=SharedWork)
    search: TokenSearch = field(init=False)
    harder: list[_Harder] = field(default_factory=list)
    images: dict[tuple[int, str], list[_Search]] = field(default_factory=dict)
    told: list[Arrangement] = field(default_factory=list)
    hosted: bool = False
    found: bool = False
    is_proven: bool = False

    def __post_init__(self) -> None:
        progress = self.progress
        scanned = (lambda done, total: progress("searching for token tables", done, total)) if progress else None
        self.search = TokenSearch(self.memory, self.budget, scanned, self.first)

    def kernels(self) -> Iterator[Kernel]:
        """Yield kernels whose tables lie as usual, in the order of `TokenSearch`; then those that take longer."""
        yield from self.usual()
        yield from self.rest()

    def usual(self) -> Iterator[Kernel]:
        """Yield kernels whose tables lie as usual, whatever they belong to."""
        memory, budget, shared = self.memory, self.budget, self.shared
        unmapped: list[tuple[BytesSegment, TokenTable, Kernel]] = []
        bare: list[tuple[BytesSegment, TokenTable, Kernel]] = []
        for near, tokens in self.search.tables():
            attempt = Attempt(budget=budget)
            if kernel := best_at(memory, *surrounded(memory, near, tokens), attempt, shared):
                self.found = True
                self.is_proven |= kernel.proven
                if self.met is not None:
                    self.met.append(kernel)
                if kernel.state is State.STALE:
                    unmapped.append((near, tokens, kernel))
                elif kernel.state is State.IMAGE and not kernel.proven:
                    bare.append((near, tokens, kernel))
                else:
                    self.hosted |= kernel.state is State.RUNNING
                    yield kernel
            else:
                self.harder.append((near, tokens, attempt))
        # those that came furthest, and of these the ones that were found first
        self.harder.sort(key=lambda each: -each[2].rank)
        if len(self.harder) > MAX_HARDER:
            budget.leave_out("token tables without the tables around them", len(self.harder) - MAX_HARDER)
            del self.harder[MAX_HARDER:]
        if bare or self.harder:
            yield from self._noted(self._bare(bare))
        ways = _arrangements(memory) if unmapped or self.harder else ()
        self.told = [way for way in ways if way.told]
        for near, tokens, kernel in unmapped:
            if not budget.take("kernels that may lie elsewhere", min(LONE_COST, PASSES * memory.stored_size)):
                yield kernel
                continue
            yield (
                _laid_out(ways, near, tokens, shared)
                or _displaced(memory, *surrounded(memory, near, tokens), kernel, self.hosted, shared)
                or kernel
            )
        # what lies behind a gap that is no multiple of pages is not even placed, unless something says how large it is
        for each in tuple(self.harder if self.told else ()):
            if kernel := _laid_out(self.told, *each[:2], shared):
                self.found = True
                self.harder.remove(each)
                yield kernel

    def rest(self) -> Iterator[Kernel]:
        """Yield kernels whose tables are damaged or lie elsewhere; where there are none, those without token tables."""
        yield from self._noted(self._damaged())
        if not self.found:
            yield from _without_tokens(self.memory, self.failed, self.budget, self.shared)

    def _noted(self, kernels: Iterator[Kernel]) -> Iterator[Kernel]:
        for kernel in kernels:
            self.found = True
            yield kernel

    def _damaged(self) -> Iterator[Kernel]:
        """Yield kernels of token tables around which tables are not as usual, or of which only a part is left."""
        memory, budget = self.memory, self.budget
        sources = (
            lambda: self.harder,
            lambda: _lone(memory, self.search.lone, budget),
            lambda: () if self.hosted else _partly_lost(memory, self.search.cut, budget),
        )
        tried = 0
        # a token table amid the tables of a kernel that runs is a page of it that stands twice
        taken: list[range] = []
        for near, tokens, attempt in chain.from_iterable(source() for source in sources):
            cost = min(FALLBACK_COST, PASSES * memory.stored_size)
            # of seamless tables it is what would tell where they are mapped that lacks
            if (
                attempt.is_seamless
                or any(near.start + tokens.offset in span for span in taken)
                or (tried >= (0 if self.is_proven else MIN_FALLBACKS) and not budget.take("damaged tables", cost))
            ):
                self.failed.append(attempt)
                continue
            tried += 1
            if self.progress:
                self.progress("looking at damaged tables", tried, 0)
            kernel = self._closer(near, tokens, attempt)
            if kernel is None:
                self.failed.append(attempt)
                continue
            if kernel.state is State.RUNNING:
                self.hosted = True
                taken += _extent(memory, kernel)
            yield kernel

    def _closer(self, near: BytesSegment, tokens: TokenTable, attempt: Attempt) -> Kernel | None:
        """Return the kernel of a token table with damaged or scattered tables; of an image in a file if none runs."""
        kernel = _damaged_at(self.memory, near, tokens, attempt, self.shared)
        if left_out := attempt.budget.refused.total() if attempt.budget else 0:
            self.budget.leave_out("ways to read damaged tables", left_out)
        images = self.images.pop((near.start + tokens.offset, tokens.byte_order), [])
        if self.hosted or (kernel and kernel.state is State.RUNNING):
            return kernel
        for search in images:
            if image := next((image for image in search.rest() if image.is_placed), None):
                return self._where_it_belongs(image, near, tokens)
        return kernel

    def _where_it_belongs(self, image: Kernel, near: BytesSegment, tokens: TokenTable) -> Kernel:
        """Return the kernel of an image in a file in memory with its true addresses, if it ran there."""
        from kallsift.kernel.recovery.bare_image import doubted

        # what ran is no file: it may be RAM of which firmware tells where it belongs
        ways = self.told if as_built(image).state is State.STALE else []
        return _laid_out(ways, near, tokens, self.shared) or doubted(image, self.memory)

    def _bare(self, bare: list[tuple[BytesSegment, TokenTable, Kernel]]) -> Iterator[Kernel]:
        """Yield kernels that lie in a file as they were built, at any offset.

        Args:
            bare: token tables with what was made of them: kernels of image files that are not proven.
        """
        from kallsift.image.embedded import bare_headers
        from kallsift.kernel.recovery.bare_image import doubted, flat_image, without_headers

        memory = self.memory
        # an image in the memory of a kernel that runs is but a copy
        flat = None if self.hosted else flat_image(memory)
        headers = np.empty(0, np.int64)
        if flat is not None and memory.is_headerless:
            (segment,) = flat.segments
            assert isinstance(segment, BytesSegment)
            places = [near.start + tokens.offset for near, tokens, _ in (*bare, *self.harder)]
            headers = bare_headers(segment, places, self.budget)
        for near, tokens, kernel in bare:
            image = self._in_file(flat, near.start + tokens.offset, tokens, headers)
            yield doubted(image, memory) if image and (image.proven or memory.is_headerless) else kernel
        for each in tuple(self.harder):
            near, tokens, _ = each
            if image := self._in_file(flat, near.start + tokens.offset, tokens, headers):
                self.harder.remove(each)
                if not self.told and as_built(image).state is State.STALE:
                    self.told = [way for way in _arrangements(memory) if way.told]
                yield self._where_it_belongs(image, near, tokens)
        if self.harder and (unheaded := without_headers(memory)) is not None:
            kernels = [kernel for kernel in _Search(unheaded, [], self.budget).kernels() if kernel.proven]
            if kernels:
                self.harder.clear()
            yield from kernels

    def _in_file(
        self, flat: Memory | None, place: int, tokens: TokenTable, headers: NDArray[np.int64]
    ) -> Kernel | None:
        """Return the kernel of an image that lies in a file, behind a header of its own or none; None without a file.

        Its tables must be whole. What may be a damaged one is noted.
        """
        if flat is None or not self.budget.take("token tables in a file", min(IN_FILE_COST, flat.stored_size)):
            return None
        from kallsift.image.unpack import bare_at
        from kallsift.kernel.recovery.bare_image import image_around

        for inner in bare_at(flat, place, headers, self.budget):
            # as it is judged in a file of its own
            search = _Search(inner, [], self.budget)
            if kernel := next((kernel for kernel in search.usual() if kernel.is_placed), None):
                return kernel
            if sum(map(len, self.images.values())) < MAX_IMAGES:
                self.images.setdefault((place, tokens.byte_order), []).append(search)
        return image_around(flat, place, tokens, self.shared)


def _damaged_at(
    memory: Memory, near: BytesSegment, tokens: TokenTable, attempt: Attempt, shared: SharedWork
) -> Kernel | None:
    """Return the best kernel of a token table with damaged tables around it, or scattered ones; None if there is none.

    Args:
        memory: the source.
        near: what is near the token table.
        tokens: the table.
        attempt: is told how far it came, and gets a budget of its own: a part of one is paid for, unless it is
            contrived.
        shared: results that several steps use.
    """
    from kallsift.kallsyms.damaged.solver import recover_damaged
    from kallsift.kallsyms.solvers.scattered import WITHIN, recover_anywhere

    attempt.budget = WorkBudget(MAX_FALLBACK_COST, MAX_FALLBACK_COST)
    # of a table that is partly lost the begin may be missing, but then its index is not
    anchor = tokens.offset if tokens.index_offset is None else tokens.index_offset
    whole = memory.around(near.start + anchor, WITHIN, WITHIN)
    there = moved(tokens, near.start - whole.start)
    kernel = _best_read(memory, whole, there, attempt, recover_damaged, shared)
    if kernel is None and tokens.known is None:
        # what seems to be damaged may lie elsewhere, but then nothing else may speak for damage
        elsewhere = Attempt(budget=attempt.budget) if attempt.damaged else attempt
        kernel = _best_read(memory, *surrounded(memory, near, tokens), elsewhere, recover_anywhere, shared)
        if attempt.damaged and kernel is not None and not kernel.proven:
            kernel = None
    return kernel


def _extent(memory: Memory, kernel: Kernel) -> Iterator[range]:
    """Yield from where to where a kernel's tables lie in a source, if they lie there."""
    if kernel.memory is memory and kernel.tables:
        yield range(
            min(table.physical for table in kernel.tables),
            max(table.physical + table.size for table in kernel.tables),
        )


def _best_read(
    memory: Memory, segment: BytesSegment, tokens: TokenTable, attempt: Attempt, solver: Solver, shared: SharedWork
) -> Kernel | None:
    """Return the best kernel of a token table.

    It is read as that of an image file if a machine's memory shows none.
    """
    # the tables are the same for the memory and its flat image, because both have the same architecture
    readings = iter(tee(solver(segment, tokens, word_sizes(memory), attempt)))
    return _best_of(memory, lambda _: next(readings), attempt, shared)


def _best_of(
    memory: Memory, find: Callable[[Memory], Iterator[Tables]], attempt: Attempt, shared: SharedWork
) -> Kernel | None:
    """Return the best kernel of some tables.

    They are read as those of an image file if a machine's memory shows none.
    """
    kernel = best_of(memory, find(memory), attempt, shared)
    if not memory.is_headerless or (kernel and (kernel.proven or kernel.state is not State.IMAGE)):
        return kernel
    from kallsift.kernel.recovery.bare_image import flat_image, is_file

    flat = flat_image(memory) if is_file(memory) else None
    image = best_of(flat, find(flat), Attempt(budget=attempt.budget), shared) if flat else None
    return image if image and image.proven else kernel


def _without_tokens(memory: Memory, failed: list[Attempt], budget: WorkBudget, shared: SharedWork) -> Iterator[Kernel]:
    """Yield kernels whose names are stored plain, then those that lie compressed.

    Names are stored plain up to 2.6.9 and by OpenWrt.
    """
    from kallsift.kallsyms.solvers.before_2_6_10 import recover_early
    from kallsift.kallsyms.solvers.identifier_regions import name_regions
    from kallsift.kallsyms.solvers.modutils import recover_modutils
    from kallsift.kallsyms.solvers.uncompressed import holds_entries, recover_uncompressed

    attempt = Attempt()
    sizes = word_sizes(memory)
    found = False
    streams = 0
    find_modutils = partial(recover_modutils, word_sizes=sizes, attempt=attempt, budget=budget)
    if kernel := _best_of(memory, find_modutils, attempt, shared):
        found = True
        yield kernel
    for low, high in name_regions(memory):
        kernel = _best_of(memory, partial(recover_early, low=low, word_sizes=sizes, attempt=attempt), attempt, shared)
        if kernel and not pointed_at(kernel):
            # numbers in order, their count and as many strings are no proof without pointers
            kernel = None
        if kernel is None and streams < MAX_STREAMS and holds_entries(memory.around(low, 0, high - low).data):
            streams += 1
            find = partial(recover_uncompressed, low=low, high=high, word_sizes=sizes, attempt=attempt)
            kernel = _best_of(memory, find, attempt, shared)
        if kernel:
            found = True
            yield kernel
    if not found and not attempt.rank and not failed and (memory.image is not None or memory.is_headerless):
        from kallsift.kernel.recovery.bare_image import is_file
        from kallsift.kernel.recovery.refusal import recognised

        text = recognised(memory) if memory.image is not None or is_file(memory) else None
        if text is not None:
            attempt.step, attempt.message = Step.NO_SYMBOL_TABLE, text
            failed.append(attempt)
    if attempt.rank:
        failed.append(attempt)
    # a damaged table in the source is worth more than the tables of another, packed kernel, even of the same build
    if not found and memory.image is None and max((one.rank for one in failed), default=0) < WITH_NAMES:
        yield from _packed(memory, failed, budget)


def _packed(memory: Memory, failed: list[Attempt], budget: WorkBudget) -> Iterator[Kernel]:
    """Yield kernels that lie compressed in a source, as in firmware or a flash chip."""
    from kallsift.image.unpack import payloads
    from kallsift.kernel.recovery.bare_image import doubted, holds_other_banner

    for inner in payloads(memory, budget):
        for kernel in _Search(inner, failed, budget).kernels():
            yield doubted(kernel, memory, holds_other_banner(memory, inner))


def _arrangements(memory: Memory) -> tuple[Arrangement, ...]:
    """Return the ways to lay the memory out as bare RAM."""
    from kallsift.kernel.ram.layout_candidates import arrangements

    return tuple(arrangements(memory))


def _with_all_ram(memory: Memory, kernel: Kernel) -> Kernel:
    """Return a running kernel in memory with its true addresses.

    A kernel in front of a hole that the source leaves out is mapped where it lies, but the memory behind the hole is
    not.
    """
    if kernel.memory is not memory or not kernel.proven or not may_lack_hole(kernel):
        return kernel
    table = next((table for table in kernel.tables if table.name == "token_table"), None)
    ways = [way for way in _arrangements(memory) if way.told] if table is not None else []
    for near, tokens in tables_at(memory, table.physical) if ways and table is not None else ():
        if found := _laid_out(ways, near, tokens, SharedWork()):
            return found
    if not (end := ram_end(kernel)):
        return kernel
    detail = f"this kernel's RAM ends at {end:#x}, the source at {memory.segments[-1].end:#x}: what lies behind a hole"
    doubt = Check.that(CheckId.RAM, False, f"{detail} is not there, or at wrong addresses", essential=False)
    return replace(kernel, evidence=(*kernel.evidence, doubt))


def _laid_out(ways: Iterable[Arrangement], near: BytesSegment, tokens: TokenTable, shared: SharedWork) -> Kernel | None:
    """Return the kernel in the first layout of RAM in which it is proven, or None."""
    for arrangement in ways:
        place = near.start + tokens.offset
        there = BytesSegment(near.start + arrangement.address(place) - place, near.data)
        segment, moved_tokens = surrounded(arrangement.memory, there, tokens)
        found = running_at(arrangement.memory, segment, moved_tokens, shared)
        if found is not None and found.proven and found.lists >= ENOUGH_LISTS and arrangement.named_by(found):
            return replace(found, evidence=(*found.evidence, arrangement.check))
    return None


def _displaced(
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
        found = best_at(memory_there, there, tokens, Attempt(), shared)
        if found is None or found.lists < ENOUGH_LISTS or (hosted and lacks_processes(found)):
            continue
        detail = f"the source holds this machine's memory {-shift:+#x} from its physical addresses"
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


def _lone(memory: Memory, places: list[int], budget: WorkBudget) -> Iterator[tuple[BytesSegment, TokenTable, Attempt]]:
    """Yield the token tables among places with digits that no index follows."""
    for place in places:
        from kallsift.kallsyms.solvers.scattered import WITHIN

        if not budget.take("token tables without an index", min(LONE_COST, PASSES * memory.stored_size)):
            continue
        segment = memory.window(place, WITHIN + NEAR, WITHIN + NEAR)
        for tokens in lone_token_tables(segment, place - segment.start, WITHIN):
            yield segment, tokens, Attempt()


def _partly_lost(
    memory: Memory, places: list[int], budget: WorkBudget
) -> Iterator[tuple[BytesSegment, TokenTable, Attempt]]:
    """Yield token tables of which a part survives: before an index, or around digits.

    They are searched where no other kernel runs, because it takes a pass over all memory.
    """
    parts = chain(_before_indices(memory, budget), _around_digits(memory, places, budget))
    yield from ((near, tokens, Attempt()) for near, tokens in parts)


def _before_indices(memory: Memory, budget: WorkBudget) -> Iterator[tuple[BytesSegment, TokenTable]]:
    from kallsift.kallsyms.damaged.token_table import table_before, token_indices

    for stretch in memory.segments:
        if not budget.take("runs of memory searched for indices", stretch.stored_size + STRETCH_STEP):
            continue
        for offset, byte_order in token_indices(stretch, budget):
            if not budget.take("indices without a token table", CUT_COST):
                break
            near = memory.around(stretch.start + offset, NEAR, NEAR)
            if tokens := table_before(near, stretch.start + offset - near.start, byte_order):
                yield near, tokens


def _around_digits(memory: Memory, places: list[int], budget: WorkBudget) -> Iterator[tuple[BytesSegment, TokenTable]]:
    from kallsift.kallsyms.damaged.token_table import cut_token_tables

    for place in places:
        if not budget.take("token tables that are cut", CUT_COST):
            continue
        near = memory.around(place, NEAR, NEAR)
        for tokens in cut_token_tables(near, place - near.start):
            yield near, tokens
