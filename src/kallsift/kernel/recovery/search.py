"""Recover the kernels of a memory: find tables, place them, and check them against the whole source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.errors import RecoveryError
from kallsift.kallsyms.evidence import Check, CheckId
from kallsift.kallsyms.format.token_table import TokenTable
from kallsift.kallsyms.recovered_tables import Attempt
from kallsift.kernel.checks.relocated import as_built
from kallsift.kernel.kernel import Kernel, State
from kallsift.kernel.recovery.candidates import SharedWork, best_at, cost_in, surrounded
from kallsift.kernel.recovery.others import beside_others, with_role
from kallsift.kernel.recovery.refusal import behind_the_end
from kallsift.kernel.recovery.rivals import settled
from kallsift.kernel.recovery.search_order import priority_ranges
from kallsift.kernel.recovery.token_search import TokenSearch
from kallsift.kernel.recovery.true_addresses import arrangements, at_physical_offset, laid_out, with_all_ram
from kallsift.kernel.recovery.unplaced import unplaced_kernel
from kallsift.memory.memory import Memory
from kallsift.memory.segments import BytesSegment

# Modules that are needed only if the usual tables lead to no proven kernel are imported where they are used: to import
# all of them takes as long as to recover an undamaged kernel.
if TYPE_CHECKING:
    from kallsift.kernel.ram.layout_candidates import Arrangement

Progress = Callable[[str, int, int], None]
"""A function that is called with the name of the step, the work done, and the work in all."""

MIN_FALLBACKS = 2
"""Number of token tables around which damaged or scattered tables are searched, even if the budget is spent."""

FALLBACK_COST, LAYOUT_COST, IN_FILE_COST = 1 << 30, 1 << 27, 1 << 25
"""Bytes that could be passed over to search for damaged or scattered tables around a token table, for a kernel in
memory with its true addresses, and for the beginning of an image around a token table."""

MAX_IMAGES = 16
"""Highest number of images in a file that are searched further if no kernel runs."""

MAX_HARDER = 64
"""Highest number of token tables that are followed further although no usual tables are around them."""

_Harder = tuple[BytesSegment, TokenTable, Attempt]
"""The bytes around a token table, the table, and the attempt that says which step was reached."""

WITH_NAMES = 2
"""Rank of an attempt that reached names that markers prove."""


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
    search = _KernelSearch(memory, failed, budget, progress, priority_ranges(memory), met)
    for kernel in map(as_built, search.kernels()):
        if kernel.proven:
            kernel = with_all_ram(memory, kernel)
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
    kernels = map(as_built, _KernelSearch(memory, failed, budget, progress, priority_ranges(memory)).kernels())
    found = [with_role(with_all_ram(memory, kernel)) for kernel in kernels]
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
            reasons = (furthest.message, behind_the_end(memory), budget.left_out)
            raise RecoveryError(furthest.step, "; ".join(filter(None, reasons)))
        kernels = [kernel for kernel in alone if kernel is not None]
        return tuple(replace(kernel, left_out=budget.left_out) for kernel in kernels)
    if failed and not any(kernel.proven for kernel in kernels):
        lost = Check.that(CheckId.OTHER_TABLES, False, f"{furthest.step}: {furthest.message}", essential=False)
        kernels = [replace(kernel, evidence=(*kernel.evidence, lost)) for kernel in kernels]
    kernels.sort(key=lambda kernel: (not kernel.proven, kernel.state is not State.RUNNING))
    return tuple(replace(kernel, left_out=budget.left_out) for kernel in kernels)


@dataclass(eq=False)
class _KernelSearch:
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
        layouts: ways to lay out the memory that something in it tells.
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
    images: dict[tuple[int, str], list[_KernelSearch]] = field(default_factory=dict)
    layouts: list[Arrangement] = field(default_factory=list)
    hosted: bool = False
    found: bool = False
    is_proven: bool = False

    def __post_init__(self) -> None:
        progress = self.progress
        scanned = (lambda done, total: progress("searching for token tables", done, total)) if progress else None
        self.search = TokenSearch(self.memory, self.budget, scanned, self.first)

    def kernels(self) -> Iterator[Kernel]:
        """Yield kernels with adjacent tables in the order of `TokenSearch`, then others."""
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
        ways = arrangements(memory) if unmapped or self.harder else ()
        self.layouts = [way for way in ways if way.is_from_memory]
        for near, tokens, kernel in unmapped:
            if not budget.take("kernels that may lie elsewhere", cost_in(memory, LAYOUT_COST)):
                yield kernel
                continue
            yield (
                laid_out(ways, near, tokens, shared)
                or at_physical_offset(memory, *surrounded(memory, near, tokens), kernel, self.hosted, shared)
                or kernel
            )
        # what lies behind a gap that is no multiple of pages is not even placed, unless something says how large it is
        for each in tuple(self.harder if self.layouts else ()):
            if kernel := laid_out(self.layouts, *each[:2], shared):
                self.found = True
                self.harder.remove(each)
                yield kernel

    def rest(self) -> Iterator[Kernel]:
        """Yield kernels with damaged or scattered tables, or else without token tables."""
        yield from self._noted(self._damaged())
        if not self.found:
            from kallsift.kernel.recovery.without_tokens import without_tokens

            yield from self._noted(without_tokens(self.memory, self.failed, self.budget, self.shared))
        # a damaged table in the source is worth more than the tables of another, packed kernel, even of the same build
        furthest = max((attempt.rank for attempt in self.failed), default=0)
        if not self.found and self.memory.image is None and furthest < WITH_NAMES:
            yield from self._packed()

    def _noted(self, kernels: Iterator[Kernel]) -> Iterator[Kernel]:
        for kernel in kernels:
            self.found = True
            yield kernel

    def _damaged(self) -> Iterator[Kernel]:
        """Yield kernels of token tables around which tables are not as usual, or of which only a part is left."""
        from kallsift.kernel.recovery.fallback_tables import lone, partly_lost

        memory, budget = self.memory, self.budget
        sources = (
            lambda: self.harder,
            lambda: lone(memory, self.search.lone, budget),
            lambda: () if self.hosted else partly_lost(memory, self.search.cut, budget),
        )
        tried = 0
        # a token table amid the tables of a kernel that runs is a page of it that stands twice
        taken: list[range] = []
        for near, tokens, attempt in chain.from_iterable(source() for source in sources):
            cost = cost_in(memory, FALLBACK_COST)
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
        from kallsift.kernel.recovery.fallback_tables import damaged_at

        kernel = damaged_at(self.memory, near, tokens, attempt, self.shared)
        if left_out := attempt.budget.refused.total() if attempt.budget else 0:
            self.budget.leave_out("attempts to read damaged tables", left_out)
        images = self.images.pop((near.start + tokens.offset, tokens.byte_order), [])
        if self.hosted or (kernel and kernel.state is State.RUNNING):
            return kernel
        for search in images:
            if image := next((image for image in search.rest() if image.is_placed), None):
                return self._where_it_belongs(image, near, tokens)
        return kernel

    def _where_it_belongs(self, image: Kernel, near: BytesSegment, tokens: TokenTable) -> Kernel:
        """Return the kernel of an image in a file in memory with its true addresses, if it ran there."""
        from kallsift.kernel.recovery.bare_image import unverified

        # what ran is no file: it may be RAM of which firmware tells where it belongs
        ways = self.layouts if as_built(image).state is State.STALE else []
        return laid_out(ways, near, tokens, self.shared) or unverified(image, self.memory)

    def _bare(self, bare: list[tuple[BytesSegment, TokenTable, Kernel]]) -> Iterator[Kernel]:
        """Yield kernels that lie in a file as they were built, at any offset.

        Args:
            bare: token tables with what was made of them: kernels of image files that are not proven.
        """
        from kallsift.image.embedded import bare_headers
        from kallsift.kernel.recovery.bare_image import flat_image, unverified, without_headers

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
            yield unverified(image, memory) if image and (image.proven or memory.is_headerless) else kernel
        for each in tuple(self.harder):
            near, tokens, _ = each
            if image := self._in_file(flat, near.start + tokens.offset, tokens, headers):
                self.harder.remove(each)
                if not self.layouts and as_built(image).state is State.STALE:
                    self.layouts = [way for way in arrangements(memory) if way.is_from_memory]
                yield self._where_it_belongs(image, near, tokens)
        if self.harder and (unheaded := without_headers(memory)) is not None:
            kernels = [kernel for kernel in _KernelSearch(unheaded, [], self.budget).kernels() if kernel.proven]
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
            search = _KernelSearch(inner, [], self.budget)
            if kernel := next((kernel for kernel in search.usual() if kernel.is_placed), None):
                return kernel
            if sum(map(len, self.images.values())) < MAX_IMAGES:
                self.images.setdefault((place, tokens.byte_order), []).append(search)
        return image_around(flat, place, tokens, self.shared)

    def _packed(self) -> Iterator[Kernel]:
        """Yield kernels that lie compressed in a source, as in firmware or a flash chip."""
        from kallsift.image.unpack import payloads
        from kallsift.kernel.recovery.bare_image import holds_other_banner, unverified

        for inner in payloads(self.memory, self.budget):
            for kernel in _KernelSearch(inner, self.failed, self.budget).kernels():
                yield unverified(kernel, self.memory, holds_other_banner(self.memory, inner))


def _extent(memory: Memory, kernel: Kernel) -> Iterator[range]:
    """Yield from where to where a kernel's tables lie in a source, if they lie there."""
    if kernel.memory is memory and kernel.tables:
        yield range(
            min(table.physical for table in kernel.tables),
            max(table.physical + table.size for table in kernel.tables),
        )
