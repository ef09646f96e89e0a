"""Tables of every era, for every word size and byte order, with all symbols and with text alone, out of an image.

The image around them is made up as well: pointers to symbols and empty list heads, as every kernel has them.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import kallsift
from kallsift.memory.memory import AddressSpace, ImageFacts, Memory
from kallsift.memory.segments import BytesSegment
from tests.kernel.era_cases import era_case
from tests.kernel.era_images import image
from tests.oracle.eras import EARLY_ERAS, ERAS, LTO_ERAS, UNCOMPRESSED_ERAS, VENDOR_ERAS, Era
from tests.oracle.writer import ByteOrder

pytestmark = pytest.mark.sampled(12)

CASES = [
    era_case(era, size, order, text_only, era.word_sizes[0])
    for era in (*EARLY_ERAS, *ERAS, *UNCOMPRESSED_ERAS, *VENDOR_ERAS, *LTO_ERAS)
    for size in era.word_sizes
    for order in ("little", "big")
    for text_only in (False, True)
]


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
