"""The lines of text must be what a plain loop over the symbols would write, byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kallsift.output.symbols import line_writer
from kallsift.output.symbols.kallsyms import kallsyms_text
from kallsift.output.symbols.line_writer import RowFormat
from tests.output.sample import Row, kernel, table
from tests.output.symbol_names import NASTY, PLAIN, TYPES, escaped

ANY_SIZE = st.integers(0, 600).map(lambda size: "n" * size)


def many(names: st.SearchStrategy[str], largest: int) -> st.SearchStrategy[list[Row]]:
    """Tables of such names."""
    return st.lists(st.tuples(st.integers(0, largest), TYPES, names), max_size=30)


LABELS = "\x01\x02"
"""What assemblers put into local labels, and the kernel prints."""


def written(table_rows: list[Row], word_size: int = 8) -> bytes:
    """The kallsyms text of a kernel with these symbols."""
    return b"".join(kallsyms_text(kernel(table_rows, word_size)))


@given(many(PLAIN | ANY_SIZE, 2**64 - 1))
def test_text_equals_a_plain_loop(table_rows: list[Row]) -> None:
    assert written(table_rows).decode() == "".join(f"{a:016x} {t} {n}\n" for a, t, n in table_rows)


@given(many(PLAIN, 2**32 - 1))
def test_32_bit_addresses_have_eight_digits(table_rows: list[Row]) -> None:
    assert written(table_rows, 4).decode() == "".join(f"{a:08x} {t} {n}\n" for a, t, n in table_rows)


@given(many(NASTY, 2**64 - 1))
def test_unprintable_bytes_are_spelled_out(table_rows: list[Row]) -> None:
    assert written(table_rows).decode() == "".join(f"{a:016x} {t} {escaped(n, LABELS)}\n" for a, t, n in table_rows)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), TYPES, PLAIN | NASTY | ANY_SIZE), max_size=30), st.integers(1, 7))
def test_chunks_join_without_a_seam(table_rows: list[Row], size: int) -> None:
    whole = written(table_rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_writer, "CHUNK", size)
        assert written(table_rows) == whole


@given(many(NASTY, 2**64 - 1))
def test_a_format_has_fields_and_escapes_of_its_own(table_rows: list[Row]) -> None:
    form = RowFormat(b"<", b"|", b"/", b">\r\n", unprintable=b"%%%02X", escapes={ord("%"): b"%%", ord("n"): b""})
    meanings = {"%": "%%", "n": ""}
    expected = ""
    for address, kind, name in table_rows:
        spelled = [meanings.get(c, c if " " <= c <= "~" else f"%{ord(c):02X}") for c in name]
        expected += f"<{address:016x}|{kind}/{''.join(spelled)}>\r\n"
    assert b"".join(form.lines(table(table_rows))).decode() == expected


@pytest.mark.parametrize("kind", ["\0", "\x1b", "\xff", ",", '"', "\n", " "])
def test_a_type_that_is_no_letter_is_unknown(kind: str) -> None:
    assert written([(1, kind, "name"), (2, "T", "next")]) == b"0000000000000001 ? name\n0000000000000002 T next\n"


def test_duplicates_stay_in_order() -> None:
    assert written([(1, "t", "init"), (1, "t", "init"), (0, "T", "late")]).splitlines() == [
        b"0000000000000001 t init",
        b"0000000000000001 t init",
        b"0000000000000000 T late",
    ]


def test_no_symbols_give_no_text() -> None:
    assert written([]) == b""


def test_the_table_is_left_as_it_was() -> None:
    nasty = table([(1, "\n", "na\nme")])
    before = nasty.characters.tobytes()
    b"".join(RowFormat().lines(nasty))
    assert nasty.characters.tobytes() == before
