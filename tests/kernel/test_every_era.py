"""Tables of every era, for every word size and byte order, with all symbols and with text alone, out of an image.

The image around them is made up as well: pointers to symbols and empty list heads, as every kernel has them.
"""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest

import kallsift
from kallsift.memory.memory import AddressSpace, ImageFacts, Memory
from kallsift.memory.segments import BytesSegment
from tests.kallsyms.surroundings import Surroundings
from tests.kernel.era_cases import era_case
from tests.oracle.eras import EARLY_ERAS, ERAS, LTO_ERAS, UNCOMPRESSED_ERAS, VENDOR_ERAS, Era
from tests.oracle.symbols import population
from tests.oracle.writer import Blob, ByteOrder, write

BEFORE, BEHIND = 1 << 19, 1 << 17
STARTS = {8: 0xFFFF_8000_8000_0000, 4: 0xC030_0000}
CASES = [
    era_case(era, size, order, text_only, era.word_sizes[0])
    for era in (*EARLY_ERAS, *ERAS, *UNCOMPRESSED_ERAS, *VENDOR_ERAS, *LTO_ERAS)
    for size in era.word_sizes
    for order in ("little", "big")
    for text_only in (False, True)
]


def image(era: Era, word_size: int, byte_order: ByteOrder, text_only: bool) -> tuple[Blob, bytes]:
    """The tables of an era in an image that is mapped at `STARTS`."""
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


@pytest.mark.parametrize(("era", "word_size", "byte_order", "text_only"), CASES)
def test_exact(era: Era, word_size: int, byte_order: ByteOrder, text_only: bool) -> None:
    blob, data = image(era, word_size, byte_order, text_only)
    segment = BytesSegment(0, np.frombuffer(data, np.uint8))
    kernel = kallsift.recover(Memory("era", "flat", AddressSpace.FILE, (segment,), image=ImageFacts(("flat",), 0)))
    text, bounds = kernel.symbols.characters.tobytes().decode("latin-1"), kernel.symbols.bounds.tolist()
    texts = [text[a:b] for a, b in pairwise(bounds)]
    found = list(zip(kernel.symbols.addresses.tolist(), texts, strict=True))
    letters = (symbol.letter if era.lettered else "?" for symbol in blob.symbols)
    assert found == [(s.address, letter + s.name) for s, letter in zip(blob.symbols, letters, strict=True)]
    assert kernel.proven
