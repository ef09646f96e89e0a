"""kallsyms_names: the stream of names in each form that it has had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from tests.oracle.eras import Era
from tests.oracle.symbols import Symbol
from tests.oracle.tokens import compress, compress_substrings


@dataclass(frozen=True)
class Names:
    """The stream and what belongs to it.

    Attributes:
        stream: all entries.
        heads: offset of each.
        tokens: the 256 tokens; none where there are none.
    """

    stream: bytes
    heads: tuple[int, ...]
    tokens: tuple[bytes, ...] = ()


def store(symbols: Sequence[Symbol], era: Era) -> Names:
    """The names of symbols as an era stores them."""
    texts = tuple((symbol.letter + symbol.name).encode("latin-1") for symbol in symbols)
    match era.compression:
        case "pairs":
            tokens, codes = compress(texts)
            return join([prefixed(entry, era.long_names) for entry in codes], tokens)
        case "substrings":
            tokens, codes = compress_substrings(texts)
            return join([prefixed(entry, era.long_names) for entry in codes], tokens)
        case "none":
            return join([prefixed(text, era.long_names) for text in texts])
        case "stems":
            return join(_stems([text[1:] for text in texts]))
        case "strings":
            return join([text[1:] + b"\0" for text in texts])


def join(entries: Sequence[bytes], tokens: tuple[bytes, ...] = ()) -> Names:
    """Entries end to end."""
    heads = tuple(accumulate((len(entry) for entry in entries), initial=0))[:-1]
    return Names(b"".join(entries), heads, tokens)


def prefixed(entry: bytes, long_names: bool) -> bytes:
    """An entry behind its length, which takes a second byte from 128 on where that is allowed."""
    count = len(entry)
    if long_names and 0x7F < count <= 0x3FFF:
        return bytes([count & 0x7F | 0x80, count >> 7]) + entry
    if not 0 < count <= (0x7F if long_names else 0x80):
        raise ValueError(f"an entry of {count} codes cannot be stored")
    return bytes([count]) + entry


def _stems(names: Sequence[bytes]) -> list[bytes]:
    """Names less the characters that they begin with as the name before does, behind the number of those."""
    entries, before = [], b""
    for name in names:
        shared = 0
        while shared < min(len(name), len(before), 0xFF) and name[shared] == before[shared]:
            shared += 1
        entries.append(bytes([shared]) + name[shared:] + b"\0")
        before = name
    return entries
