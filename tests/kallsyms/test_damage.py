"""Damaged tables: what is believed is exact, or the damage is one that the tables themselves cannot show.

Which damage is caught where:

* token_index, markers, the lengths in names, num_syms: each has an equation here. Where a stream still ends at its
  markers and counts right, or where the padding beside a table is hit, nothing but the equation is lost.
* token_table: a lost or a new zero byte breaks the index. Another character in a token does not; only seqs_of_names
  (6.2 and later) can show it, and only if the order of the names changes.
* codes in names: as characters in tokens.
* offsets and addresses: here if the order breaks, else by the kernel layer, whose landmarks must lie where their
  symbols point, unless the symbol is no landmark.
* relative_base: not here; a wrong one puts every symbol elsewhere, and the kernel layer finds no pointer that equals a
  symbol. Where it becomes zero, the kernel layer looks for another.
* seqs_of_names: nothing is read from it, so the symbols stay exact.
* a blank page of addresses: here, though it may be in order.
"""

from __future__ import annotations

import random

import pytest

from kallsift.kallsyms.evidence import CheckId, Outcome
from tests.kallsyms import equations
from tests.kallsyms.placed import ERAS_64, START, Placed, believed, mistakes, placed, sample, symbols_of
from tests.oracle.eras import Era
from tests.oracle.symbols import TEXT

pytestmark = pytest.mark.sampled(3)

ERAS = [era for era in ERAS_64 if era.name in ("2.6.20 x86", "5.10 x86", "5.10 arm64", "6.2 x86", "6.12 arm64", "7.0")]
BY_NAME = {era.name: era for era in ERAS_64}

each_era = pytest.mark.parametrize("era", ERAS, ids=str)

COUNT = 1700
"""Symbols: seven markers, so that no few of them fit by chance."""

TRIES = 3
"""Bytes of each table that are changed."""


def test_the_equations_hold_for_what_the_oracle_writes() -> None:
    for era in ERAS_64:
        source = placed(era, sample(era, COUNT))
        assert equations.hold(source, source.data)


