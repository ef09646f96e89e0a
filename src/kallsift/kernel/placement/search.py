"""Find the distance at which a kernel's image is mapped, from addresses in the source to virtual addresses.

Candidates for the distance come from the image's own pointers. A candidate holds if the kernel's own page table, or a
window of its processor, maps its tables at that distance. The direct map's alias of the same bytes never holds, because
nothing in an image points at its alias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from kallsift.arrays import distinct
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kallsyms.recovered_tables import Layout, Tables
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.placement.distance_checks import (
    NEIGHBOURS,
    PAGE_NEIGHBOURS,
    StringCount,
    count_strings,
    is_best_for_symbols,
    string_check,
)
from kallsift.kernel.placement.distances import (
    Candidate,
    Origin,
    given_candidates,
    image_candidates,
    landmark_candidates,
    pointer_candidates,
    self_pointer_candidates,
    string_candidates,
    unplaced_symbols,
)
from kallsift.kernel.placement.page_table import with_mapping
from kallsift.kernel.placement.placement import CHANCE, Placement, is_near
from kallsift.kernel.placement.pointer_targets import Hits, Targets, hits_on_symbols, targets
from kallsift.kernel.placement.pointers import AFTER, BEFORE, Words, pointers_between
from kallsift.kernel.placement.relative_base import with_base
from kallsift.kernel.placement.window_facts import SharedWindows, WindowFacts
from kallsift.memory.memory import AddressSpace, Memory

Wanted = Callable[[Placement], bool]
"""Tells whether a placement of which nothing is known but its symbols' addresses is worth to be looked at."""

MAX_OUTSIDE = 16 << 20
"""Highest distance in bytes of tables from the nearest symbol of their image: linker scripts place them in read-only
data beside the text. Where all memory is mapped at one distance, as on 32-bit processors, copies of tables elsewhere
seem to be mapped with the image."""

LEAST_HITS = 32
"""Number of distinct pointers, more than by chance, that must equal symbols before they prove anything."""


BOTH_SIDES = 16
"""Lowest share of an image's symbols, as a divisor, on either side of the address 0 that no image has: the end of the
address space is no place for one. A few lie there, such as arm's vectors at 0xffff0000."""

MANY_WORDS, SAMPLED = 1 << 20, 8
"""Number of words among the image's addresses from which on every so many-th of their values is looked at first; the
lab's kernels have 60,000 (s390x) to 540,000 (arm64)."""

SCRAMBLE = np.uint64(0x9E3779B97F4A7C15)
"""Factor that makes a lot of values, so that those that are looked at do not hang on how the words are laid out."""


def placements(
    memory: Memory,
    tables: Tables,
    shared: SharedWindows,
    *,
    is_running_only: bool = False,
    is_wanted: Wanted | None = None,
) -> Iterator[Placement]:
    """Yield the ways in which a kernel's image can be mapped, the likeliest first.

    Args:
        memory: the source.
        tables: what is to be placed.
        shared: what is known of the windows around tables.
        is_running_only: whether only kernels that run are of use; of the others less is found out then.
        is_wanted: asked before what takes long; None if all are.

    Yields:
        One placement for each distance that something in the source or its headers suggests. In an image, pointers to
        strings decide, if there are any.
    """
    words = Words(tables.word_size, tables.byte_order)
    facts = shared.facts(memory.around(tables.array_address, BEFORE, AFTER), words)
    if tables.array.needs_base:
        for based, base_check in with_base(memory, tables, facts):
            found = placements(memory, based, shared, is_running_only=is_running_only, is_wanted=is_wanted)
            for placement in found:
                yield placement.with_checks(base_check)
        return
    yield from _PlacementSearch(memory, tables, facts, is_running_only, is_wanted).placements()


def _ways(memory: Memory, tables: Tables, facts: WindowFacts) -> Iterator[Iterator[Candidate]]:
    """Yield the sources of candidates.

    Each is tried only if the candidates of those before it are only guesses.
    """
    yield given_candidates(memory)
    if memory.space is AddressSpace.VIRTUAL and memory.image is None:
        return
    yield self_pointer_candidates(facts)
    yield image_candidates(memory, tables, facts)
    if memory.image is not None and tables.layout is Layout.ADJACENT:  # too slow for each table of a dump
        yield pointer_candidates(tables, facts)
        yield string_candidates(tables, facts)


