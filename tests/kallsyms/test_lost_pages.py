"""What comes out of the oracle's tables when pages of them are lost: nothing wrong, and almost all that survives."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.kallsyms.lost_pages import (
    BEHIND_INDEX,
    BY_NAME,
    COUNT,
    ERAS,
    SORTED,
    exporting,
    pages_of,
    recovered,
    share_of,
    split,
    without,
)
from tests.kallsyms.placed import START, placed, sample
from tests.oracle.damage import PAGE, Filler, damage
from tests.oracle.eras import Era

pytestmark = pytest.mark.sampled(1)

SEEDS = 4


@pytest.mark.sampled(1)
@pytest.mark.parametrize("era", ["2.6.10 x86", "2.6.20 x86", "4.6 x86", "5.10 arm64", "6.2 absolute"])
def test_tables_that_seem_aligned_to_more_than_they_are(era: str) -> None:
    """One array in eight: the addresses do not begin where they would if the others were aligned so on purpose."""
    sources = (placed(BY_NAME[era], sample(BY_NAME[era], COUNT + more), before=3000) for more in range(64))
    shown = ("names", "token_table", "token_index")
    source = next(one for one in sources if not any((START + one.table(name).start) % 16 for name in shown))
    array = "offsets" if "offsets" in source.blob.tables else "addresses"
    of, out = share_of(source, without(source, {sorted(pages_of(source, array))[2]}))
    assert out >= 0.99 * of > 0


@pytest.mark.slow
@pytest.mark.parametrize("filler", ["zeros", "noise", "foreign", "own"])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.25])
@pytest.mark.parametrize("era", ERAS, ids=str)
def test_nothing_wrong(era: Era, share: float, filler: Filler) -> None:
    source = placed(era, sample(era, COUNT), before=3000)
    survived = came_out = 0
    for seed in range(SEEDS):
        done = damage(source.blob, source.data, source.offset, START, share, seed, filler)
        of, out = share_of(source, done)
        survived, came_out = survived + of, came_out + out
    if filler == "zeros":
        # tables of a few dozen pages lose more at each edge than a kernel's do
        assert came_out >= 0.9 * survived


@pytest.mark.parametrize("era", SORTED, ids=str)
def test_without_any_marker(era: Era) -> None:
    """The count stands before the names, and seqs_of_names tells which names those behind lost pages are."""
    source = split(era, "token_table", 0)
    lost = pages_of(source, "markers")
    assert not lost & pages_of(source, "token_table", "num_syms")
    of, out = share_of(source, without(source, lost))
    assert of > COUNT / 2
    assert out >= 0.99 * of


@pytest.mark.parametrize("era", SORTED, ids=str)
def test_the_first_tokens_lost(era: Era) -> None:
    """The index tells which tokens those are that are left."""
    source = split(era, "token_table", 250)
    page = (START + source.table("token_table").start) // PAGE
    done = without(source, {page})
    of, out = share_of(source, done)
    assert of
    assert out >= 0.99 * of


@pytest.mark.parametrize("era", ERAS, ids=str)
def test_the_last_tokens_and_the_index_lost(era: Era) -> None:
    """Where the addresses lie behind the index, seqs_of_names tells where they end."""
    source = split(era, "token_table", 500)
    page = (START + source.table("token_index").start) // PAGE
    of, out = share_of(source, without(source, {page}))
    assert of
    assert out >= 0.99 * of


@pytest.mark.parametrize("era", BEHIND_INDEX, ids=str)
def test_the_index_and_an_end_of_the_permutation_lost(era: Era) -> None:
    """Addresses that could as well begin a few entries further on are none."""
    source = split(era, "token_table", 500)
    page = (START + source.table("token_index").start) // PAGE
    sequences = source.table("seqs_of_names")
    for end in (sequences.start, sequences.stop - 1):
        share_of(source, without(source, {page, (START + end) // PAGE}))


@pytest.mark.parametrize("era", BEHIND_INDEX, ids=str)
@pytest.mark.parametrize("further", [(), (0.5,), (0.2, 0.5, 0.7)], ids=len)
def test_markers_count_and_first_tokens_lost(era: Era, further: tuple[float, ...]) -> None:
    """The addresses tell how many there are, and seqs_of_names which names those between two lost pages are."""
    source = split(era, "token_table", 250)
    names = source.table("names")
    places = [names.start + int((names.stop - names.start) * share) for share in further]
    places += [source.table("num_syms").start, names.start, source.table("token_table").start]
    lost = {(START + place) // PAGE for place in places} | pages_of(source, "markers")
    of, out = share_of(source, without(source, lost))
    assert of
    assert out >= 0.9 * of


@pytest.mark.parametrize("era", BEHIND_INDEX, ids=str)
def test_markers_and_count_lost_and_the_end_of_the_addresses(era: Era) -> None:
    """How many there are is not told by addresses that could end anywhere."""
    source = split(era, "token_table", 250)
    offsets = source.table("offsets")
    pages = pages_of(source, "num_syms", "markers")
    for place in (offsets.stop - 1, source.table("seqs_of_names").stop - 1):
        share_of(source, without(source, pages | {(START + place) // PAGE}))


@pytest.mark.parametrize("era", ["6.4 x86", "6.12 arm64", "7.0"])
def test_the_count_lost_and_some_markers(era: str) -> None:
    """The addresses end where their order does, and seqs_of_names begins there."""
    source = split(BY_NAME[era], "markers", 80)
    lost = {(START + source.table(name).start) // PAGE for name in ("num_syms", "markers")}
    of, out = share_of(source, without(source, lost))
    assert of > COUNT / 2
    assert out >= 0.95 * of


@pytest.mark.parametrize("filler", ["zeros", "noise", "foreign"])
@pytest.mark.parametrize("era", ["6.12 arm64", "7.0"])
def test_exports_without_their_markers(era: str, filler: Filler) -> None:
    """Where names are in the order of their indices, that order does not tell one index from the next one."""
    source = exporting(BY_NAME[era])
    first = (START + source.table("names").start) // PAGE
    lost = {first + 3, first + 6, first + 9, (START + source.table("markers").start) // PAGE}
    done = without(source, lost)
    if filler != "zeros":
        # one page more, between two that are blank
        place = (first + 8) * PAGE - START
        other = random.Random(5).randbytes(PAGE) if filler == "noise" else source.data[place - PAGE : place]
        done = replace(done, data=done.data[:place] + other + done.data[place + PAGE :])
    of, out = share_of(source, done)
    assert of > COUNT
    if filler == "zeros":
        assert out >= 0.99 * of


def test_a_lost_token_table_leaves_nothing() -> None:
    """Better nothing than addresses with made-up names."""
    for era in ERAS:
        source = placed(era, sample(era, COUNT), before=3000)
        done = without(source, pages_of(source, "token_table"))
        assert not done.survivors.any()
        assert recovered(done.data) is None
