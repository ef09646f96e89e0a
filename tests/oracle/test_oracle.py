"""The oracle agrees with itself, and with the format sheet where it gives bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle.eras import ERAS, Era
from tests.oracle.symbols import TEXT, Symbol, population
from tests.oracle.tokens import compress, expand
from tests.oracle.writer import ByteOrder, write


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.lists(st.binary(min_size=1, max_size=30).map(lambda text: text.replace(b"\0", b"x")), min_size=1))
def test_codes_expand_to_their_texts(texts: list[bytes]) -> None:
    tokens, codes = compress(tuple(texts))
    assert [expand(tokens, code) for code in codes] == texts
    assert all(tokens[character] == bytes([character]) for character in b"".join(texts))


def test_codes_are_given_from_255_downward() -> None:
    tokens, codes = compress((b"aaaa", b"aab", b"aa"))
    assert (tokens[255], tokens[254]) == (b"aa", b"")
    assert codes == (b"\xff\xff", b"\xffb", b"\xff")


@pytest.mark.parametrize("era", ERAS, ids=str)
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
    era = next(era for era in ERAS if era.name == "7.0")
    symbols = (Symbol(TEXT, "T", "b"), Symbol(TEXT, "T", "a"), Symbol(TEXT + 8, "D", "a"))
    blob = write(symbols, era, address=TEXT + 0x1000)

    def table(name: str) -> bytes:
        place = blob.tables[name]
        return blob.data[place.offset : place.end]

    assert table("num_syms") == b"\3\0\0\0"
    assert table("names") == b"\2Tb\2Ta\2Da"
    assert table("markers") == bytes(4)
    assert table("seqs_of_names") == b"\0\0\1\0\0\2\0\0\0"
    place = TEXT + 0x1000 + blob.tables["offsets"].offset
    raw = [int.from_bytes(table("offsets")[i : i + 4], "little", signed=True) for i in (0, 4, 8)]
    assert [place + 4 * i + value for i, value in enumerate(raw)] == [TEXT, TEXT, TEXT + 8]
    assert raw[1] - raw[0] == -4


def test_percpu_and_base() -> None:
    era = next(era for era in ERAS if era.name == "5.10 x86")
    blob = write((Symbol(0, "A", "a"), Symbol(16, "A", "b"), Symbol(TEXT, "T", "c")), era, address=TEXT)
    offsets, base = blob.tables["offsets"], blob.tables["relative_base"]
    assert blob.data[offsets.offset : offsets.end] == b"\0\0\0\0\x10\0\0\0\xff\xff\xff\xff"
    assert int.from_bytes(blob.data[base.offset : base.end], "little") == TEXT
