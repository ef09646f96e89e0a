"""Compare two listings of symbols, apart from the slide between them.

Symbols are multisets: if one listing has a name five times, the other must have it five times. The slide is the most
frequent difference between the addresses of names that each listing has once. A symbol outside of the range of
everything that moved by the slide, and which has not moved, is no part of the image (per-CPU offsets, absolute values).
A module has a slide for each of its regions, because kernels place regions separately; each slide is a whole number of
pages. If most of a module has not moved, it is the same loaded module, and nothing in it may have moved.
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
from kallsift.kallsyms.escapes import escaped
from kallsift.kallsyms.symbol_table import Symbol, SymbolTable

PAGE = 4096

ABSOLUTE = np.frombuffer(b"aA", np.uint8)
"""Type letters of values that are no addresses."""

MAX_REGIONS = 8
"""Highest number of regions of a module.

These are text, data, rodata, ro_after_init, and the initial ones of these (include/linux/module.h).
"""


Columns = tuple[tuple[NDArray[Any], NDArray[Any]], ...]
"""Columns of both listings, in pairs."""


class Change(Enum):
    """Kind of difference in one symbol."""

    MISSING = "-"
    """Only the first listing has it."""
    ADDED = "+"
    """Only the second listing has it."""
    MOVED = "~"
    """It moved by another distance than the slide."""
    RETYPED = "!"
    """Its type letter differs."""


@dataclass(frozen=True, repr=False)
class Difference:
    """One difference between two listings.

    Attributes:
        change: kind of the difference.
        owner: the module's name; empty for built-in symbols.
        before: the first listing's symbol; None if it has none.
        after: the second listing's symbol; None if it has none.
    """

    change: Change
    owner: str
    before: Symbol | None
    after: Symbol | None

    def __repr__(self) -> str:
        owner = f" [{escaped(self.owner)}]" if self.owner else ""
        return f"<Difference {self.change.value} {self.before} {self.after}{owner}>"


@dataclass(frozen=True, repr=False)
class Comparison:
    """The result of a comparison of two listings.

    Attributes:
        slide: built-in addresses of the second listing minus those of the first, may be negative; None if no name is in
            both.
        same: number of symbols that are equal in both.
        differences: all others, built-in ones first.
        only_before: modules that only the first listing has, with the number of their symbols; if one listing has no
            modules at all, none are compared.
        only_after: modules that only the second listing has.
        unknown: number of built-in symbols of either listing whose name or address is lost. A symbol that can be one of
            these is no difference.
    """

    slide: int | None
    same: int
    differences: tuple[Difference, ...]
    only_before: tuple[tuple[str, int], ...] = ()
    only_after: tuple[tuple[str, int], ...] = ()
    unknown: int = 0

    def __repr__(self) -> str:
        slide = "no slide" if self.slide is None else f"slide {self.slide:#x}"
        return f"<Comparison: {self.same:,} alike, {len(self.differences):,} differ, {slide}>"

    @property
    def agree(self) -> bool:
        """True if nothing that is known differs except for the slide."""
        return not (self.differences or self.only_before or self.only_after)

    def count(self, change: Change) -> int:
        """Return the number of differences of one kind."""
        return sum(difference.change is change for difference in self.differences)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Symbols of one owner as columns, shape (n,).

    Attributes:
        names: numbers of the names; equal names have equal numbers, in both listings.
        addresses: the addresses that are compared.
        letters: type letters.
        shown: addresses as the listing has them.
        places: index of each symbol, counted through the owner's tables.
        texts: all names in these tables.
        lost: symbols that are left out because their name or address is unknown, with the addresses that they can have
            in the other listing.
    """

    names: NDArray[np.int64]
    addresses: NDArray[np.uint64]
    letters: NDArray[np.uint8]
    shown: NDArray[np.uint64]
    places: NDArray[np.int64]
    texts: Sequence[str]
    lost: LostSymbols

    def symbols(self, rows: NDArray[np.int64]) -> list[Symbol]:
        """Return the symbols of some rows."""
        columns = (column[rows].tolist() for column in (self.shown, self.letters, self.places))
        return [
            Symbol(VirtualAddress(address), chr(letter), self.texts[place], place)
            for address, letter, place in zip(*columns, strict=True)
        ]


def compare(before: Listing, after: Listing) -> Comparison:
    """Compare two listings.

    Symbols whose name or address is unknown are left out. A symbol of the other listing that can be one of these is no
    difference.
    """
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
                # code that is made at run time has another address in each boot
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
    """Return the tables of each owner."""
    found: dict[str, list[SymbolTable]] = {}
    for group in listing.dynamic.groups:
        found.setdefault(group.owner, []).append(group.symbols)
    return found


def _left(owned: dict[str, list[SymbolTable]], others: dict[str, list[SymbolTable]]) -> tuple[tuple[str, int], ...]:
    """Return the owners that the other listing lacks, with their numbers of symbols.

    Owners without symbols are left out, because no listing can show them.
    """
    counts = ((owner, sum(map(len, tables))) for owner, tables in owned.items() if owner not in others)
    return tuple((owner, count) for owner, count in counts if count)


