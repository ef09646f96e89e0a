"""Whole tables of every era, in random neighbours, are recovered exactly."""

from __future__ import annotations

import random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from kallsift.errors import Step
from kallsift.kallsyms.evidence import CheckId, Outcome, proven
from kallsift.kallsyms.recovered_tables import Attempt, Tables
from tests.kallsyms.placed import ERAS_64, START, Placed, candidates, mistakes, placed, sample, symbols_of
from tests.oracle.eras import ERAS, Era
from tests.oracle.symbols import TEXT, population
from tests.oracle.writer import write

pytestmark = pytest.mark.sampled(4)

NEWEST = next(era for era in ERAS if era.name == "7.0")
BY_NAME = {era.name: era for era in ERAS}

COUNTED = ("4.6 x86", "5.10 x86", "6.2 x86", "6.12 arm64", "7.0")
"""Eras whose widths of markers and neighbours of markers differ."""

each_era = pytest.mark.parametrize("era", ERAS_64, ids=str)
bounded = settings(derandomize=True, max_examples=3, phases=[Phase.generate])
"""Few and never shrunk: each example takes a tenth of a second or more."""


def assert_exact(source: Placed, *, places: bool = True) -> Tables:
    """The preferred candidate says what the blob says, at its places, and is believed."""
    found = candidates(source.data)
    assert found, "nothing was found"
    tables = found[0]
    assert symbols_of(tables) == list(source.blob.symbols)
    assert proven(tables.checks), tables.checks
    if places:
        for name, address, size in tables.places:
            table = source.table(name)
            assert address - START == table.start, name
            assert name == "num_syms" or size == table.stop - table.start, name
        assert {name for name, _, _ in tables.places} == set(source.blob.tables)
    return tables


@each_era
@pytest.mark.parametrize("before", [0, 4093])
def test_each_era(era: Era, before: int) -> None:
    assert_exact(placed(era, sample(era, 1500), before=before))


@pytest.mark.parametrize("before", [1, 4, 60, 2048, 4092, 3 * 4096 + 1])
def test_any_offset_in_a_page(before: int) -> None:
    for era in (BY_NAME["2.6.32 arm"], NEWEST):
        assert_exact(placed(era, sample(era, 900), before=before))


@pytest.mark.parametrize("era", [era for era in ERAS_64 if era.name in COUNTED], ids=str)
@pytest.mark.parametrize("count", [513, 768, 1023, 1024, 1025, 2304, 2305])
def test_counts_around_multiples_of_256(era: Era, count: int) -> None:
    assert_exact(placed(era, sample(era, count)))


@pytest.mark.parametrize(
    ("name", "count"),
    [(name, count) for name in ("2.6.20 x86", "5.10 x86", "6.12 arm64", "7.0") for count in (300, 511, 512)],
)
def test_small_counts(name: str, count: int) -> None:
    """With two markers of eight bytes, the second may as well be read as one of four: places are not fixed."""
    era = BY_NAME[name]
    assert_exact(placed(era, sample(era, count)), places=era.marker_size == 4 or count > 512)


@each_era
@bounded
@given(count=st.integers(900, 1400), seed=st.integers(0, 1 << 16), before=st.integers(0, 8192))
@pytest.mark.slow
def test_any_population(era: Era, count: int, seed: int, before: int) -> None:
    assert_exact(placed(era, sample(era, count, seed), before=before))


@each_era
def test_sequences_are_checked_where_they_exist(era: Era) -> None:
    tables = assert_exact(placed(era, sample(era, 1500)))
    outcomes = {check.name: check.outcome for check in tables.checks}
    assert outcomes[CheckId.SEQS_OF_NAMES] is (Outcome.PASSED if era.sequence_size else Outcome.ABSENT)
    assert outcomes[CheckId.NUM_SYMS] is Outcome.PASSED


@pytest.mark.parametrize("base", [TEXT - 0x1000, TEXT - 0x1234567])
@pytest.mark.parametrize("era", [BY_NAME[name] for name in ("4.6 x86", "4.9 arm64", "5.10 arm64")], ids=str)
def test_base_below_all_symbols(era: Era, base: int) -> None:
    """Up to 5.5 the base was the lowest of all symbols, even of those that were then left out."""
    assert_exact(placed(era, sample(era, 1500), relative_base=base))


