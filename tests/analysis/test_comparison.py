"""Comparisons of listings made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from kallsift.analysis.comparison import Change, Comparison, compare
from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols, SymbolGroup
from kallsift.analysis.listings.listing import Listing
from tests.output.sample import Row, table

BASE = 0xFFFFFFFF81000000
SLIDE = 0x1E00000
CORE: list[Row] = [
    (0x0, "A", "fixed_percpu_data"),
    (0x40, "A", "counter"),
    (BASE, "T", "_text"),
    (BASE, "T", "_stext"),
    (BASE + 0x8, "T", "first"),
    (BASE + 0x10, "t", "init"),
    (BASE + 0x20, "t", "init"),
    (BASE + 0x30, "T", "last"),
]
"""Most of it is in the image, as in every kernel."""


def slid(rows: Sequence[Row], slide: int = SLIDE) -> list[Row]:
    return [(address + slide if address >= BASE else address, kind, name) for address, kind, name in rows]


def listing(rows: Sequence[Row], **modules: Sequence[Row]) -> Listing:
    return Listing(table(rows), DynamicSymbols(tuple(SymbolGroup(name, table(own)) for name, own in modules.items())))


def said(comparison: Comparison) -> list[str]:
    return [
        f"{one.change.value} {(one.before or one.after).name}"  # type: ignore[union-attr]
        for one in comparison.differences
    ]


def test_a_slide_is_no_difference_and_what_it_does_not_move_neither() -> None:
    found = compare(listing(CORE), listing(slid(CORE)))
    assert (found.agree, found.slide, found.same) == (True, SLIDE, len(CORE))
    back = compare(listing(slid(CORE)), listing(CORE))
    assert (back.agree, back.slide) == (True, -SLIDE)


def test_what_should_have_moved_but_did_not() -> None:
    rows = slid(CORE)
    rows[5] = CORE[5]  # within the image, where it was
    found = compare(listing(CORE), listing(sorted(rows)))
    assert said(found) == ["~ init"]
    percpu = [*CORE[:1], (0x48, "A", "counter"), *slid(CORE)[2:]]
    assert said(compare(listing(CORE), listing(percpu))) == ["~ counter"]


def test_each_kind_of_difference() -> None:
    rows: list[Row] = [*CORE[:5], (BASE + 0x10, "T", "init"), (BASE + 0x28, "t", "init"), (BASE + 0x40, "D", "new")]
    found = compare(listing(CORE), listing(slid(rows)))
    assert said(found) == ["! init", "~ init", "- last", "+ new"]
    assert [found.count(change) for change in Change] == [1, 1, 1, 1]
    moved = next(one for one in found.differences if one.change is Change.MOVED)
    assert moved.before is not None
    assert moved.after is not None
    assert (moved.before.address, moved.after.address) == (BASE + 0x20, BASE + SLIDE + 0x28)
    assert not found.agree


def test_moved_and_of_another_type() -> None:
    rows = [*CORE[:-1], (BASE + 0x38, "W", "last")]
    assert said(compare(listing(CORE), listing(rows))) == ["~ last", "! last"]


def test_names_that_are_there_more_often() -> None:
    assert said(compare(listing(CORE), listing(sorted([*CORE, CORE[5]])))) == ["+ init"]
    assert said(compare(listing(CORE), listing([*CORE[:5], *CORE[6:]]))) == ["- init"]


XFS: list[Row] = [
    (0xFFFFFFFFC0000000, "t", "begin"),
    (0xFFFFFFFFC0000010, "t", "again"),
    (0xFFFFFFFFC0000020, "t", "again"),
    (0xFFFFFFFFC0000030, "t", "middle"),
    (0xFFFFFFFFC0000040, "t", "end"),
    (0xFFFFFFFFC0005000, "d", "__this_module"),
    (0x7F00, "a", "per_cpu"),
]


def test_modules_have_a_slide_for_each_region() -> None:
    other = [(a + 0x7000, k, n) for a, k, n in XFS[:5]] + [(XFS[5][0] + 0x3000, "d", "__this_module")]
    other.append((0x8100, "a", "per_cpu"))
    found = compare(listing(CORE, xfs=XFS), listing(slid(CORE), xfs=other))
    assert found.agree, said(found)
    other[0] = (other[0][0] + 8, "t", "begin")
    assert said(compare(listing(CORE, xfs=XFS), listing(CORE, xfs=other))) == ["~ begin"]


def test_in_a_module_that_has_not_moved_nothing_may_have() -> None:
    other = [*XFS[:5], (XFS[5][0] + 0x1000, "d", "__this_module"), XFS[6]]
    assert said(compare(listing(CORE, xfs=XFS), listing(CORE, xfs=other))) == ["~ __this_module"]


def test_modules_are_compared_where_both_list_some() -> None:
    assert compare(listing(CORE, xfs=XFS), listing(CORE)).agree
    found = compare(listing(CORE, xfs=XFS), listing(CORE, ext4=XFS))
    assert (found.agree, found.only_before, found.only_after) == (False, (("xfs", 7),), (("ext4", 7),))


def test_nothing_in_common() -> None:
    found = compare(listing(CORE), listing([(BASE, "T", "other")]))
    assert found.slide is None
    assert len(found.differences) == len(CORE) + 1
    assert compare(listing([]), listing([])).agree


def lost(rows: Sequence[Row], names: Sequence[int] = (), addresses: Sequence[int] = ()) -> Listing:
    """A listing that has lost the names, and the addresses, of some rows."""
    whole = table(rows)
    sizes = np.diff(whole.bounds)
    kept = np.ones(len(rows), np.bool_)
    kept[list(names)] = False
    known = np.ones(len(rows), np.bool_)
    known[list(addresses)] = False
    latest = np.maximum.accumulate(np.where(known, np.arange(len(rows)), 0))
    bounds = np.concatenate(([0], np.cumsum(np.where(kept, sizes, 0))))
    return Listing(
        replace(
            whole,
            addresses=whole.addresses[latest],
            characters=whole.characters[np.repeat(kept, sizes)],
            bounds=bounds,
            known_addresses=known if len(addresses) else None,
        )
    )


@pytest.mark.parametrize(
    ("names", "addresses"),
    [((4,), ()), ((), (4,)), ((4,), (4,)), ((4, 5, 6), (5, 6)), ((), (5, 7)), ((0, 1), (1, 2)), (range(8), (3,))],
)
def test_what_a_damaged_table_has_lost_is_no_difference(names: Sequence[int], addresses: Sequence[int]) -> None:
    damaged = lost(CORE, names, addresses)
    for slide in (0, SLIDE) if len(names) < len(CORE) else (0,):
        for found in (compare(damaged, listing(slid(CORE, slide))), compare(listing(slid(CORE, slide)), damaged)):
            assert said(found) == []
            assert found.unknown == len({*names, *addresses})
            assert found.same == len(CORE) - found.unknown


def test_more_than_a_damaged_table_has_lost_is_a_difference() -> None:
    damaged = lost(CORE, names=(5, 6))
    more: list[Row] = [*CORE[:6], (BASE + 0x18, "t", "added"), *CORE[6:]]
    assert said(compare(damaged, listing(more))) == ["+ added"]
    renamed = [*CORE[:4], (BASE + 0x8, "T", "another"), *CORE[5:]]
    assert said(compare(lost(CORE, addresses=(4,)), listing(renamed))) == ["+ another"]
    assert said(compare(lost(CORE, names=(7,)), listing([*CORE[:7], (BASE + 0x38, "T", "last")]))) == ["+ last"]
    assert said(compare(listing(more), lost(CORE, names=(5, 6), addresses=(5, 6)))) == ["- init"]
