"""Blobs of the oracle in memory, and what kallsift makes of them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from kallsift.kallsyms.evidence import proven
from kallsift.kallsyms.format.token_table import token_tables
from kallsift.kallsyms.recovered_tables import Attempt, Tables
from kallsift.kallsyms.solvers.adjacent import recover_tables
from kallsift.kallsyms.token_scan import digit_runs
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment
from tests.oracle.eras import ERAS, Era
from tests.oracle.symbols import Symbol, population
from tests.oracle.writer import Blob, write

ERAS_64 = tuple(era for era in ERAS if 8 in era.word_sizes)

START = 0xFFFF_FFFF_9123_4000
"""Address of the segments, which no int64 holds."""

DISTANCE = -0x1000_0000
"""From the segments' addresses to those that the kernel has them at."""

BEFORE = 3 * 4096


@dataclass(frozen=True)
class Placed:
    """A blob in a segment's bytes.

    Attributes:
        blob: the tables.
        data: the segment's bytes, random but for the blob.
        offset: of the blob in ``data``.
    """

    blob: Blob
    data: bytes
    offset: int

    def table(self, name: str) -> slice:
        """Where a table lies in ``data``."""
        place = self.blob.tables[name]
        return slice(self.offset + place.offset, self.offset + place.end)

    def changed(self, place: int, content: bytes) -> bytes:
        """``data`` with other bytes at ``place``."""
        return self.data[:place] + content + self.data[place + len(content) :]


@lru_cache(maxsize=256)
def placed(
    era: Era,
    symbols: tuple[Symbol, ...],
    *,
    before: int = BEFORE,
    after: int = 8192,
    relative_base: int | None = None,
) -> Placed:
    """The symbols' tables with random neighbours of ``before`` and ``after`` bytes."""
    blob = write(symbols, era, address=START + before + DISTANCE, relative_base=relative_base)
    chance = random.Random(f"{era.name} {len(symbols)} {before}")
    return Placed(blob, chance.randbytes(before) + blob.data + chance.randbytes(after), before)


def sample(era: Era, count: int, seed: int = 0) -> tuple[Symbol, ...]:
    """A population that the era can hold."""
    return population(count, seed, percpu=era.encoding == "percpu")


def memory(*segments: tuple[int, bytes]) -> Memory:
    """A physical memory of segments, given as address and bytes."""
    return Memory(
        "test",
        "test",
        AddressSpace.PHYSICAL,
        tuple(BytesSegment(start, np.frombuffer(data, np.uint8)) for start, data in segments),
    )


def candidates(data: bytes, start: int = START) -> list[Tables]:
    """All tables found in a segment of these bytes, in the order in which they are preferred."""
    segment = BytesSegment(start, np.frombuffer(data, np.uint8))
    return [
        tables
        for _, runs in digit_runs(memory((start, data)))
        for run in runs
        for tokens in token_tables(segment, int(run))
        for tables in recover_tables(segment, tokens, (8,), Attempt())
    ]


def believed(data: bytes) -> Tables | None:
    """The first candidate none of whose essential checks failed."""
    return next((tables for tables in candidates(data) if proven(tables.checks)), None)


def symbols_of(tables: Tables) -> list[Symbol]:
    """What kallsift reads from tables, with the addresses that the kernel has."""
    addresses = tables.array.addresses(tables.array_address + DISTANCE).tolist()
    text, bounds = tables.characters.tobytes().decode("latin-1"), tables.bounds.tolist()
    texts = [text[a:b] for a, b in itertools.pairwise(bounds)]
    return [Symbol(address, text[:1], text[1:]) for address, text in zip(addresses, texts, strict=True)]


def mistakes(data: bytes, symbols: Sequence[Symbol]) -> list[tuple[Symbol, Symbol | None]]:
    """Believed symbols that differ from the true ones, each with the true one; none where no tables are believed."""
    tables = believed(data)
    if tables is None:
        return []
    read = symbols_of(tables)
    truth: list[Symbol | None] = [*symbols, *([None] * max(0, len(read) - len(symbols)))]
    return [(one, other) for one, other in zip(read, truth, strict=False) if one != other]
