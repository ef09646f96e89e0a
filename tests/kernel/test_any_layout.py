"""The order, the gaps and the alignment of the tables do not matter.

``KALLSIFT_LAYOUTS=1000`` tries as many; the suite itself some dozens.
"""

from __future__ import annotations

import os
from itertools import pairwise

import numpy as np
import pytest

import kallsift
from kallsift.kallsyms.evidence import Outcome
from kallsift.memory.model import AddressSpace, ImageFacts, Memory, Segment
from tests.kallsyms.layouts import Layout, layout

LAYOUTS = int(os.environ.get("KALLSIFT_LAYOUTS", "24"))


def recovered(made: Layout) -> kallsift.Kernel:
    """What kallsift finds in a layout, given as the flat image of a kernel."""
    segment = Segment(made.physical, np.frombuffer(made.blob.data, np.uint8))
    return kallsift.recover(Memory("layout", "flat", AddressSpace.FILE, (segment,), image=ImageFacts(("flat",), 0)))


@pytest.mark.parametrize("seed", range(LAYOUTS))
def test_any_layout_is_read_exactly(seed: int) -> None:
    made = layout(seed)
    kernel = recovered(made)
    text, bounds = kernel.symbols.characters.tobytes().decode("latin-1"), kernel.symbols.bounds.tolist()
    texts = [text[a:b] for a, b in pairwise(bounds)]
    found = list(zip(kernel.symbols.addresses.tolist(), texts, strict=True))
    assert found == [(symbol.address, symbol.letter + symbol.name) for symbol in made.blob.symbols]
    # neighbours that an array could go on with may leave a doubt, which is then told
    failed = {check.name for check in kernel.evidence if check.essential and check.outcome is Outcome.FAILED}
    assert failed <= {"only reading"}
