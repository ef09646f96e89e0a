"""An array of addresses that the names of two kernels could belong to is called proven only where something tells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kallsyms.format.token_table import token_tables
from kallsift.kallsyms.recovered_tables import Attempt, Layout, Listed, Tables
from kallsift.kallsyms.solvers.scattered import recover_anywhere
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.placement.distances import unplaced_symbols
from kallsift.kernel.placement.placement import Placement
from kallsift.kernel.placement.pointers import Words
from kallsift.kernel.recovery.candidates import SharedWork, best_of
from kallsift.kernel.recovery.interpretations import Interpretations
from kallsift.memory.memory import AddressSpace, ImageFacts, Memory
from kallsift.memory.segments import BytesSegment
from tests.kallsyms.layouts import layout

DIGITS = b"".join(b"%d\0" % digit for digit in range(10))


def read(seed: int, *, closed: bool, exports: bool, changed: slice) -> Kernel | None:
    """The kernel of a layout, had another kernel's names, the same but for a part of them, been there as well."""
    made = layout(seed, closed=closed, exports=exports, index_adjacent=True)
    segment = BytesSegment(made.physical, np.frombuffer(made.data, np.uint8))
    memory = Memory("one", "flat", AddressSpace.FILE, (segment,), image=ImageFacts(("flat",), 0))
    tokens = next(token_tables(segment, made.data.index(DIGITS, made.blob.tables["token_table"].offset)))

    def disputed(tables: Tables) -> Tables:
        characters = tables.characters.copy()
        heads = tables.bounds[:-1]
        bodies = np.setdiff1d(np.arange(len(characters)), heads)
        characters[bodies[changed]] = ord("x")
        return replace(tables, layout=Layout.BOUNDED, rivals=(Listed(characters, tables.bounds),))

    found = recover_anywhere(segment, tokens, (made.word_size,), Attempt())
    return best_of(memory, map(disputed, found), Attempt(), SharedWork())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("closed", "exports", "changed", "proven"),
    [
        (True, False, slice(None), True),
        (False, True, slice(None), True),
        (False, True, slice(8), False),
        (False, False, slice(None), False),
    ],
    ids=["own names", "exports", "exports of either", "nothing"],
)
def test_what_ties_names_to_addresses(closed: bool, exports: bool, changed: slice, proven: bool) -> None:
    kernel = read(0, closed=closed, exports=exports, changed=changed)
    assert kernel is not None
    checks = [check for check in kernel.evidence if check.name == "names of addresses"]
    assert [check.outcome.value for check in checks] == ["passed" if proven else "failed"]
    assert kernel.proven == proven


@pytest.mark.parametrize(("moved", "hits", "told"), [(0, 100, False), (8, 50, False), (8, 95, True)])
def test_another_reading_that_does_nearly_as_well_is_told(moved: int, hits: int, told: bool) -> None:
    """One that says the same is none, and one that few pointers fit is not as good."""
    made = layout(0, index_adjacent=True)
    segment = BytesSegment(made.physical, np.frombuffer(made.data, np.uint8))
    memory = Memory("one", "flat", AddressSpace.FILE, (segment,), image=ImageFacts(("flat",), 0))
    tokens = next(token_tables(segment, made.data.index(DIGITS, made.blob.tables["token_table"].offset)))
    tables = next(iter(recover_anywhere(segment, tokens, (made.word_size,), Attempt())))
    passed = Check.that(CheckId.POINTERS_TO_SYMBOLS, True, "")
    readings = Interpretations(memory)
    for shift, count in ((0, 100), (moved, hits)):
        symbols = unplaced_symbols(tables)
        symbols = replace(symbols, addresses=symbols.addresses + np.uint64(shift))
        placement = Placement(symbols, 0, Words(made.word_size, tables.byte_order), (passed,), hits=count)
        landmark = Check.that(CheckId.LINUX_BANNER, True, "")
        assert readings.add(replace(tables, rivals=()), placement, (landmark,))
    best = readings.best()
    assert best is not None
    assert [check.name for check in best.landmarks if check.outcome is Outcome.FAILED] == ["only reading"] * told
