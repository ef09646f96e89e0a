"""The oracle agrees with itself, and with the format sheet where it gives bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.oracle.eras import ALL_ERAS, Era
from tests.oracle.names import store
from tests.oracle.symbols import LONGEST_NAME, TEXT, Symbol, population
from tests.oracle.tokens import LONGEST, compress, compress_substrings, expand
from tests.oracle.writer import ByteOrder, write

TEXTS = st.lists(st.binary(min_size=1, max_size=30).map(lambda text: text.replace(b"\0", b"x")), min_size=1)
BY_NAME = {era.name: era for era in ALL_ERAS}


@settings(derandomize=True, max_examples=examples(50))
@given(TEXTS)
def test_codes_expand_to_their_texts(texts: list[bytes]) -> None:
    for compression in (compress, compress_substrings):
        tokens, codes = compression(tuple(texts))
        assert [expand(tokens, code) for code in codes] == texts
        assert all(tokens[character] == bytes([character]) for character in b"".join(texts))


def test_codes_are_given_from_255_downward() -> None:
    tokens, codes = compress((b"aaaa", b"aab", b"aa"))
    # of the pairs that remain once each, the one whose right code is the smaller comes first
    assert tokens[252:] == (b"", b"aaaa", b"aab", b"aa")
    assert codes == (b"\xfd", b"\xfe", b"\xff")


def test_substrings_are_longer_than_pairs() -> None:
    symbols = population(600)
    tokens = store(symbols, BY_NAME["2.6.10 x86"]).tokens
    assert sum(3 <= len(token) <= LONGEST for token in tokens) > 64
    assert tokens != store(symbols, BY_NAME["2.6.14 x86"]).tokens


@pytest.mark.parametrize("era", ALL_ERAS, ids=str)
def test_tables_follow_each_other_aligned(era: Era) -> None:
    orders: tuple[ByteOrder, ...] = ("little", "big")
    for word_size in era.word_sizes:
        for order in orders:
            start = TEXT if word_size == 8 else 0xC0300000
            symbols = population(600, percpu=era.encoding == "percpu", start=start)
            blob = write(symbols, era, address=start + 0x100014, word_size=word_size, byte_order=order)
            assert tuple(blob.tables) == era.order
            position = 0
            for place in blob.tables.values():
                alignment = era.alignments[word_size == 8]
                assert (start + 0x100014 + place.offset) % alignment == 0
                assert not any(blob.data[position : place.offset])
                assert place.offset - position < alignment
                position = place.end
            count = blob.tables["num_syms"]
            assert int.from_bytes(blob.data[count.offset : count.end], order) == 600


def test_a_table_by_hand() -> None:
    symbols = (Symbol(TEXT, "T", "b"), Symbol(TEXT, "T", "a"), Symbol(TEXT + 8, "D", "a"))
    blob = write(symbols, BY_NAME["openwrt 6.6"], address=TEXT + 0x1000)

    def table(name: str) -> bytes:
        place = blob.tables[name]
        return blob.data[place.offset : place.end]

    assert table("num_syms") == b"\3\0\0\0"
    assert table("names") == b"\2Tb\2Ta\2Da"
    assert table("markers") == bytes(4)
    assert table("seqs_of_names") == b"\0\0\1\0\0\2\0\0\0"
    blob = write(symbols, BY_NAME["7.0"], address=TEXT + 0x1000)
    place = TEXT + 0x1000 + blob.tables["offsets"].offset
    raw = [int.from_bytes(table("offsets")[i : i + 4], "little", signed=True) for i in (0, 4, 8)]
    assert [place + 4 * i + value for i, value in enumerate(raw)] == [TEXT, TEXT, TEXT + 8]
    assert raw[1] - raw[0] == -4


def test_names_before_tokens_by_hand() -> None:
    symbols = [Symbol(TEXT, "T", name) for name in ("do_exit", "do_fork", "do_fork", "sys")]
    assert store(symbols, BY_NAME["2.6.9 x86"]).stream == b"\0do_exit\0\3fork\0\7\0\0sys\0"
    assert store(symbols, BY_NAME["2.5.45 x86"]).stream == b"do_exit\0do_fork\0do_fork\0sys\0"


def test_percpu_and_base() -> None:
    blob = write((Symbol(0, "A", "a"), Symbol(16, "A", "b"), Symbol(TEXT, "T", "c")), BY_NAME["5.10 x86"], address=TEXT)
    offsets, base = blob.tables["offsets"], blob.tables["relative_base"]
    assert blob.data[offsets.offset : offsets.end] == b"\0\0\0\0\x10\0\0\0\xff\xff\xff\xff"
    assert int.from_bytes(blob.data[base.offset : base.end], "little") == TEXT


def test_base_of_a_kernel_at_a_low_address() -> None:
    blob = write((Symbol(0x100000, "T", "a"), Symbol(0x100010, "T", "b")), BY_NAME["6.12 arm64"], address=0x200000)
    base = blob.tables["relative_base"]
    assert int.from_bytes(blob.data[base.offset : base.end], "little") == 0x100000


def test_text_only_populations() -> None:
    symbols = population(1000, text_only=True)
    addresses = {symbol.name: symbol.address for symbol in symbols if symbol.letter == "T"}
    low, high = (addresses["_stext"], addresses["_etext"]), (addresses["_sinittext"], addresses["_einittext"])
    assert all(low[0] <= s.address <= low[1] or high[0] <= s.address <= high[1] for s in symbols)
    assert [s.address for s in symbols] == sorted(s.address for s in symbols)
    assert {s.letter for s in symbols} == set("tTwW")


def test_long_names_take_two_bytes_of_length() -> None:
    symbols = population(1000, long_names=True)
    assert max(len(symbol.name) for symbol in symbols) == LONGEST_NAME
    names = store(symbols, BY_NAME["7.0"])
    lengths = [names.stream[head] for head in names.heads]
    assert any(length >= 0x80 for length in lengths)
    with pytest.raises(ValueError, match="cannot be stored"):
        store(symbols, BY_NAME["5.10 x86"])


def test_distinct_addresses() -> None:
    symbols = population(1000, distinct=True)
    assert len({symbol.address for symbol in symbols}) == len(symbols)
