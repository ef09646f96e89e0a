"""Tables of which pages are lost, and how much of what survives is recovered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.kallsyms.damaged.solver import recover_damaged
from kallsift.kallsyms.damaged.token_table import cut_token_tables, table_before, token_indices
from kallsift.kallsyms.format.token_table import TokenTable, lone_token_tables, token_tables
from kallsift.kallsyms.recovered_tables import Attempt, Tables
from kallsift.kallsyms.token_scan import DIGITS
from kallsift.memory.segments import BytesSegment
from tests.kallsyms.placed import DISTANCE, ERAS_64, START, Placed, placed, sample, symbols_of
from tests.oracle.damage import PAGE, Damage, survivors
from tests.oracle.eras import Era
from tests.oracle.symbols import Symbol, population

BY_NAME = {era.name: era for era in ERAS_64}
ERAS = [BY_NAME[name] for name in ("4.20 x86", "5.10 arm64", "6.2 x86", "6.4 x86", "6.12 arm64", "7.0")]
SORTED = [era for era in ERAS if era.sequence_size]
BEHIND_INDEX = [era for era in SORTED if era.order.index("offsets") > era.order.index("token_index")]
BASE = {"relative_base"}
COUNT = 9000
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
