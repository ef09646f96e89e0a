"""Tables of any era in an image: pointers to symbols and empty list heads lie around them, as in every kernel."""

from __future__ import annotations

import random

from tests.kallsyms.surroundings import Surroundings
from tests.oracle.eras import Era
from tests.oracle.symbols import population
from tests.oracle.writer import Blob, ByteOrder, write

BEFORE, BEHIND = 1 << 19, 1 << 17
STARTS = {8: 0xFFFF_8000_8000_0000, 4: 0xC030_0000}


def image(era: Era, word_size: int, byte_order: ByteOrder, text_only: bool) -> tuple[Blob, bytes]:
    """Write the tables of an era into an image that is mapped at `STARTS`."""
    start = STARTS[word_size]
    percpu = era.encoding == "percpu" and not text_only
    symbols = population(1500, 3, percpu=percpu, start=start, text_only=text_only)
    blob = write(symbols, era, address=start + BEFORE, word_size=word_size, byte_order=byte_order)
    chance = random.Random(f"{era} {word_size} {byte_order} {text_only}")
    mapped = [symbol.address for symbol in symbols if symbol.address >= start]
    size = BEFORE + len(blob.data) + BEHIND
    data = Surroundings(chance, word_size, byte_order).image(
        size, start, mapped, (BEFORE - 4096, BEFORE + len(blob.data) + 4096)
    )
    data[BEFORE : BEFORE + len(blob.data)] = blob.data
    return blob, bytes(data)
