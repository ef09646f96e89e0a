"""Name streams with their codes replaced by tokens, beside what Python joins."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kallsift.kallsyms.format.markers import GROUP
from kallsift.kallsyms.format.name_stream import Names, expand, is_group, landing
from kallsift.kallsyms.format.token_table import CODES, TokenTable


@given(
    st.lists(st.binary(max_size=40), min_size=CODES, max_size=CODES),
    st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=40),
    st.integers(1, 50),
)
def test_tokens_of_any_length_are_joined(tokens: list[bytes], entries: list[bytes], chunk: int) -> None:
    """Also where tokens are empty, as those of codes that no name has."""
    starts = np.cumsum([0, *(len(token) + 1 for token in tokens)])
    strings = np.frombuffer(b"".join(token + b"\0" for token in tokens), np.uint8)
    stream = b"".join(bytes([len(entry)]) + entry for entry in entries)
    ends = np.cumsum([len(entry) + 1 for entry in entries])
    lengths = np.array([len(entry) for entry in entries], np.int64)
    names = Names(0, ends - lengths, lengths)
    table = TokenTable(0, None, starts, strings, "<")
    characters, bounds = expand(np.frombuffer(stream, np.uint8), names, table, chunk)
    texts = [b"".join(tokens[code] for code in entry) for entry in entries]
    assert characters.tobytes() == b"".join(texts)
    assert bounds.tolist() == np.cumsum([0, *map(len, texts)]).tolist()


@given(st.lists(st.binary(max_size=3), min_size=GROUP - 1, max_size=GROUP + 1), st.booleans(), st.integers(-1, 1))
def test_one_walk_ends_where_all_walks_do(entries: list[bytes], two_byte_lengths: bool, cut: int) -> None:
    """Some of the entries are empty, or begin with what is the second byte of a length by one rule."""
    data = b"".join(bytes([len(entry)]) * bool(entry) + entry for entry in entries) + b"\x81\x00"
    data = data[: len(data) - 2 + cut]
    walked = landing(np.frombuffer(data + b"\1", np.uint8), two_byte_lengths)
    assert is_group(data, two_byte_lengths) == (walked[0] == len(data))


def test_a_long_name_is_walked_by_one_rule() -> None:
    data = bytes([0x81, 0x02, *[7] * 0x101, *[1, 7] * (GROUP - 1)])
    assert is_group(data, two_byte_lengths=True)
    assert not is_group(data, two_byte_lengths=False)
    assert not is_group(data[:-1], two_byte_lengths=True)
