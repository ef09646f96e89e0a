"""Name streams with their codes replaced by tokens, beside what Python joins."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kallsift.kallsyms.names import Names, expand
from kallsift.kallsyms.tokens import CODES, TokenTable


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
