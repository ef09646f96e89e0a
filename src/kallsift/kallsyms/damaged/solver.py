"""Recover tables of which some pages are lost: every symbol whose own bytes survive, and no wrong one.

Where pages are blank or overwritten, equations still hold for the rest: for groups of names between surviving markers,
for the order of the surviving addresses, and for the location of a table beside its neighbours in each release.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import Step
from kallsift.kallsyms.damaged.address_table import PartialAddressTable, arrays_left
from kallsift.kallsyms.damaged.address_trust import confirmed_by_pointers, in_long_rows
from kallsift.kallsyms.damaged.damage_context import DamageContext
from kallsift.kallsyms.damaged.index_assignment import asks_addresses, with_confirmed
from kallsift.kallsyms.damaged.ksymtab_pointers import SymbolNames
from kallsift.kallsyms.damaged.marker_resync import Entries, resync_from_markers
from kallsift.kallsyms.damaged.name_expansion import texts
from kallsift.kallsyms.damaged.name_stream import confirms_count, counted_streams, marked_streams, uncounted_streams
from kallsift.kallsyms.damaged.page_map import PAGE, Pages
from kallsift.kallsyms.damaged.partial_tables import PartialTables
from kallsift.kallsyms.damaged.seqs_of_names import Ranks
from kallsift.kallsyms.damaged.stream_layout import NameStreamLayout
from kallsift.kallsyms.damaged.unverified_pages import proven_entries
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kallsyms.format.token_table import TokenTable
from kallsift.kallsyms.recovered_tables import Attempt, Damage, TableExtent, Tables, in_order
from kallsift.kallsyms.solvers.adjacent import COUNT_SIZE, array_rows, token_rows
from kallsift.memory.segments import BytesSegment

ROUNDS = 4
"""Highest number of rounds in which overwritten pages are left out and the stream is read again."""


def recover_damaged(
    segment: BytesSegment, tokens: TokenTable, word_sizes: Sequence[int], attempt: Attempt
) -> Iterator[Tables]:
    """Yield the tables around a token table although pages are lost.

    What is lost is left unknown. See `kallsift.kallsyms.solvers.adjacent.recover_tables` for undamaged tables.

    Args:
        segment: the memory around the token table; memory that the source lacks is zero in it.
        tokens: the token table; its index may be lost.
        word_sizes: sizes of an address in bytes, in the order in which they are tried.
        attempt: the record of the furthest step that was reached.
    """
    here = f"token table at {segment.start + tokens.offset:#x}"
    context = DamageContext.of(segment, tokens, word_sizes)
    attempt.reached(1, Step.NAMES, f"{here}, but no markers near it fit a name stream")
    found = False

    def tables_of(stream: NameStreamLayout) -> Iterator[Tables]:
        nonlocal found
        placed: list[PartialAddressTable] = []
        attempt.reached(
            3, Step.ADDRESSES, f"{here} with {stream.count} names, pages of which are lost, but no addresses that fit"
        )
        entries, with_overwritten = _entries(context, stream)
        solver = _NameSolver(context, entries)
        # asked again for each size: a reading with the first one may show that no other is possible
        sizes = (size for size in word_sizes if attempt.running_word_size in (None, size))
        # overwritten pages are not left out here: a page of names and addresses may be one of them only because another
        # page is overwritten
        for left in chain.from_iterable(arrays_left(context, stream, size) for size in sizes):
            if any(_is_worse(left, other) for other in placed):
                continue
            if not stream.marked and not confirms_count(context, stream, left):
                continue
            found = True
            assembled = _assemble(PartialTables.of(with_overwritten, stream, left), solver)
            # where nothing is lost, damage is not why the tables were not found
            if any(one.lost for one in assembled.damage) or tokens.index_offset is None or tokens.known is not None:
                attempt.has_landmarks = False
                yield assembled
                if attempt.has_landmarks:
                    placed.append(left)

    for stream in marked_streams(context, attempt):
        yield from tables_of(stream)
        if found:
            return
    if not attempt.damaged:
        for streams in (counted_streams, uncounted_streams):
            for stream in streams(context):
                yield from tables_of(stream)
            if found:
                return


def _entries(context: DamageContext, stream: NameStreamLayout) -> tuple[Entries, DamageContext]:
    """Return the surviving entries, and the context with all lost pages, overwritten ones included."""
    for _ in range(ROUNDS):
        entries, suspects = resync_from_markers(context, stream)
        if not len(suspects):
            break
        context = context.with_pages(context.pages.without(suspects))
    return entries, context


def _is_worse(left: PartialAddressTable, placed: PartialAddressTable) -> bool:
    """Tell whether an array is another reading of one that has its place, but worse.

    It is worse if more pages contradict it. What is in order under one encoding is out of order under the others except
    by chance, page by page.
    """
    return (
        left.array.offset == placed.array.offset
        and len(left.overwritten) > len(placed.overwritten)
        and bool(np.count_nonzero(left.known) < np.count_nonzero(placed.known))
    )


@dataclass(frozen=True, eq=False)
class _KnownNames:
    """Names that are certain.

    Attributes:
        heads: offset of each entry's length in the segment's data, shape (n,); -1 where unknown.
        ends: offset behind its last code, shape (n,); -1 where unknown.
        characters: letters and names end to end.
        bounds: start of each symbol in ``characters``, and the end of the last one, shape (n + 1,).
    """

    heads: NDArray[np.int64]
    ends: NDArray[np.int64]
    characters: NDArray[np.uint8]
    bounds: NDArray[np.int64]

    @cached_property
    def names(self) -> SymbolNames:
        """The names without their letters."""
        return SymbolNames(texts(self.characters, self.bounds))


@dataclass(frozen=True, eq=False)
class _NameSolver:
    """The names of one stream, for all arrays of addresses that may belong to it.

    Work that all arrays have in common is done once.

    Attributes:
        context: the memory with the stream, and the pages that are lost for certain.
        entries: the entries of the stream, certain or not.
    """

    context: DamageContext
    entries: Entries
    _proven: list[Entries] = field(default_factory=list)
    _found: dict[tuple[object, ...], _KnownNames | None] = field(default_factory=dict)

    def proven(self, tables: PartialTables) -> Entries:
        """Return the entries of proven pages, and walks over all others.

        See `proven_entries`; it is called once.
        """
        if not self._proven:
            self._proven.append(proven_entries(self.context, tables.stream, self.entries))
        return self._proven[0]

    def known(self, tables: PartialTables, *, has_overwritten: bool) -> _KnownNames | None:
        """Return the names that other tables confirm, by `with_confirmed`.

        If ``has_overwritten``, only the entries of proven pages are taken as certain at first; otherwise the result is
        None if the certain names contradict their order.
        """
        entries = self.proven(tables) if has_overwritten else self.entries
        ranks, array = tables.ranks, tables.addresses.array
        key: tuple[object, ...] = (has_overwritten, ranks and (ranks.offset, ranks.entry_size))
        if asks_addresses(tables, entries):
            key += (array.offset, array.encoding.name, tables.addresses.word_size)
        if key not in self._found:
            found = with_confirmed(tables, entries, has_overwritten=has_overwritten)
            if found is None and has_overwritten:
                found = entries.heads, entries.ends
            self._found[key] = None if found is None else _KnownNames(*found, *tables.expanded(*found))
        return self._found[key]


def _assemble(tables: PartialTables, solver: _NameSolver) -> Tables:
    """Return the tables with every name that is certain.

    Args:
        tables: the surviving parts of the tables.
        solver: the names.
    """
    context, stream, left, ranks = tables.context, tables.stream, tables.addresses, tables.ranks
    segment, tokens, pages, blank = context.segment, context.tokens, context.pages, solver.context.pages
    has_overwritten = (
        (pages.lost & ~blank.lost).any() or len(left.overwritten) or (ranks is not None and ranks.inconsistent)
    )
    names = None if has_overwritten else solver.known(tables, has_overwritten=False)
    has_overwritten, trusted = names is None, in_long_rows(left, pages)
    if names is None:
        # if one page is overwritten, each may be
        names = solver.known(replace(tables, addresses=trusted), has_overwritten=True)
        assert names is not None
    heads, ends, bounds = names.heads, names.ends, names.bounds
    lost = pages.lost.copy()
    # a page between two overwritten ones was taken as lost until its names were placed
    lost[pages.number(heads[heads >= 0])] = False
    lost[left.overwritten] = True
    overwritten = int(np.count_nonzero(lost & ~blank.lost))
    left = confirmed_by_pointers(context, left, trusted, names.names, has_overwritten=has_overwritten)
    rows = [
        TableExtent(
            "names",
            stream.offset,
            max(int(ends.max(initial=stream.offset)) - stream.offset, *stream.values.tolist(), 1),
        ),
        TableExtent("markers", stream.end, stream.markers * stream.width),
        *token_rows(tokens),
        *array_rows(left.array, left.word_size),
    ]
    if stream.count_offset is not None:
        rows.append(TableExtent("num_syms", stream.count_offset, COUNT_SIZE))
    if ranks is not None:
        rows.append(TableExtent("seqs_of_names", ranks.offset, stream.count * ranks.entry_size))
    named = np.diff(bounds) > 0
    unknown = (int(np.count_nonzero(~named)), int(np.count_nonzero(~left.known)))
    whole = int(np.count_nonzero(named & left.known))
    damage = tuple(_damage(segment, Pages(pages.first, lost), in_order(*rows)))
    number = sum(len(one.lost) for one in damage)
    checks = (
        Check.that(
            CheckId.MARKERS,
            True,
            f"{len(stream.numbers)} of {stream.markers} markers survive; names are read from each",
        ),
        _ranks_check(ranks),
        Check(
            CheckId.DAMAGE,
            Outcome.FAILED,
            f"{whole} of {stream.count} symbols are whole: {unknown[0]} names and {unknown[1]} addresses are lost on "
            f"{number} page{'s' if number > 1 else ''}"
            + (f", {overwritten} of which hold something else" if overwritten else ""),
            is_quoted=True,
        ),
    )
    return Tables(
        segment, left.word_size, tokens.byte_order, in_order(*rows), left.array, names.characters, bounds, checks,
        None if left.known.all() else left.known, damage,
    )  # fmt: skip


def _ranks_check(ranks: Ranks | None) -> Check:
    if ranks is None:
        return Check(CheckId.SEQS_OF_NAMES, Outcome.ABSENT, "no permutation follows a table")
    return Check.that(
        CheckId.SEQS_OF_NAMES, True, f"{ranks.known} of {len(ranks.order)} entries survive, each of them once"
    )


def _damage(segment: BytesSegment, pages: Pages, rows: tuple[TableExtent, ...]) -> Iterator[Damage]:
    """Yield the pages that each table lost."""
    for row in rows:
        first, last = pages.number(np.array([row.offset, max(row.offset, row.end - 1)]))
        numbers = np.flatnonzero(pages.lost[first : last + 1]) + first
        start = segment.start + pages.first
        lost = tuple(start + PAGE * int(number) for number in numbers)
        yield Damage(row.name, lost, start + PAGE * int(first), int(last - first) + 1)
