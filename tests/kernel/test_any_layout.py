"""The order, the gaps and the alignment of the tables do not matter.

``KALLSIFT_LAYOUTS=1000`` tries as many; the suite itself some dozens.
"""

from __future__ import annotations

import os
from itertools import pairwise

import numpy as np
import pytest

import kallsift
from kallsift.memory.memory import AddressSpace, ImageFacts, Memory
from kallsift.memory.segments import BytesSegment
from tests.kallsyms.layouts import Layout, layout

LAYOUTS = int(os.environ.get("KALLSIFT_LAYOUTS", "24"))

REGRESSIONS = (86, 118, 197, 276, 301, 423, 470, 588, 979)
"""Layouts that were read wrong, or not at all, when first tried."""

Symbols = list[tuple[int, str]]
"""Address, and type letter with name, of each."""


def recovered(made: Layout) -> kallsift.Kernel:
    """What kallsift finds in a layout, given as the flat image of a kernel."""
    segment = BytesSegment(made.physical, np.frombuffer(made.blob.data, np.uint8))
    return kallsift.recover(Memory("layout", "flat", AddressSpace.FILE, (segment,), image=ImageFacts(("flat",), 0)))


def found(kernel: kallsift.Kernel) -> Symbols:
    """What a kernel's table says."""
    text, bounds = kernel.symbols.characters.tobytes().decode("latin-1"), kernel.symbols.bounds.tolist()
    texts = [text[a:b] for a, b in pairwise(bounds)]
    return list(zip(kernel.symbols.addresses.tolist(), texts, strict=True))


def written(made: Layout) -> Symbols:
    """What a layout's tables say."""
    return [(symbol.address, symbol.letter + symbol.name) for symbol in made.symbols]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(LAYOUTS))
def test_any_layout_is_read_exactly(seed: int) -> None:
    made = layout(seed)
    kernel = recovered(made)
    assert found(kernel) == written(made)
    assert kernel.proven
    places = {table.name: table.physical - made.physical for table in kernel.tables}
    for name in ("names", "markers", "token_table", "token_index", "seqs_of_names", "relative_base"):
        if name in made.blob.tables:
            assert places[name] == made.blob.tables[name].offset


@pytest.mark.sampled(3)
@pytest.mark.parametrize("seed", REGRESSIONS)
def test_neighbours_that_go_on_in_order(seed: int) -> None:
    """The count directly before addresses, half of the base as one more offset, noise beyond zeros, a count twice."""
    made = layout(seed)
    kernel = recovered(made)
    assert found(kernel) == written(made)
    assert kernel.proven


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_without_exports_nothing_wrong_is_proven(seed: int) -> None:
    """Two readings may be borne out alike; then either is told as what it is."""
    made = layout(seed, closed=False, exports=False)
    kernel = recovered(made)
    if found(kernel) != written(made):
        assert not kernel.proven
