"""Named pointers: a changed name or address of what structures lead to, or of the structures, is never proven."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kallsift.kallsyms.evidence import CheckId, Outcome
from kallsift.kernel.cross_checks.named_structures import HOLDERS
from kallsift.kernel.placement.pointers import Words
from tests.kernel.twice import BASE, SIZE, Row, Twice, function, put

pytestmark = pytest.mark.sampled(2)

POINTERS = CheckId.NAMED_POINTERS

COUNT = 150
"""Structures of each kind."""

MAPS, TRACEPOINTS, KEYS, TEXTS, MARKS = 0x1_0000, 0x2_0000, 0x4_0000, 0x5_0000, 0x8_0000
"""Offsets of the kinds in the image."""

STEP = 0x50
"""Bytes from one tracepoint to the next."""

SOME = function(77)
"""What one of each kind is called after."""


def kernel(size: int = 8, order: str = "<") -> Twice:
    """Tracepoints with their names, functions and keys, what leads to them, and marks on the functions."""
    data, rows, text = np.zeros(SIZE, np.uint8), list[Row](), TEXTS + 1

    def add(offset: int, name: str, words: dict[int, int]) -> None:
        rows.append((BASE + offset, "d", name))
        for field, target in words.items():
            put(data, offset + size * field, BASE + target, size=size, order=order)

    for number in range(COUNT):
        name = function(number)
        tracepoint, key, iterator = TRACEPOINTS + number * STEP, KEYS + 16 * number, 0x20 * number
        rows.append((BASE + iterator, "t", f"__traceiter_{name}"))
        add(key, f"__SCK__tp_func_{name}", {})
        add(tracepoint, f"__tracepoint_{name}", {0: text, 2: key, 4: iterator})
        add(MAPS + 4 * size * number, f"__bpf_trace_tp_map_{name}", {0: tracepoint})
        add(MARKS + size * number, f"_kbl_addr___traceiter_{name}", {0: iterator})
        raw = name.encode()
        data[text : text + len(raw)] = np.frombuffer(raw, np.uint8)
        text += len(raw) + 1
    return Twice(tuple(sorted(rows)), data, Words(size, order))


@pytest.fixture(scope="module")
def made() -> Twice:
    return kernel()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("size", [4, 8])
def test_an_untouched_kernel_leads_where_its_names_say(size: int, order: str) -> None:
    check = kernel(size, order).checks()[POINTERS]
    assert check.outcome is Outcome.PASSED
    assert check.detail.startswith(f"{5 * COUNT} names and {5 * COUNT} addresses")


KINDS = ("__tracepoint_", "__traceiter_", "__SCK__tp_func_", "__bpf_trace_tp_map_")


@pytest.mark.parametrize("prefix", KINDS)
@pytest.mark.parametrize("size", [4, 8])
def test_a_changed_name_is_contradicted(size: int, prefix: str) -> None:
    changed = kernel(size).renamed(prefix + SOME, prefix + SOME.replace("thing", "thino"))
    assert POINTERS in changed.failed()


def test_only_the_text_contradicts_a_tracepoint_that_leads_nowhere_else() -> None:
    """All names of one tracepoint are changed alike, but for the text that it leads to."""
    changed = kernel()
    for prefix in (*KINDS, "_kbl_addr___traceiter_"):
        changed = changed.renamed(prefix + SOME, prefix + SOME.replace("thing", "thino"))
    assert changed.failed() == {POINTERS}
    assert f"__tracepoint_{SOME.replace('thing', 'thino')} is called {SOME}" in changed.checks()[POINTERS].detail


def test_a_changed_prefix_of_a_target_is_contradicted(made: Twice) -> None:
    assert POINTERS in made.renamed(f"__traceiter_{SOME}", f"__tracesome_{SOME}").failed()


@pytest.mark.parametrize("bit", range(4))
def test_a_changed_address_of_a_target_is_contradicted(made: Twice, bit: int) -> None:
    for prefix in ("__traceiter_", "__SCK__tp_func_"):
        changed = made.moved(prefix + SOME, 1 << bit)
        assert POINTERS in changed.failed(), prefix


@pytest.mark.parametrize("bit", range(6))
def test_a_changed_address_of_a_structure_is_contradicted(made: Twice, bit: int) -> None:
    changed = made.moved(f"__tracepoint_{SOME}", 1 << bit)
    assert changed.failed() == {POINTERS}


@pytest.mark.parametrize("bit", range(6))
def test_a_changed_address_of_what_only_leads_is_contradicted(made: Twice, bit: int) -> None:
    """Nothing leads to a map: that it is elsewhere is told by the word that is elsewhere."""
    changed = made.moved(f"__bpf_trace_tp_map_{SOME}", 1 << bit)
    assert changed.failed() == {POINTERS}
    assert f"__bpf_trace_tp_map_{SOME} is at" in changed.checks()[POINTERS].detail


def test_what_the_kernel_gave_back_contradicts_nothing(made: Twice) -> None:
    """Some structures, or all, are overwritten by something else: what they are called is not confirmed."""
    chance = np.random.default_rng(5)
    for low, high in ((MAPS, MAPS + 256), (MAPS, MAPS + 32 * COUNT), (MAPS + 96, MAPS + 104)):
        data = made.data.copy()
        data[low:high] = chance.integers(0, 256, high - low)
        assert replace(made, data=data).failed() == set()


def test_a_symbol_at_the_beginning_of_an_array_contradicts_nothing(made: Twice) -> None:
    rows = tuple(sorted((*made.rows, (BASE + MAPS, "d", "__bpf_trace_tp_map_start"))))
    assert POINTERS not in replace(made, rows=rows).failed()


def test_structures_that_share_what_they_lead_to_contradict_nothing(made: Twice) -> None:
    """As two marks on one function, the name of which one bears."""
    data = made.data.copy()
    put(data, MAPS + 32 * 77, BASE + TRACEPOINTS + 76 * STEP, size=8)
    assert replace(made, data=data).failed() == set()


def test_words_that_lead_elsewhere_make_no_rule(made: Twice) -> None:
    """A tenth of the maps leads to nothing that is called so."""
    data = made.data.copy()
    for number in range(0, COUNT, 10):
        put(data, MAPS + 32 * number, BASE + TEXTS + 0x1_0008, size=8)
    assert replace(made, data=data).failed() == set()


def test_no_structure_is_asked_twice_for_the_same() -> None:
    assert len({holder.prefix for holder in HOLDERS}) == len(HOLDERS)
    assert all(len(set(holder.targets)) == len(holder.targets) for holder in HOLDERS)


def test_hostile_words_end(made: Twice) -> None:
    chance = np.random.default_rng(9)
    for _ in range(20):
        data = made.data.copy()
        for low, high in ((MAPS, MAPS + 4096), (TRACEPOINTS, TRACEPOINTS + STEP * COUNT)):
            places = chance.integers(low, high, 40)
            data[places] = chance.integers(0, 256, 40)
        replace(made, data=data).checks()
