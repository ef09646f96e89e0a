"""The equations between the tables, evaluated plainly at the places where the oracle put them.

They say which damage any reader can see: bytes for which all of them still hold tell a consistent lie.
"""

from __future__ import annotations

from itertools import pairwise

from tests.kallsyms.placed import Placed

LETTERS = frozenset(b"ABDRTVWabdrtvw?GgSsNnCcIiUu-")


def hold(source: Placed, data: bytes) -> bool:
    """Whether ``data`` holds, where ``source`` has its tables, tables that agree with each other."""

    def table(name: str) -> bytes:
        return data[source.table(name)]

    def numbers(name: str, size: int) -> list[int]:
        raw = table(name)
        return [int.from_bytes(raw[i : i + size], "little") for i in range(0, len(raw), size)]

    era = source.blob.era
    count = len(source.blob.symbols)
    tokens = table("token_table").split(b"\0")[:-1]
    index = [sum(len(token) + 1 for token in tokens[:code]) for code in range(len(tokens))]
    if len(tokens) != 256 or numbers("token_index", 2) != index:
        return False
    texts, heads, place, stream = [], [], 0, table("names")
    while place < len(stream):
        heads.append(place)
        length, place = stream[place], place + 1
        if era.long_names and length & 0x80 and place < len(stream):
            length, place = length & 0x7F | stream[place] << 7, place + 1
        if not length or place + length > len(stream):
            return False
        texts.append(b"".join(tokens[code] for code in stream[place : place + length]))
        place += length
    if len(heads) != count or heads[::256] != numbers("markers", era.marker_size or 8):
        return False
    if numbers("num_syms", era.count_size or 8) != [count]:
        return False
    if not all(text and text[0] in LETTERS and len(text) > 1 for text in texts):
        return False
    if "relative_base" in era.order and numbers("relative_base", 8) == [0]:
        return False
    if not _rise(
        numbers("addresses" if "addresses" in era.order else "offsets", 8 if "addresses" in era.order else 4),
        era.encoding,
    ):
        return False
    if era.sequence_size:
        raw, size = table("seqs_of_names"), era.sequence_size
        order = [int.from_bytes(raw[i : i + size], "big" if size == 3 else "little") for i in range(0, len(raw), size)]
        if sorted(order) != list(range(count)) or order != sorted(order, key=lambda i: (texts[i][1:], i)):
            return False
    return True


def _rise(words: list[int], encoding: str) -> bool:
    """Whether addresses never decrease, whatever the base."""
    keys = words
    if encoding == "percpu":
        keys = [word if word < 1 << 31 else (1 << 31) + (~word % (1 << 32)) for word in words]
    elif encoding == "self-relative":
        keys = [(word ^ 1 << 31) - (1 << 31) + 4 * index for index, word in enumerate(words)]
    return all(before <= after for before, after in pairwise(keys))