@dataclass(frozen=True, eq=False)
class _PlacementSearch:
    """The search for one kernel's placements; its attributes are the arguments of `placements`."""

    memory: Memory
    tables: Tables
    facts: WindowFacts
    is_running_only: bool
    is_wanted: Wanted | None

    def placements(self) -> Iterator[Placement]:
        """Yield what `placements` does."""
        memory, tables, facts = self.memory, self.tables, self.facts
        landmarks = {one.distance for one in landmark_candidates(tables, facts)} if memory.image else set()

        def proves(found: Placement) -> bool:
            # data that are mapped apart from the tables have strings of their own
            return memory.image is None or (found.has_strings and (not landmarks or found.distance in landmarks))

        unseen: list[Placement] = []
        # those of the ways before: had one of them a place, no further way would be gone, though nobody wants it
        unwanted: list[tuple[Candidate, SymbolTable, Targets]] = []
        tried: set[int] = set()
        for candidates in _ways(memory, tables, facts):
            is_proven, refused = False, len(unwanted)
            for candidate in candidates:
                if candidate.distance in tried:
                    continue
                tried.add(candidate.distance)
                if (located := self._located(candidate)) is None:
                    continue
                if self.is_wanted is not None and not self.is_wanted(
                    Placement(located[0], candidate.distance, facts.words, (candidate.reason,))
                ):
                    unwanted.append((candidate, *located))
                    continue
                before = (self._placed(*each) for each in unwanted[:refused])
                if any(found is not None and proves(found) for found in before):
                    return
                del unwanted[:refused]
                refused = 0
                found = self._placed(candidate, *located)
                if found is not None and (memory.image is None or found.has_strings):
                    is_proven |= proves(found)
                    yield found
                elif found is not None:
                    unseen.append(found)
            if is_proven:
                return
        remaining = (self._placed(*each) for each in unwanted) if unseen else ()
        if not any(found is not None and proves(found) for found in remaining):
            yield from unseen

    def _located(self, candidate: Candidate) -> tuple[SymbolTable, Targets] | None:
        """Return the symbols at one distance, and those of the image.

        None if these are fewer than others, if the tables lie outside of this image, or if it lies on both sides of the
        address 0: small numbers put self-relative symbols there, since many equal their own place, less a multiple of a
        page.
        """
        tables, words = self.tables, self.facts.words
        virtual = tables.array_address + candidate.distance
        symbols = unplaced_symbols(tables, virtual & words.mask)
        own = targets(symbols, is_near(symbols.addresses, words, virtual))
        if 2 * len(own) < len(symbols) or _is_around_zero(own):
            return None
        first, last = int(own.addresses[0]), int(own.addresses[-1])
        is_inside = (virtual - first + MAX_OUTSIDE) & words.mask <= last - first + 2 * MAX_OUTSIDE
        return (symbols, own) if is_inside else None

    def _placed(self, candidate: Candidate, symbols: SymbolTable, own: Targets) -> Placement | None:
        """Return the placement at one distance; None if the image speaks against it."""
        memory, tables, facts = self.memory, self.tables, self.facts
        hits, pointers = _confirmed(facts, own, tables, is_mapped=memory.image is None)
        if pointers is None:
            return None
        checks = candidate.reason, pointers
        placement = Placement(symbols, candidate.distance, facts.words, checks, hits=hits.count, code_bit=hits.code_bit)
        if memory.image is not None:
            return _in_image(tables, facts, placement, candidate)
        if memory.space is AddressSpace.VIRTUAL:
            absent = "not checked: the source has virtual addresses already"
            strings = string_check(_strings(facts, candidate.distance))
            return placement.with_checks(strings, Check(CheckId.PAGE_TABLE, Outcome.ABSENT, absent))
        return with_mapping(memory, tables, placement, facts.window, own, is_running_only=self.is_running_only)


def _is_around_zero(own: Targets) -> bool:
    """Tell whether an image lies at both ends of the address space.

    Neighbouring symbols are further apart then than any image reaches.
    """
    addresses = own.addresses
    if addresses[-1] - addresses[0] < BEFORE + AFTER:
        return False
    low = int(np.searchsorted(addresses, addresses[0] + np.uint64(BEFORE + AFTER)))
    return BOTH_SIDES * min(low, len(addresses) - low) >= len(addresses)


