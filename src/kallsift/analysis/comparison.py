"""Comparison: what two listings of symbols have in common once the slide between them is taken off.

Symbols are multisets: a name that a kernel has five times must be there five times. The slide is what the two agree on:
the most frequent difference between the addresses of names that each has once. What lies outside of all that moved by
it, and has not moved, is no part of the image (per-CPU offsets, absolute values). A module has a slide for each of its
regions, since kernels place these one by one: each a difference of whole pages. Where most of it has not moved at all,
it is the same one, and nothing in it may have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kallsift.addresses import VirtualAddress
from kallsift.analysis.listings.listing import Listing
from kallsift.analysis.lost_symbols import LostSymbols
from kallsift.analysis.symbol_lookup import NO_MODULES
from kallsift.kallsyms.symbol_table import Symbol, SymbolTable

PAGE = 4096

ABSOLUTE = np.frombuffer(b"aA", np.uint8)
"""Letters of values that are no addresses."""

MAX_REGIONS = 8
"""Regions of a module: text, data, rodata, ro_after_init, and the initial ones of these (include/linux/module.h)."""


Columns = tuple[tuple[NDArray[Any], NDArray[Any]], ...]
"""Columns of both listings."""


class Change(Enum):
    """How the two differ in one symbol."""

    MISSING = "-"
    """Only the first has it."""
    ADDED = "+"
    """Only the second has it."""
    MOVED = "~"
    """It is elsewhere, by another distance than the slide."""
    RETYPED = "!"
    """Its letter is another one."""


@dataclass(frozen=True)
class Difference:
    """One difference.

    Attributes:
        change: of which kind.
        owner: the module's name; empty for built-in symbols.
        before: the first listing's symbol, None where it has none.
        after: the second one's, None where it has none.
    """

    change: Change
    owner: str
    before: Symbol | None
    after: Symbol | None


@dataclass(frozen=True)
class Comparison:
    """How two listings compare.

    Attributes:
        slide: the second one's built-in addresses less the first one's, or negative; None where no name is in both.
        same: symbols that are alike in both.
        differences: all others, built-in ones first.
        only_before: modules that only the first one has, with the number of their symbols; where one has no modules at
            all, none are compared.
        only_after: modules that only the second one has.
        unknown: built-in symbols of either whose name or address is lost. What can be one of these is no difference.
    """

    slide: int | None
    same: int
    differences: tuple[Difference, ...]
    only_before: tuple[tuple[str, int], ...] = ()
    only_after: tuple[tuple[str, int], ...] = ()
    unknown: int = 0

    @property
    def agree(self) -> bool:
        """Whether nothing that is known differs but for the slide."""
        return not (self.differences or self.only_before or self.only_after)

    def count(self, change: Change) -> int:
        """How many differences are of one kind."""
        return sum(difference.change is change for difference in self.differences)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Symbols of one owner as columns, shape (n,).

    Attributes:
        names: equal numbers for equal names, in both listings.
        addresses: what is compared.
        letters: types.
        shown: addresses as the listing has them.
        places: where each symbol is, counted through the owner's tables.
        texts: all names in these.
        lost: the symbols that are left out, since something of them is unknown, where the other listing has them.
    """

    names: NDArray[np.int64]
    addresses: NDArray[np.uint64]
    letters: NDArray[np.uint8]
    shown: NDArray[np.uint64]
    places: NDArray[np.int64]
    texts: Sequence[str]
    lost: LostSymbols

    def symbols(self, rows: NDArray[np.int64]) -> list[Symbol]:
        """The symbols of some rows."""
        columns = (column[rows].tolist() for column in (self.shown, self.letters, self.places))
        return [
            Symbol(VirtualAddress(address), chr(letter), self.texts[place], place)
            for address, letter, place in zip(*columns, strict=True)
        ]