def _rows(first: Sequence[SymbolTable], second: Sequence[SymbolTable]) -> tuple[_Rows, _Rows]:
    """Return the symbols of both listings as columns."""
    before = _names(first)
    after = before if _texts_equal(first, second) else _names(second)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(chain(before, after)))}
    result = []
    for tables, texts in ((first, before), (second, after)):
        names = np.fromiter(map(numbers.__getitem__, texts), np.int64, len(texts))
        whole = np.flatnonzero(np.concatenate([table.whole for table in tables]))
        addresses = np.concatenate([table.addresses for table in tables])[whole]
        letters = np.concatenate([table.types() for table in tables])[whole]
        # bytes that are no letters are printed as question marks
        letters = np.where((letters | 0x20) - np.uint8(ord("a")) < 26, letters, ord("?")).astype(np.uint8)
        lost = LostSymbols.of(tables[0], names) if len(tables) == 1 else LostSymbols.none()
        result.append(_Rows(names[whole], addresses, letters, addresses, whole, texts, lost))
    return result[0], result[1]


def _names(tables: Sequence[SymbolTable]) -> list[str]:
    return [name for table in tables for name in table.names()]


def _texts_equal(first: Sequence[SymbolTable], second: Sequence[SymbolTable]) -> bool:
    """Tell whether both list the same names with the same letters in the same order.

    Two listings of the same kernel do.
    """
    return len(first) == len(second) and all(map(SymbolTable.same_text_as, first, second))


def _anywhere(rows: _Rows) -> _Rows:
    """Return the rows with 0 for every compared address."""
    return replace(rows, addresses=np.zeros_like(rows.addresses))


def _singles(first: _Rows, second: _Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of names that each listing has exactly once.

    Returns:
        Rows in the first listing, and the rows with the same names in the second.
    """
    names = []
    for rows in (first, second):
        found, places, counts = np.unique(rows.names, return_index=True, return_counts=True)
        names.append((found[counts == 1], places[counts == 1]))
    _, left, right = np.intersect1d(names[0][0], names[1][0], assume_unique=True, return_indices=True)
    return names[0][1][left], names[1][1][right]


def _slide(first: _Rows, second: _Rows) -> int | None:
    """Return the most frequent difference of addresses, modulo 2^64.

    None if no name is exactly once in each listing.
    """
    left, right = _singles(first, second)
    distances, counts = np.unique(second.addresses[right] - first.addresses[left], return_counts=True)
    return int(distances[np.argmax(counts)]) if len(counts) else None


def _expected(first: _Rows, second: _Rows, slide: int) -> NDArray[np.uint64]:
    """Return the addresses where the first listing's symbols are expected, shape (n,).

    They are addresses of built-in symbols in the second listing: moved by the slide, except for symbols outside of the
    image.
    """
    moved = first.addresses + np.uint64(slide % (1 << 64))
    left, right = _singles(first, second)
    along = first.addresses[left[second.addresses[right] == moved[left]]]
    if not slide or not len(along):
        return moved
    outside = (first.addresses < along.min()) | (first.addresses > along.max())
    still = outside & ~_held(first.names, moved, second) & _held(first.names, first.addresses, second)
    return np.where(still, first.addresses, moved)


def _loaded(first: _Rows, second: _Rows) -> tuple[_Rows, _Rows, NDArray[np.uint64]]:
    """Return a module's rows, and the expected addresses of the first listing's ones.

    The expected addresses are those in the second listing, shape (n,).
    """
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
    """Return the rows with 0 for values that are no addresses.

    A module's per-CPU variables have other offsets in each boot.
    """
    return replace(rows, addresses=np.where(np.isin(rows.letters, ABSOLUTE), np.uint64(0), rows.addresses))


def _held(names: NDArray[np.int64], addresses: NDArray[np.uint64], rows: _Rows) -> NDArray[np.bool_]:
    """Tell which pairs of a name and an address are among the rows, shape (n,)."""
    numbers = _numbers(np.concatenate((names, rows.names)), np.concatenate((addresses, rows.addresses)))
    held: NDArray[np.bool_] = np.isin(numbers[: len(names)], numbers[len(names) :])
    return held


def _numbers(*columns: NDArray[Any]) -> NDArray[np.int64]:
    """Return equal numbers for equal rows of some columns, shape (n,)."""
    result = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        found, inverse = np.unique(column, return_inverse=True)
        _, result = np.unique(result * max(1, len(found)) + inverse, return_inverse=True)
    return result


def _compared(owner: str, first: _Rows, second: _Rows, expected: NDArray[np.uint64]) -> tuple[int, list[Difference]]:
    """Return the number of equal symbols of one owner, and the differences.

    The differences are in the order of addresses.
    """
    names, addresses = (first.names, second.names), (expected, second.addresses)
    letters = first.letters, second.letters
    left, right = np.arange(len(first.names)), np.arange(len(second.names))
    if len(left) == len(right):
        # rows that are equal line by line (nearly all, for the same kernel) need no search
        left = right = np.flatnonzero(np.any([one != other for one, other in (names, addresses, letters)], axis=0))
    same = len(first.names) - len(left)
    found: list[Difference] = []
    keys: list[NDArray[np.uint64]] = []
    # pair rows that agree in all columns first, then in fewer and fewer
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
    """Return the indices of equal numbers, one of the first for one of the second.

    Of several equal numbers, the earlier ones are paired before the later.
    """
    before, after = _occurrence(first), _occurrence(second)
    most = max((int(one.max()) + 1 for one in (before, after) if len(one)), default=1)
    keys, others = first * most + before, second * most + after
    _, left, right = np.intersect1d(keys, others, assume_unique=True, return_indices=True)
    return left, right


def _occurrence(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many equal numbers stand before each number, shape (n,)."""
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    begins = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))[: len(ordered)]
    result = np.empty(len(numbers), np.int64)
    result[order] = np.arange(len(numbers)) - np.repeat(begins, np.diff(np.append(begins, len(numbers))))
    return result