def places(source: Placed, name: str, chance: random.Random) -> list[int]:
    """Bytes to change: of names lengths before the last marker, of others any, the first and the last among them."""
    if name == "names":
        heads = [source.offset + head for head in source.blob.heads[: COUNT // 256 * 256]]
        return [*chance.sample(heads, TRIES), heads[0], heads[-1]]
    table = source.table(name)
    if name == "offsets":
        # an array that begins or ends elsewhere: test_a_wrong_address_at_an_end
        table = slice(table.start + 16, table.stop - 16)
    return [*(chance.randrange(table.start, table.stop) for _ in range(TRIES)), table.start, table.stop - 1]


@pytest.mark.parametrize(
    ("era", "name"),
    [
        # with the third to the fifth marker damaged, two are left
        pytest.param(era, name)
        for era in ERAS
        for name in ("token_table", "token_index", "markers", "names", "offsets", "addresses")
        if name in era.order
    ],
    ids=str,
)
def test_one_byte(era: Era, name: str) -> None:
    source = placed(era, sample(era, COUNT))
    assert believed(source.data) is not None
    chance = random.Random(f"{era.name} {name}")
    for place in places(source, name, chance):
        byte = chance.choice(
            [0, 1, 0x80, 0xFF, source.data[place] + 1 & 0xFF, source.data[place] ^ 1 << chance.randrange(8)]
        )
        data = source.changed(place, bytes([byte]))
        wrong = mistakes(data, source.blob.symbols)
        assert not wrong or equations.hold(source, data), (place - source.table(name).start, byte, wrong[:3])


@each_era
@pytest.mark.parametrize("change", [1, 0x80])
def test_another_count(era: Era, change: int) -> None:
    """num_syms one too low by a bit: names still touch their markers, and all else says how many there are."""
    source = placed(era, sample(era, COUNT))
    place = source.table("num_syms").start
    lower = int.from_bytes(source.data[place : place + 2], "little") - change
    tables = believed(source.changed(place, lower.to_bytes(2, "little")))
    assert tables is None or symbols_of(tables) == list(source.blob.symbols)


@each_era
def test_a_wrong_length_in_the_last_group(era: Era) -> None:
    """Two entries become one: no marker behind them shows it, but the count does."""
    source = placed(era, sample(era, COUNT))
    heads = [source.offset + head for head in source.blob.heads]
    first, second = heads[-3], heads[-2]
    merged = source.data[first] + 1 + source.data[second]
    data = source.changed(first, bytes([merged]))
    assert not equations.hold(source, data)
    assert not mistakes(data, source.blob.symbols)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("era", ["6.12 arm64", "7.0"])
def test_two_markers_left(era: str) -> None:
    """A missing page begins behind the second marker: the end of the names must not stand in for all of them.

    Some kernels in two do, of any size: a few hundred symbols, all of them wrong, and no check failed.
    """
    found = 0
    for seed in range(12):
        source = placed(BY_NAME[era], sample(BY_NAME[era], 2000, seed))
        markers = source.table("markers")
        data = source.changed(markers.start + 8, bytes(markers.stop - markers.start - 8))
        assert not equations.hold(source, data)
        found += bool(mistakes(data, source.blob.symbols))
    assert not found


@pytest.mark.parametrize("index", [0, 1])
def test_a_wrong_address_at_the_start(index: int) -> None:
    """The array two entries further on, with num_syms for its base."""
    era = BY_NAME["5.10 arm64"]
    source = placed(era, sample(era, COUNT))
    place = source.table("offsets").start + 4 * index
    data = source.changed(place, (0x7FFF_0000).to_bytes(4, "little"))
    assert not equations.hold(source, data)
    assert not mistakes(data, source.blob.symbols)


@pytest.mark.parametrize("era", ["5.10 x86", "6.12 arm64", "7.0"])
@pytest.mark.parametrize("index", [0, 1, 2, -2, -1])
def test_a_wrong_address_at_an_end(era: str, index: int) -> None:
    """An array that begins one entry later, or ends one earlier, must not stand in for the whole one."""
    source = placed(BY_NAME[era], sample(BY_NAME[era], COUNT))
    table = source.table("offsets")
    place = (table.start if index >= 0 else table.stop) + 4 * index
    data = source.changed(place, (0x7FFF_0000 if index >= 0 else 0x8000_0000).to_bytes(4, "little"))
    assert not mistakes(data, source.blob.symbols) or equations.hold(source, data)


@each_era
def test_a_token_with_another_character(era: Era) -> None:
    """The permutation shows it, or that names would have been encoded otherwise; before 2.6.14 nothing does."""
    source = placed(era, sample(era, COUNT))
    table = source.table("token_table")
    place = source.data.index(b"ac", table.start, table.stop)
    data = source.changed(place, b"ca")
    wrong = mistakes(data, source.blob.symbols)
    assert bool(wrong) == (era.compression != "pairs")
    assert equations.hold(source, data) == (not era.sequence_size)


@each_era
def test_the_last_zero_byte_of_the_tokens(era: Era) -> None:
    """The padding behind it ends the last token as well: all that changes is that token's last character."""
    source = placed(era, sample(era, COUNT))
    data = source.changed(source.table("token_table").stop - 1, b"\1")
    assert not mistakes(data, source.blob.symbols)


@pytest.mark.parametrize("era", ["2.6.20 x86", "5.10 x86", "5.10 arm64"])
def test_a_character_that_is_not_its_own_token(era: str) -> None:
    """Without a permutation, the only equation that shows it."""
    source = placed(BY_NAME[era], sample(BY_NAME[era], COUNT))
    table = source.table("token_table")
    place = source.data.index(b"d\0e\0f\0", table.start, table.stop) + 2
    assert not mistakes(source.changed(place, b"q"), source.blob.symbols)


@pytest.mark.parametrize("era", ["5.10 arm64", "6.12 arm64"])
def test_another_base_moves_all(era: str) -> None:
    """Known limit of this layer: names, types and distances stay right."""
    source = placed(BY_NAME[era], sample(BY_NAME[era], COUNT))
    base = source.table("relative_base")
    tables = believed(source.changed(base.start, (TEXT + 0x100).to_bytes(8, "little")))
    assert tables is not None
    assert symbols_of(tables) == [s._replace(address=s.address + 0x100) for s in source.blob.symbols]
    lost = believed(source.changed(base.start, bytes(8)))
    assert lost is not None
    assert lost.array.needs_base


@pytest.mark.parametrize("era", ["6.2 x86", "6.12 arm64", "7.0"])
def test_a_broken_permutation_loses_only_itself(era: str) -> None:
    source = placed(BY_NAME[era], sample(BY_NAME[era], COUNT))
    table = source.table("seqs_of_names")
    first, second = source.data[table.start : table.start + 3], source.data[table.start + 3 : table.start + 6]
    for content in (second + first, bytes(3), b"\xff"):
        data = source.changed(table.start, content)
        tables = believed(data)
        assert tables is None or symbols_of(tables) == list(source.blob.symbols)
        if tables is not None:
            assert {check.name: check.outcome for check in tables.checks}[CheckId.SEQS_OF_NAMES] is Outcome.ABSENT


@pytest.mark.slow
@pytest.mark.parametrize("era", ERAS_64, ids=str)
@pytest.mark.parametrize("before", [0, 3000])
def test_a_blank_page(era: Era, before: int) -> None:
    """A page that a dump lacks and fills with zeros never makes a symbol wrong."""
    source = placed(era, sample(era, 1800), before=before)
    first, last = source.offset // 4096, (source.offset + len(source.blob.data) - 1) // 4096
    assert last - first > 4
    for page in range(first, last + 1):
        data = source.changed(page * 4096, bytes(4096))[: len(source.data)]
        wrong = mistakes(data, source.blob.symbols)
        assert not wrong, (page * 4096 + START, wrong[:3])


@each_era
def test_a_page_of_another_time(era: Era) -> None:
    """A page of random bytes in place of a page never makes a symbol wrong where the tables could show it."""
    source = placed(era, sample(era, COUNT), before=3000)
    for page in range(1, (source.offset + len(source.blob.data)) // 4096):
        data = source.changed(page * 4096, random.Random(page).randbytes(4096))
        assert not mistakes(data, source.blob.symbols)