def compare(before: Listing, after: Listing) -> Comparison:
    """Compares two listings; symbols of which something is unknown are left out, and what they can be is none."""
    first, second = _rows([before.symbols], [after.symbols])
    unknown = len(first.lost) + len(second.lost)
    slide = _slide(first, second)
    if len(first.lost):
        expected = _expected(first, second, slide or 0)
        first = replace(first, lost=first.lost.moved(first.addresses, expected))
    if len(second.lost):
        expected = _expected(second, first, -(slide or 0))
        second = replace(second, lost=second.lost.moved(second.addresses, expected))
    same, differences = _compared("", first, second, _expected(first, second, slide or 0))
    owned, others = _owners(before), _owners(after)
    both = owned and others
    if both:
        for owner in [owner for owner in owned if owner in others]:
            first, second = _rows(owned[owner], others[owner])
            if owner in NO_MODULES and slide:
                # what is made at run time lies elsewhere each time
                first, second = _anywhere(first), _anywhere(second)
            alike, more = _compared(owner, *_loaded(first, second))
            same, differences = same + alike, differences + more
    span = 1 << 8 * max(before.symbols.word_size, after.symbols.word_size)
    return Comparison(
        slide=None if slide is None else (slide + span // 2) % span - span // 2,
        same=same,
        differences=tuple(differences),
        only_before=_left(owned, others) if both else (),
        only_after=_left(others, owned) if both else (),
        unknown=unknown,
    )


def _owners(listing: Listing) -> dict[str, list[SymbolTable]]:
    """The tables of each owner."""
    found: dict[str, list[SymbolTable]] = {}
    for group in listing.dynamic.groups:
        found.setdefault(group.owner, []).append(group.symbols)
    return found


def _left(owned: dict[str, list[SymbolTable]], others: dict[str, list[SymbolTable]]) -> tuple[tuple[str, int], ...]:
    """The owners that the others lack, each with how many symbols it has; no listing can show one without any."""
    counts = ((owner, sum(map(len, tables))) for owner, tables in owned.items() if owner not in others)
    return tuple((owner, count) for owner, count in counts if count)


def _rows(first: Sequence[SymbolTable], second: Sequence[SymbolTable]) -> tuple[_Rows, _Rows]:
    """Both listings' symbols as columns."""
    before = _names(first)
    after = before if _texts_equal(first, second) else _names(second)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(chain(before, after)))}
    result = []
    for tables, texts in ((first, before), (second, after)):
        names = np.fromiter(map(numbers.__getitem__, texts), np.int64, len(texts))
        whole = np.flatnonzero(np.concatenate([table.whole for table in tables]))
        addresses = np.concatenate([table.addresses for table in tables])[whole]
        letters = np.concatenate([table.types() for table in tables])[whole]
        # what is no letter is printed as a question mark
        letters = np.where((letters | 0x20) - np.uint8(ord("a")) < 26, letters, ord("?")).astype(np.uint8)
        lost = LostSymbols.of(tables[0], names) if len(tables) == 1 else LostSymbols.none()
        result.append(_Rows(names[whole], addresses, letters, addresses, whole, texts, lost))
    return result[0], result[1]


def _names(tables: Sequence[SymbolTable]) -> list[str]:
    return [name for table in tables for name in table.names()]


def _texts_equal(first: Sequence[SymbolTable], second: Sequence[SymbolTable]) -> bool:
    """Whether both list the same names with the same letters in the same order, as they do for the same kernel."""
    return len(first) == len(second) and all(map(SymbolTable.same_text_as, first, second))


def _anywhere(rows: _Rows) -> _Rows:
    """The same rows without their addresses."""
    return replace(rows, addresses=np.zeros_like(rows.addresses))


