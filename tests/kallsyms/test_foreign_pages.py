"""What comes out where pages under tables hold something else: nothing wrong, and almost all that survives.

Pages out of the same tables are the worst: they go on as those around them do, and are in order in themselves.
"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from kallsift.kallsyms.damaged.overwritten_pages import pages_out_of_order
from kallsift.kallsyms.damaged.page_map import PAGE
from kallsift.kallsyms.damaged.unverified_pages import halves
from tests.kallsyms.lost_pages import (
    BEHIND_INDEX,
    BY_NAME,
    ERAS,
    EXPORTS,
    SORTED,
    exporting,
    pages_of,
    read,
    recovered,
    share_of,
    split,
    without,
)
from tests.kallsyms.placed import START, Placed, placed, sample
from tests.oracle.damage import Damage
from tests.oracle.eras import Era

pytestmark = pytest.mark.slow

COUNT = 20_000

BLOCK = range(6000, 7200)
"""Symbols whose names are in the order of their indices, as in sections that the linker sorts, so that their ranks lie
together."""

MARKERS_LOST = 40
"""Those of the block among them."""


def overwritten(source: Placed, pages: dict[int, int]) -> Damage:
    """The source with these pages as some others are."""
    done, data = without(source, set(pages)), bytearray(source.data)
    for page, other in pages.items():
        data[page * PAGE - START : (page + 1) * PAGE - START] = source.data[other * PAGE - START :][:PAGE]
    return replace(done, data=bytes(data))


def with_blank(done: Damage, source: Placed, pages: set[int]) -> Damage:
    """Damage with these pages zeroed as well."""
    data = bytearray(done.data)
    for page in pages:
        data[page * PAGE - START : (page + 1) * PAGE - START] = bytes(PAGE)
    return replace(without(source, pages | {page // PAGE for page in done.lost}), data=bytes(data))


def inner(source: Placed, name: str) -> list[int]:
    """The pages that a table takes whole."""
    return sorted(pages_of(source, name))[1:-1]


def one_of_names(source: Placed) -> dict[int, int]:
    """One page of names to be another one: where only other tables are damaged, this is no damage to names."""
    pages = inner(source, "names")
    return {pages[-3]: pages[1]}


def array(era: Era) -> str:
    return "offsets" if "offsets" in era.order else "addresses"


@pytest.mark.parametrize("era", ERAS, ids=str)
@pytest.mark.parametrize("away", [3, -3])
def test_addresses_from_elsewhere(era: Era, away: int) -> None:
    """The page behind one with higher addresses is out of order as well, and yet is no other."""
    source = placed(era, sample(era, COUNT))
    pages = inner(source, array(era))
    page = pages[len(pages) // 2]
    of, out = share_of(source, overwritten(source, {page: page + away}))
    assert out >= 0.999 * of


@pytest.mark.parametrize("era", ERAS, ids=str)
def test_a_page_that_stands_twice(era: Era) -> None:
    """Neighbours with the same addresses: either can be the foreign one, and neither is believed."""
    source = placed(era, sample(era, COUNT))
    pages = inner(source, array(era))
    page = pages[len(pages) // 2]
    of, out = share_of(source, overwritten(source, {page: page + 1}))
    assert 0.8 * of <= out < of


@pytest.mark.parametrize("blank", [True, False])
@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("era", ERAS, ids=str)
def test_copies_of_lost_pages(era: Era, copies: int, blank: bool) -> None:
    """They are in order, and go on at each other; but where something else is seen, that alone is no proof.

    Of pages that are lost around them, all of which hold something else, or else are blank.
    """
    source = placed(era, sample(era, COUNT))
    pages = inner(source, array(era))
    first = pages[len(pages) // 2 - 2]
    lost = {first + more: pages[0] for more in range(3)}
    shifted = {first + 2 + more: first + 1 + more for more in range(copies)}
    behind = {} if copies == 2 else {first + 3: pages[-1]}
    done = overwritten(source, one_of_names(source) | lost | behind | shifted)
    if blank:
        done = with_blank(done, source, (lost | behind).keys() - shifted.keys())
    of, out = share_of(source, done)
    assert out >= 0.9 * of


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("copied", [True, False])
@pytest.mark.parametrize("era", ["6.12 arm64", "7.0"])
def test_addresses_that_exports_bear_out(era: str, copied: bool, seen: bool) -> None:
    """A page alone between foreign ones is believed if exports lead to its addresses, or it is that of exports.

    Where nothing but blank pages is seen, it is believed if these do not lead elsewhere.
    """
    source = exporting(BY_NAME[era])
    offsets = START + source.table("offsets").start
    pages = inner(source, "offsets")
    assert (pages[1] + 1) * PAGE < offsets + 4 * EXPORTS <= pages[-3] * PAGE
    for alone, other in ((pages[1], pages[-1]), (pages[-3], pages[0])):
        lost = {alone: alone + 1} if copied else {}
        if seen:
            done = overwritten(source, one_of_names(source) | {alone - 1: other, alone + 1: other} | lost)
        else:
            done = with_blank(overwritten(source, lost), source, {alone - 1, alone + 1})
        of, out = share_of(source, done)
        assert out >= 0.8 * of
        tables = recovered(done.data)
        assert tables is not None
        first = (alone * PAGE - offsets) // 4 + 1
        assert read(tables)[1][first : first + PAGE // 4 - 1].all() != copied


@pytest.mark.parametrize("era", SORTED, ids=str)
@pytest.mark.parametrize("table", ["names", "seqs_of_names"])
def test_pages_of_a_table_in_its_other_pages(era: Era, table: str) -> None:
    source = placed(era, sample(era, COUNT))
    pages = inner(source, table)
    chance = random.Random(f"{era.name} {table}")
    for share in (0.1, 0.25):
        lost = {page: chance.choice(pages) for page in chance.sample(pages, max(2, round(share * len(pages))))}
        of, out = share_of(source, overwritten(source, lost | one_of_names(source)))
        assert out >= 0.98 * of


@pytest.mark.parametrize("era", SORTED, ids=str)
def test_a_page_of_names_between_two_foreign_ones(era: Era) -> None:
    """No group between markers shows it to be whole, but the order of names does."""
    source = placed(era, sample(era, COUNT))
    pages = inner(source, "names")
    middle = pages[len(pages) // 2]
    of, out = share_of(source, overwritten(source, {middle - 1: pages[1], middle + 1: pages[2]}))
    assert out >= 0.999 * of


def with_a_block(era: Era) -> Placed:
    """Tables with a section of names in their own order, placed so that a page begins behind its markers."""
    symbols, chance = list(sample(era, COUNT)), random.Random(3)
    for index in BLOCK:
        name = f"block_{index:05d}_{chance.choice(symbols[BLOCK.stop :]).name}"
        symbols[index] = symbols[index]._replace(name=name)
    into = START + placed(era, tuple(symbols)).table("markers").start + 4 * MARKERS_LOST
    return placed(era, tuple(symbols), before=4 * PAGE - into % PAGE)


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("era", SORTED, ids=str)
def test_a_walk_that_leads_into_a_foreign_page(era: Era, seen: bool) -> None:
    """Where markers and ranks of what lies there are lost, nothing contradicts it, but nothing bears it out either.

    Whether another page is seen to be foreign, or nothing but blank ones.
    """
    source = with_a_block(era)
    heads = source.offset + np.array(source.blob.heads)
    first = int(START + int(heads[BLOCK.start])) // PAGE
    by_name = sorted(range(COUNT), key=[symbol.name.encode() for symbol in source.blob.symbols].__getitem__)
    ranks = [by_name.index(index) for index in BLOCK]
    assert ranks == list(range(ranks[0], ranks[0] + len(ranks)))
    sequences = START + source.table("seqs_of_names").start
    begin, end = (sequences + era.sequence_size * rank for rank in (ranks[0], ranks[-1] + 1))
    blank = {*range(begin // PAGE, end // PAGE + 1), first - 1, first + 2, min(pages_of(source, "markers"))}
    done = with_blank(overwritten(source, one_of_names(source) if seen else {}), source, blank)
    data = bytearray(done.data)
    # names of the same section from further on, in step with the page before
    place = (first + 1) * PAGE - START
    further = int(heads[BLOCK.start + 700]) - (int(heads[np.searchsorted(heads, place)]) - place)
    data[place : place + PAGE] = source.data[further : further + PAGE]
    lost = {first + 1, *(page // PAGE for page in done.lost)}
    of, out = share_of(source, replace(without(source, lost), data=bytes(data)))
    assert out >= 0.95 * of


@pytest.mark.parametrize("era", ERAS, ids=str)
def test_the_count_is_something_else(era: Era) -> None:
    """The last group of names ends where the markers begin."""
    source = split(era, "names", 0)
    page = (START + source.table("num_syms").start) // PAGE
    assert page not in pages_of(source, "names")
    of, out = share_of(source, overwritten(source, {page: page + 4} | one_of_names(source)))
    assert out >= 0.999 * of


@pytest.mark.parametrize("era", SORTED, ids=str)
def test_all_markers_are_something_else(era: Era) -> None:
    """The count stands before the names, and half a permutation of as many is somewhere, whatever else is foreign."""
    source = split(era, "token_table", 0)
    pages = inner(source, "names")
    lost = dict.fromkeys(pages_of(source, "markers"), pages[2])
    assert not lost.keys() & pages_of(source, "token_table", "num_syms")
    addresses = inner(source, array(era))
    of, out = share_of(source, overwritten(source, lost | {pages[5]: pages[3], addresses[2]: addresses[4]}))
    assert out >= 0.8 * of > 0


@pytest.mark.parametrize("era", BEHIND_INDEX, ids=str)
def test_the_first_markers_are_something_else(era: Era) -> None:
    """Those behind the page begin in its midst."""
    source = split(era, "markers", 40)
    page = (START + source.table("markers").start) // PAGE
    of, out = share_of(source, overwritten(source, {page: page - 3}))
    assert of
    assert out >= 0.95 * of


@pytest.mark.parametrize("era", [era for era in ERAS if "relative_base" in era.order], ids=str)
def test_a_base_is_not_read_where_something_else_is(era: Era) -> None:
    """It would put all symbols elsewhere."""
    source = placed(era, sample(era, COUNT))
    base = source.table("relative_base")
    page = (START + base.start) // PAGE
    assert page in pages_of(source, "offsets")
    done = overwritten(source, {page: page + 1} | one_of_names(source))
    assert done.data[base] != bytes(8)
    tables = recovered(done.data)
    assert tables is None or tables.array.relative_base is None


def test_which_pages_are_out_of_order() -> None:
    size = 50
    pages = np.repeat(np.arange(9), size)
    truth = np.arange(9 * size, dtype=np.int64) * 8
    known = np.ones(len(truth), np.bool_)
    assert not len(pages_out_of_order(truth, known, pages))
    for page, other, foreign in (
        (4, 7, [4]),
        (4, 1, [4]),
        (4, 5, [4, 5]),
        (8, 0, [8]),
        (0, 8, [0]),
    ):
        keys = truth.copy()
        keys[pages == page] = truth[pages == other]
        assert pages_out_of_order(keys, known, pages).tolist() == foreign
        # lost pages prove nothing
        assert pages_out_of_order(keys, known & (pages != page), pages).tolist() == []


def test_a_page_that_belongs_further_on_leaves_out_a_page() -> None:
    """Where those that it would contradict are lost, it is in order; but no page goes on from it."""
    pages = np.repeat(np.arange(9), 50)
    keys = np.arange(450, dtype=np.int64) * 8
    keys[pages == 4] = keys[pages == 5]
    keys[pages == 0] = 1 << 20
    assert pages_out_of_order(keys, ~np.isin(pages, [5]), pages).tolist() == [0, 4]
    # nor where no page beside it is left
    assert pages_out_of_order(keys, ~np.isin(pages, [3, 5]), pages).tolist() == [0, 4]


@pytest.mark.parametrize("start", [12 * PAGE, -PAGE % (1 << 64)])
def test_half_of_a_walk_ends_before_what_reaches_into_the_other(start: int) -> None:
    walk = np.arange(100, 4 * PAGE, 30)
    [first, second] = halves(walk, start)
    assert first[-1] < 2 * PAGE <= second[0]
    assert len(first) + len(second) == len(walk)
    aligned = np.arange(0, 4 * PAGE, 32)
    [first, second] = halves(aligned, start)
    assert first[-1] == second[0] == 2 * PAGE
    assert halves(np.arange(PAGE, 2 * PAGE, 30), start) == ()
