"""Compare two listings of symbols, apart from the slide between them.

Symbols are multisets: if one listing has a name five times, the other must have it five times. The slide is the most
frequent difference between the addresses of names that each listing has once. A symbol outside of the range of
everything that moved by the slide, and which has not moved, is no part of the image (per-CPU offsets, absolute values).
A module has a slide for each of its regions, because kernels place regions separately; each slide is a whole number of
pages. If most of a module has not moved, it is the same loaded module, and nothing in it may have moved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kallsift.analysis.compared_rows import (
    Rows,
    expected_addresses,
    module_rows,
    numbered,
    rows_of,
    slide_between,
    without_addresses,
)
from kallsift.analysis.listings.listing import Listing
from kallsift.analysis.symbol_lookup import NO_MODULES
from kallsift.kallsyms.escapes import escaped
from kallsift.kallsyms.symbol_table import Symbol, SymbolTable

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


def compare(before: Listing, after: Listing) -> Comparison:
    """Compare two listings.

    Symbols whose name or address is unknown are left out. A symbol of the other listing that can be one of these is no
    difference.
    """
    first, second = rows_of([before.symbols], [after.symbols])
    unknown = len(first.lost) + len(second.lost)
    slide = slide_between(first, second)
    if len(first.lost):
        expected = expected_addresses(first, second, slide or 0)
        first = replace(first, lost=first.lost.moved(first.addresses, expected))
    if len(second.lost):
        expected = expected_addresses(second, first, -(slide or 0))
        second = replace(second, lost=second.lost.moved(second.addresses, expected))
    same, differences = _compared("", first, second, expected_addresses(first, second, slide or 0))
    owned, others = _owners(before), _owners(after)
    both = owned and others
    if both:
        for owner in [owner for owner in owned if owner in others]:
            first, second = rows_of(owned[owner], others[owner])
            if owner in NO_MODULES and slide:
                # code that is made at run time has another address in each boot
                first, second = without_addresses(first), without_addresses(second)
            alike, more = _compared(owner, *module_rows(first, second))
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


def _compared(owner: str, first: Rows, second: Rows, expected: NDArray[np.uint64]) -> tuple[int, list[Difference]]:
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
        numbers = numbered(*(np.concatenate((one[left], other[right])) for one, other in columns))
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
