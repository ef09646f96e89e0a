"""Writes a kernel's tables as its assembler would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tests.oracle.eras import Era
from tests.oracle.names import Names, store
from tests.oracle.symbols import Symbol

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
        symbols: what they say, but for the letters where the era stores none.
        data: all tables and what pads them.
        tables: places by the tables' names.
        heads: offset in ``data`` of each entry of names.
        tokens: the 256 tokens; none where the era has no token table.
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
    names = store(symbols, era)
    if relative_base is None:
        relative_base = first_base(symbols, era)
    contents = fixed_tables(symbols, era, names, word_size, byte_order, relative_base)
    data, tables = bytearray(), {}
    alignment = era.alignments[word_size == 8]
    for name in era.order:
        data += bytes(-(address + len(data)) % alignment)
        content = contents.get(name)
        if content is None:
            content = offsets_table(symbols, era, byte_order, relative_base, address + len(data))
        tables[name] = Place(len(data), len(content))
        data += content
    start = tables["names"].offset
    return Blob(era, tuple(symbols), bytes(data), tables, tuple(start + head for head in names.heads), names.tokens)


def first_base(symbols: Sequence[Symbol], era: Era) -> int:
    """The first address that is not of the per-CPU area."""
    percpu = era.encoding == "percpu"
    return next((s.address for s in symbols if not (percpu and _is_percpu(s.address))), 0)


def fixed_tables(
    symbols: Sequence[Symbol], era: Era, names: Names, word_size: int, byte_order: ByteOrder, relative_base: int
) -> dict[str, bytes]:
    """Those tables whose bytes are the same wherever they lie, and some that the era leaves out."""
    tokens = names.tokens
    index = [sum(len(token) + 1 for token in tokens[:code]) for code in range(len(tokens))]
    sequence_order = "big" if era.sequence_size == 3 else byte_order
    ordered = by_name(symbols, era.cut) if era.sequence_size else []
    return {
        "num_syms": _numbers([len(symbols)], era.count_size or word_size, byte_order),
        "names": names.stream,
        "markers": _numbers(names.heads[::GROUP], era.marker_size or word_size, byte_order),
        "seqs_of_names": _numbers(ordered, era.sequence_size, sequence_order),
        "token_table": b"".join(token + b"\0" for token in tokens),
        "token_index": _numbers(index, 2, byte_order),
        "addresses": _numbers([symbol.address for symbol in symbols], word_size, byte_order),
        "relative_base": _numbers([relative_base], word_size, byte_order),
    }


def offsets_table(symbols: Sequence[Symbol], era: Era, byte_order: ByteOrder, base: int, place: int) -> bytes:
    """kallsyms_offsets, mapped at ``place``."""
    match era.encoding:
        case "absolute":
            values = [symbol.address for symbol in symbols]
        case "offset":
            values = [symbol.address - base for symbol in symbols]
        case "percpu":
            values = [s.address if _is_percpu(s.address) else base - 1 - s.address for s in symbols]
        case "self-relative":
            values = [symbol.address - (place + 4 * index) for index, symbol in enumerate(symbols)]
    return _numbers(values, 4, byte_order)


def by_name(symbols: Sequence[Symbol], cut: str = "") -> list[int]:
    """Indices in the order of the names, equal ones in the table's order; names end where ``cut`` begins."""
    names = [symbol.name.encode("latin-1") for symbol in symbols]
    if cut:
        names = [name.partition(cut.encode())[0] for name in names]
    return sorted(range(len(names)), key=names.__getitem__)


def _is_percpu(address: int) -> bool:
    return address < 1 << 31


def _numbers(values: Sequence[int], size: int, order: ByteOrder) -> bytes:
    """Values modulo 2^(8 * size)."""
    mask = (1 << 8 * size) - 1
    return b"".join((value & mask).to_bytes(size, order) for value in values)
