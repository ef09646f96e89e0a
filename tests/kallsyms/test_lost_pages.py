"""What comes out of the oracle's tables when pages of them are lost: nothing wrong, and almost all that survives."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.kallsyms.damaged.solver import recover_damaged
from kallsift.kallsyms.damaged.token_table import cut_token_tables, table_before, token_indices
from kallsift.kallsyms.format.token_table import TokenTable, lone_token_tables, token_tables
from kallsift.kallsyms.recovered_tables import Attempt, Tables
from kallsift.kallsyms.token_scan import DIGITS
from kallsift.memory.segments import BytesSegment
from tests.kallsyms.placed import DISTANCE, ERAS_64, START, Placed, placed, sample, symbols_of
from tests.oracle.damage import PAGE, Damage, Filler, damage, survivors
from tests.oracle.eras import Era
from tests.oracle.symbols import Symbol, population

BY_NAME = {era.name: era for era in ERAS_64}
ERAS = [BY_NAME[name] for name in ("4.20 x86", "5.10 arm64", "6.2 x86", "6.4 x86", "6.12 arm64", "7.0")]
SORTED = [era for era in ERAS if era.sequence_size]
BEHIND_INDEX = [era for era in SORTED if era.order.index("offsets") > era.order.index("token_index")]

BASE = {"relative_base"}
COUNT = 9000
SEEDS = 4

EXPORTS = 4000
EXPORT_SIZE = 12
"""Bytes of an entry of the export table, of three fields."""


def segment_of(data: bytes) -> BytesSegment:
    return BytesSegment(START, np.frombuffer(data, np.uint8))


def token_tables_of(data: bytes) -> Iterator[TokenTable]:
    """Whole token tables, and else what is left of them, in the order in which they are asked for."""
    segment, digits = segment_of(data), data.find(DIGITS)
    found = [*token_tables(segment, digits)] if digits >= 0 else []
    if not found and digits >= 0:
        found = [*lone_token_tables(segment, digits, 1 << 20)]
    yield from found
    for place, byte_order in token_indices(segment, WorkBudget.of(segment.size)) if not found else ():
        if (tokens := table_before(segment, place, byte_order)) is not None:
            yield tokens
    if digits >= 0 and not found:
        yield from cut_token_tables(segment, digits)


def recovered(data: bytes) -> Tables | None:
    """The first reading of damaged tables."""
    readings = (
        tables
        for tokens in token_tables_of(data)
        for tables in recover_damaged(segment_of(data), tokens, (8,), Attempt())
    )
    return next(readings, None)


def share_of(source: Placed, done: Damage) -> tuple[int, int]:
    """How many symbols survive and how many of these came out; fails where anything wrong did."""
    tables, lost = recovered(done.data), {page // PAGE for page in done.lost}
    if tables is None:
        return int(done.survivors.sum()), 0
    named, known = read(tables)
    truth = source.blob.symbols
    assert tables.count == len(truth)
    if tables.array.needs_base or not pages_of(source, *BASE & source.blob.tables.keys()).isdisjoint(lost):
        # another base is nothing that tables could show
        known = np.zeros_like(known)
    for one, true, has_name, has_address in zip(symbols_of(tables), truth, named, known, strict=True):
        assert not has_name or (one.letter, one.name) == (true.letter, true.name)
        assert not has_address or one.address == true.address
    whole = named & known
    return int(done.survivors.sum()), int((done.survivors & whole).sum())


def read(tables: Tables) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each symbol's name came out, and whether its address did."""
    known = np.ones(tables.count, np.bool_) if tables.known_addresses is None else tables.known_addresses
    return np.diff(tables.bounds) > 0, known


def without(source: Placed, pages: set[int]) -> Damage:
    """The source with these pages zeroed."""
    data = bytearray(source.data)
    for page in pages:
        data[page * PAGE - START : (page + 1) * PAGE - START] = bytes(PAGE)
    names, addresses = survivors(source.blob, [page * PAGE - START - source.offset for page in pages])
    return Damage(bytes(data), tuple(page * PAGE for page in sorted(pages)), names & addresses, names, addresses)


def pages_of(source: Placed, *names: str) -> set[int]:
    """The pages that tables lie on."""
    tables = [source.table(name) for name in names]
    return {
        page for table in tables for page in range((START + table.start) // PAGE, (START + table.stop - 1) // PAGE + 1)
    }


def split(era: Era, name: str, kept: int) -> Placed:
    """Tables placed so that a page begins ``kept`` bytes into one of them."""
    source = placed(era, sample(era, COUNT), before=3 * PAGE)
    into = START + source.table(name).start + kept
    return placed(era, sample(era, COUNT), before=4 * PAGE - into % PAGE)


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


def exporting(era: Era) -> Placed:
    """The export table, then tables of its entries and of the symbols that they lead to, whose addresses are higher.

    A page begins behind the markers of the entries.
    """
    symbols = population(COUNT, start=START + DISTANCE + (16 << 20))
    times = Counter(symbol.name for symbol in symbols)
    exported = sorted((one for one in symbols if times[one.name] == 1), key=lambda one: one.name)[:EXPORTS]
    places = [START + DISTANCE + EXPORT_SIZE * number for number in range(EXPORTS)]
    entries = b"".join(
        ((one.address - place) % (1 << 32)).to_bytes(4, "little") + place.to_bytes(8, "little")
        for place, one in zip(places, exported, strict=True)
    )
    listed = (
        *(Symbol(place, "r", f"__ksymtab_{one.name}") for place, one in zip(places, exported, strict=True)),
        *symbols,
    )
    room = -(-len(entries) // PAGE) * PAGE
    into = placed(era, listed, before=room).table("markers").start + 4 * -(-EXPORTS // 256)
    source = placed(era, listed, before=room + PAGE - into % PAGE)
    return replace(source, data=entries + source.data[len(entries) :])


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
