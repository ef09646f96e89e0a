"""Writes a kernel's tables as its assembler would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tests.oracle.eras import Era
from tests.oracle.symbols import Symbol
from tests.oracle.tokens import compress

ByteOrder = Literal["little", "big"]

GROUP = 256
"""Entries between two markers."""


@dataclass(frozen=True)
class Place:
    """Where a table lies in the blob, and how many bytes it takes."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        """Offset behind the last byte."""
        return self.offset + self.size


@dataclass(frozen=True)
class Blob:
    """Tables as they lie in memory.

    Attributes:
        era: whose tables they are.
        symbols: what they say.
        data: all tables and what pads them.
        tables: places by the tables' names.
        heads: offset in ``data`` of each entry of names.
        tokens: the 256 tokens.
    """

    era: Era
    symbols: tuple[Symbol, ...]
    data: bytes
    tables: dict[str, Place]
    heads: tuple[int, ...]
    tokens: tuple[bytes, ...]


def write(
    symbols: Sequence[Symbol],
    era: Era,
    *,
    address: int,
    word_size: int = 8,
    byte_order: ByteOrder = "little",
    relative_base: int | None = None,
) -> Blob:
    """The tables of an era.

    Args:
        symbols: in the table's order.
        era: whose tables to write.
        address: where the first byte of the blob is mapped; decides the padding, and self-relative entries.
        word_size: bytes of an address.
        byte_order: of everything but 3-byte sequences.
        relative_base: None for what kernels since 5.6 take: the first address that is not of the per-CPU area.
    """
    texts = tuple((symbol.letter + symbol.name).encode("latin-1") for symbol in symbols)
    tokens, entries = compress(texts)
    stream, heads = bytearray(), []
    for entry in entries:
        heads.append(len(stream))
        stream += _length(len(entry), era.long_names) + entry
    if relative_base is None:
        relative_base = next((s.address for s in symbols if not _is_percpu(s.address)), 0)

    def numbers(values: Sequence[int], size: int, order: ByteOrder = byte_order) -> bytes:
        """Values modulo 2^(8 * size); zero stands for the word size."""
        size = size or word_size
        return b"".join((value % (1 << 8 * size)).to_bytes(size, order) for value in values)

    index = [sum(len(token) + 1 for token in tokens[:code]) for code in range(256)]
    contents = {
        "num_syms": numbers([len(symbols)], era.count_size),
        "names": bytes(stream),
        "markers": numbers(heads[::GROUP], era.marker_size),
        "seqs_of_names": numbers(by_name(texts), era.sequence_size, "big" if era.sequence_size == 3 else byte_order),
        "token_table": b"".join(token + b"\0" for token in tokens),
        "token_index": numbers(index, 2),
        "addresses": numbers([symbol.address for symbol in symbols], word_size),
        "relative_base": numbers([relative_base], word_size),
    }
    data, tables = bytearray(), {}
    alignment = era.alignments[word_size == 8]
    for name in era.order:
        data += bytes(-(address + len(data)) % alignment)
        if name == "offsets":
            contents[name] = numbers(_offsets(symbols, era, relative_base, address + len(data)), 4)
        tables[name] = Place(len(data), len(contents[name]))
        data += contents[name]
    names = tables["names"].offset
    return Blob(era, tuple(symbols), bytes(data), tables, tuple(names + head for head in heads), tokens)


def by_name(texts: Sequence[bytes]) -> list[int]:
    """Indices in the order of the names, the letter left out, equal ones in the table's order."""
    return sorted(range(len(texts)), key=lambda index: texts[index][1:])


def _is_percpu(address: int) -> bool:
    return address < 1 << 31


def _length(count: int, long_names: bool) -> bytes:
    """What precedes an entry of ``count`` codes."""
    if long_names and 0x7F < count <= 0x3FFF:
        return bytes([count & 0x7F | 0x80, count >> 7])
    if count > (0x7F if long_names else 0x80):
        raise ValueError(f"an entry of {count} codes cannot be stored")
    return bytes([count])


def _offsets(symbols: Sequence[Symbol], era: Era, base: int, place: int) -> list[int]:
    """The entries of kallsyms_offsets, not yet modulo 2^32."""
    match era.encoding:
        case "absolute":
            return [symbol.address for symbol in symbols]
        case "offset":
            return [symbol.address - base for symbol in symbols]
        case "percpu":
            return [s.address if _is_percpu(s.address) else base - 1 - s.address for s in symbols]
        case "self-relative":
            return [symbol.address - (place + 4 * index) for index, symbol in enumerate(symbols)]