def _strings(facts: WindowFacts, distance: int) -> StringCount:
    """Count the pointers to strings at a distance, as `count_strings`."""
    start = facts.window.start + distance & facts.words.mask
    return facts.once_aligned(("strings", start), lambda: count_strings(facts.window, facts.words, distance))


def _in_image(tables: Tables, facts: WindowFacts, placement: Placement, candidate: Candidate) -> Placement | None:
    """Return the placement in a kernel image, or None.

    None if its pointers lead elsewhere, or if nothing at all confirms it.
    """
    strings = string_check(_strings(facts, candidate.distance))
    if strings.outcome is Outcome.FAILED:
        return None
    absent = "not checked: the source is a kernel image, which does not run"
    has_strings = strings.outcome is Outcome.PASSED
    unasked = (Check(name, Outcome.ABSENT, absent) for name in (CheckId.PAGE_TABLE, CheckId.ALIVE))
    placement = replace(placement, has_strings=has_strings).with_checks(strings, *unasked)
    if candidate.origin is Origin.IMAGE or has_strings:
        return placement
    if any(one.distance == candidate.distance for one in self_pointer_candidates(facts)):
        return placement  # headers gave the distance, and empty lists agree with them
    landmarks = [one.distance for one in landmark_candidates(tables, facts)]
    # the landmark by which the distance was found proves nothing more
    if landmarks.count(candidate.distance) > (candidate.origin is Origin.LANDMARK):
        return placement
    if candidate.origin is Origin.ASSUMPTION:
        return None
    detail = "nothing in the image confirms its address"
    return placement.with_checks(Check.that(CheckId.DISTANCE, False, detail))


def _confirmed(facts: WindowFacts, own: Targets, tables: Tables, *, is_mapped: bool) -> tuple[Hits, Check | None]:
    """Count the words of the image that equal symbols, and return the check.

    The check is None if they do not, although they must.

    Args:
        facts: facts of the image.
        own: the image's symbols.
        tables: the tables with the symbols.
        is_mapped: whether the image lies in memory that is mapped by pages; a kernel that ran there has such words.
    """
    offset, size = tables.array_address - facts.window.start, tables.array.size
    name = "pointers to symbols", offset, size, is_mapped

    def find() -> tuple[Hits, Check | None]:
        return _hits(facts, own, range(tables.array_address, tables.array_address + size), is_mapped=is_mapped)

    return facts.once_of(name, (own.addresses, own.code), find)


def _hits(facts: WindowFacts, own: Targets, array: range, *, is_mapped: bool) -> tuple[Hits, Check | None]:
    """Return the result of `_confirmed` for an array at a range of the source."""
    words = facts.words
    low, high = int(own.addresses[0]), min(int(own.addresses[-1]) + 1, words.mask)
    found = pointers_between(facts.window, words, low, high)
    # the table of addresses is left out, because it would confirm itself
    foreign = found.places - np.uint64(array.start) >= np.uint64(len(array))
    values = found.values[foreign]
    if len(values) > MANY_WORDS:
        # at low addresses most small numbers are such words; some of them tell that they do not equal symbols
        sampled = hits_on_symbols(values[values * SCRAMBLE < np.uint64((1 << 64) // SAMPLED)], own)
        if sampled.count < LEAST_HITS / SAMPLED + CHANCE * sampled.by_chance:
            return sampled, None
    values = distinct(values)
    hits = hits_on_symbols(values, own)
    inside = hits.distinct
    if hits.count >= LEAST_HITS + CHANCE * hits.by_chance:
        if not is_best_for_symbols(values, own, PAGE_NEIGHBOURS if is_mapped else NEIGHBOURS):
            return hits, None
        marked = ", those to code with bit 0 set" if hits.code_bit else ""
        detail = (
            f"{hits.count} of {inside} distinct pointers equal a symbol's address{marked}, "
            f"against {hits.by_chance:.0f} by chance"
        )
        return hits, Check.that(CheckId.POINTERS_TO_SYMBOLS, True, detail)
    if is_mapped or inside > LEAST_HITS:
        return hits, None
    detail = f"only {inside} words are addresses of the image: pointers are filled in when it boots"
    return hits, Check(CheckId.POINTERS_TO_SYMBOLS, Outcome.ABSENT, detail)