def _singles(first: _Rows, second: _Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of names that each has once: places in the first, and those of the same names in the second."""
    names = []
    for rows in (first, second):
        found, places, counts = np.unique(rows.names, return_index=True, return_counts=True)
        names.append((found[counts == 1], places[counts == 1]))
    _, left, right = np.intersect1d(names[0][0], names[1][0], assume_unique=True, return_indices=True)
    return names[0][1][left], names[1][1][right]


def _slide(first: _Rows, second: _Rows) -> int | None:
    """The most frequent difference of addresses; None where no name tells. Modulo 2^64."""
    left, right = _singles(first, second)
    distances, counts = np.unique(second.addresses[right] - first.addresses[left], return_counts=True)
    return int(distances[np.argmax(counts)]) if len(counts) else None


def _expected(first: _Rows, second: _Rows, slide: int) -> NDArray[np.uint64]:
    """Where the first listing's built-in symbols are expected in the second, shape (n,)."""
    moved = first.addresses + np.uint64(slide % (1 << 64))
    left, right = _singles(first, second)
    along = first.addresses[left[second.addresses[right] == moved[left]]]
    if not slide or not len(along):
        return moved
    outside = (first.addresses < along.min()) | (first.addresses > along.max())
    still = outside & ~_held(first.names, moved, second) & _held(first.names, first.addresses, second)
    return np.where(still, first.addresses, moved)


def _loaded(first: _Rows, second: _Rows) -> tuple[_Rows, _Rows, NDArray[np.uint64]]:
    """A module's rows, and where those of the first listing are expected in the second."""
    left, right = _singles(first, second)
    distances, counts = np.unique(second.addresses[right] - first.addresses[left], return_counts=True)
    if not len(counts) or not distances[np.argmax(counts)]:
        return first, second, first.addresses
    frequent = distances[np.argsort(counts, kind="stable")[::-1]]
    regions = frequent[frequent % np.uint64(PAGE) == 0][:MAX_REGIONS]
    known = left[np.isin(second.addresses[right] - first.addresses[left], regions)]
    first, second = _without_absolute(first), _without_absolute(second)
    if not len(known):
        return first, second, first.addresses
    moved = second.addresses[right[np.isin(left, known)]] - first.addresses[known]
    order = np.argsort(first.addresses[known], kind="stable")
    known, moved = known[order], moved[order]
    after = np.searchsorted(first.addresses[known], first.addresses, side="right")
    below = first.addresses + moved[np.maximum(after - 1, 0)]
    above = first.addresses + moved[np.minimum(after, len(known) - 1)]
    expected = np.where(_held(first.names, below, second), below, above)
    return first, second, np.where(np.isin(first.letters, ABSOLUTE), first.addresses, expected)


def _without_absolute(rows: _Rows) -> _Rows:
    """The rows with 0 for addresses that are none: a module's per-CPU variables are elsewhere each time."""
    return replace(rows, addresses=np.where(np.isin(rows.letters, ABSOLUTE), np.uint64(0), rows.addresses))


def _held(names: NDArray[np.int64], addresses: NDArray[np.uint64], rows: _Rows) -> NDArray[np.bool_]:
    """Which of some names at some addresses are among the rows, shape (n,)."""
    numbers = _numbers(np.concatenate((names, rows.names)), np.concatenate((addresses, rows.addresses)))
    held: NDArray[np.bool_] = np.isin(numbers[: len(names)], numbers[len(names) :])
    return held


def _numbers(*columns: NDArray[Any]) -> NDArray[np.int64]:
    """Equal numbers for equal rows, shape (n,)."""
    result = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        found, inverse = np.unique(column, return_inverse=True)
        _, result = np.unique(result * max(1, len(found)) + inverse, return_inverse=True)
    return result


def _compared(owner: str, first: _Rows, second: _Rows, expected: NDArray[np.uint64]) -> tuple[int, list[Difference]]:
    """How many symbols of one owner are alike in both listings, and how the others differ, in order of addresses."""
    names, addresses = (first.names, second.names), (expected, second.addresses)
    letters = first.letters, second.letters
    left, right = np.arange(len(first.names)), np.arange(len(second.names))
    if len(left) == len(right):
        # those that are alike line by line, as nearly all are of the same kernel, need not be searched for
        left = right = np.flatnonzero(np.any([one != other for one, other in (names, addresses, letters)], axis=0))
    same = len(first.names) - len(left)
    found: list[Difference] = []
    keys: list[NDArray[np.uint64]] = []
    # what agrees in all, then in less and less
    steps: tuple[tuple[Columns, tuple[Change, ...]], ...] = (
        ((names, addresses, letters), ()),
        ((names, addresses), (Change.RETYPED,)),
        ((names, letters), (Change.MOVED,)),
        ((names,), (Change.MOVED, Change.RETYPED)),
    )
    for columns, changes in steps:
        numbers = _numbers(*(np.concatenate((one[left], other[right])) for one, other in columns))
        a, b = _paired(numbers[: len(left)], numbers[len(left) :])
        if not changes:
            same += len(a)
        for change in changes:
            pairs = zip(first.symbols(left[a]), second.symbols(right[b]), strict=True)
            found += [Difference(change, owner, *pair) for pair in pairs]
            keys.append(second.addresses[right[b]])
        left, right = np.delete(left, a), np.delete(right, b)
    right = right[~first.lost.can_be(second.names[right], second.addresses[right])]
    left = left[~second.lost.can_be(first.names[left], first.addresses[left])]
    found += [Difference(Change.MISSING, owner, symbol, None) for symbol in first.symbols(left)]
    found += [Difference(Change.ADDED, owner, None, symbol) for symbol in second.symbols(right)]
    order = np.argsort(np.concatenate((*keys, expected[left], second.addresses[right])), kind="stable")
    return same, [found[place] for place in order.tolist()]


def _paired(first: NDArray[np.int64], second: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of equal numbers, one of the first for one of the second, the earlier ones before the later."""
    before, after = _occurrence(first), _occurrence(second)
    most = max((int(one.max()) + 1 for one in (before, after) if len(one)), default=1)
    keys, others = first * most + before, second * most + after
    _, left, right = np.intersect1d(keys, others, assume_unique=True, return_indices=True)
    return left, right


def _occurrence(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many equal numbers stand before each, shape (n,)."""
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    begins = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))[: len(ordered)]
    result = np.empty(len(numbers), np.int64)
    result[order] = np.arange(len(numbers)) - np.repeat(begins, np.diff(np.append(begins, len(numbers))))
    return result