def incompressible(length: int, seed: int) -> str:
    """A name that hardly compresses."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"
    return "".join(random.Random(seed).choices(alphabet, k=length))


@pytest.mark.parametrize("era", [era for era in ERAS_64 if era.long_names], ids=str)
def test_lengths_of_two_bytes(era: Era) -> None:
    symbols = list(sample(era, 1500))
    for place, length in ((3, 127), (300, 128), (700, 255), (701, 256), (1024, 300), (1499, 511)):
        symbols[place] = symbols[place]._replace(name=incompressible(length, place))
    source = placed(era, tuple(symbols))
    assert sum(source.data[source.offset + head] >= 0x80 for head in source.blob.heads) >= 3
    assert_exact(source)


@pytest.mark.parametrize("era", [era for era in ERAS_64 if not era.long_names], ids=str)
def test_longest_length_of_one_byte(era: Era) -> None:
    """128 codes: a byte that 6.1 would read as the first of two."""
    symbols = list(sample(era, 1500))
    source = placed(era, tuple(symbols))
    for place in (5, 600, 1499):
        # characters that are in no other name pair with nothing
        name = "".join(map(chr, range(0x80, 0xFF)))
        symbols[place] = symbols[place]._replace(name=name)
    source = placed(era, tuple(symbols))
    assert any(source.data[source.offset + head] >= 0x40 for head in source.blob.heads)
    assert_exact(source)


@each_era
def test_many_equal_addresses(era: Era) -> None:
    symbols = [s._replace(address=TEXT + i // 300 * 64) for i, s in enumerate(population(900))]
    assert_exact(placed(era, tuple(symbols)))


@each_era
def test_one_name_for_all(era: Era) -> None:
    symbols = population(900)
    named = [symbols[0], *(symbol._replace(name="twice") for symbol in symbols[1:])]
    assert_exact(placed(era, tuple(named)))


def test_two_kernels_in_one_segment() -> None:
    """Each is preferred by its own token table."""
    one = placed(BY_NAME["6.12 arm64"], population(900, 1))
    other = placed(NEWEST, population(1100, 2), before=0)
    shift = bytes(-len(one.data) % 4096)
    first: dict[int, Tables] = {}
    for tables in candidates(one.data + shift + other.data):
        first.setdefault({name: place for name, place, _ in tables.places}["token_table"], tables)
    found = [symbols_of(tables) for tables in first.values()]
    assert found[0] == list(one.blob.symbols)
    # the second lies elsewhere than it was written for, so only its addresses' distances are its own
    moved = found[1][0].address - other.blob.symbols[0].address
    assert found[1] == [symbol._replace(address=symbol.address + moved) for symbol in other.blob.symbols]


@each_era
def test_copies_of_the_tokens_as_decoys(era: Era) -> None:
    """Digits alone, a token table without an index, and one with an index but without names."""
    source = placed(era, sample(era, 1500))
    digits = b"".join(b"%d\0" % digit for digit in range(10))
    tokens, index = source.data[source.table("token_table")], source.data[source.table("token_index")]
    decoys = digits + b"\xff" * 13 + tokens + b"\xff" * 300 + tokens + bytes(-len(tokens) % 8) + index
    before, after = source.data[: source.offset], source.data[source.offset + len(source.blob.data) :]
    data = decoys.rjust(len(before), b"\xaa") + source.blob.data + after + decoys
    found = candidates(data)
    assert found
    assert symbols_of(found[0]) == list(source.blob.symbols)


@pytest.mark.slow
@pytest.mark.parametrize("era", ERAS_64, ids=str)
def test_truncated_tables(era: Era) -> None:
    """A segment that ends within any table gives nothing, but for the permutation that nothing else depends on."""
    source = placed(era, sample(era, 900))
    for name in era.order:
        table = source.table(name)
        for cut in (table.start, table.start + 1, (table.start + table.stop) // 2, table.stop - 1):
            # the preferred one: where the first symbols share an address, an array that begins later fits as well
            for found in candidates(source.data[:cut])[:1]:
                assert name == "seqs_of_names"
                assert symbols_of(found) == list(source.blob.symbols)


@pytest.mark.parametrize("era", [BY_NAME["6.4 x86"], BY_NAME["6.12 arm64"]], ids=str)
def test_truncated_base(era: Era) -> None:
    source = placed(era, sample(era, 900))
    base = source.table("relative_base")
    for cut in range(base.start + 1, base.stop):
        assert not candidates(source.data[:cut])


def test_attempt_tells_the_furthest_step() -> None:
    attempt = Attempt()
    attempt.reached(2, Step.NAMES, "second")
    attempt.reached(1, Step.TOKEN_TABLE, "first")
    assert (attempt.step, attempt.message) == ("names", "second")


def test_a_sorted_table_behind_the_tokens() -> None:
    """Self-relative, as .orc_unwind_ip and __ex_table are, in the place where newer kernels have their offsets."""
    era = BY_NAME["5.10 x86"]
    source = placed(era, sample(era, 900))
    sorted_table = b"".join((12 * i).to_bytes(4, "little") for i in range(1500))
    end = source.offset + len(source.blob.data)
    data = source.data[:end] + b"\1" * 8 + sorted_table + source.data[end:]
    assert not mistakes(data, source.blob.symbols)


@pytest.mark.parametrize("name", ["6.2 x86", "6.2 arm64"])
def test_what_follows_the_markers_looks_like_one(name: str) -> None:
    """No padding, and the permutation's first word is a step that markers could take."""
    era = BY_NAME[name]
    for seed in range(100):
        blob = write(sample(era, 900, seed), era, address=TEXT)
        stop = blob.tables["markers"].end
        last, word = (int.from_bytes(blob.data[place : place + 4], "little") for place in (stop - 4, stop))
        if last + 512 <= word <= last + 256 * 0x4001:
            assert_exact(placed(era, sample(era, 900, seed)))
            return
    pytest.fail("no population of these has such a first word")
