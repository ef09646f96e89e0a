"""Placements that landmarks or numbers contradict cost little, and decide as much as if all were looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import kallsift
from kallsift.errors import Step
from kallsift.kallsyms.damaged import address_table, solver
from kallsift.kallsyms.damaged.address_table import PartialAddressTable
from kallsift.kallsyms.recovered_tables import Attempt, Layout, Tables
from kallsift.kernel.placement import search
from kallsift.kernel.placement.distances import Candidate
from kallsift.kernel.placement.search import _PlacementSearch, placements
from kallsift.kernel.placement.window_facts import SharedWindows
from kallsift.kernel.recovery import candidates as readings
from kallsift.kernel.recovery.candidates import SharedWork, best_of
from kallsift.memory.memory import ImageFacts, Memory
from tests.kallsyms.placed import candidates
from tests.kernel.made_machine import BANNER, PAGE, TABLES, Machine


@pytest.fixture(scope="module")
def made() -> tuple[Memory, Tables]:
    machine = Machine()
    return machine.memory(), candidates(machine.data.tobytes(), 0)[0]


def test_who_wants_all_gets_what_everybody_gets(made: tuple[Memory, Tables]) -> None:
    plain = list(placements(*made, SharedWindows()))
    wanted = list(placements(*made, SharedWindows(), is_wanted=lambda _: True))
    assert [one.distance for one in plain] == [one.distance for one in wanted]
    assert [one.checks for one in plain] == [one.checks for one in wanted]
    assert plain


def test_what_nobody_wants_is_not_looked_at(made: tuple[Memory, Tables], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_confirmed", lambda *_, **__: pytest.fail("its pointers were counted"))
    assert not list(placements(*made, SharedWindows(), is_wanted=lambda _: False))


def test_a_way_that_nobody_wants_is_the_last_one_all_the_same(
    made: tuple[Memory, Tables], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Had the true distance been looked at, no other candidates would have been: so they are not now."""
    memory, tables = made
    (right,) = placements(memory, tables, SharedWindows())
    reason = right.checks[0]
    ways = [Candidate(right.distance, reason)], [Candidate(right.distance + 4096, reason)]
    monkeypatch.setattr(search, "_ways", lambda *_: map(iter, ways))
    assert not list(placements(memory, tables, SharedWindows(), is_wanted=lambda one: one.distance != right.distance))


def test_a_reading_that_a_landmark_contradicts_is_asked_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """How wide words are takes longest to find out: seconds for each of many readings of a damaged dump."""
    machine = Machine()
    machine.data[machine.place + BANNER :][:16] = 1
    tables = candidates(machine.data.tobytes(), 0)[0]
    for name in ("word_size_check", "held_twice"):
        monkeypatch.setattr(readings, name, lambda *_, name=name: pytest.fail(f"{name} was asked"))
    attempt = Attempt()
    for layout in (Layout.ADJACENT, Layout.BOUNDED):
        laid_out = iter([replace(tables, layout=layout)])
        assert best_of(machine.memory(), laid_out, attempt, SharedWork()) is None
    assert attempt.is_seamless
    assert attempt.step is Step.LANDMARKS


def test_nobody_counts_pointers_for_placements_that_nobody_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    machine.data[machine.place + BANNER :][:16] = 1
    tables = candidates(machine.data.tobytes(), 0)[0]
    monkeypatch.setattr(search, "_confirmed", lambda *_, **__: pytest.fail("its pointers were counted"))
    assert best_of(machine.memory(), iter([tables]), None, SharedWork()) is None


def test_a_placement_that_nobody_wants_hides_those_without_strings(
    made: tuple[Memory, Tables], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an image, pointers to strings decide: where they prove a distance, no other one is a guess any more."""
    memory, tables = made
    memory = replace(memory, image=ImageFacts(("raw",), 0))
    (right,) = placements(*made, SharedWindows())
    ways = [[Candidate(right.distance + 4096 * number, right.checks[0]) for number in range(2)]]
    monkeypatch.setattr(search, "_ways", lambda *_: map(iter, ways))
    monkeypatch.setattr(
        _PlacementSearch,
        "_placed",
        lambda _, candidate, *__: replace(
            right, distance=candidate.distance, has_strings=candidate.distance == right.distance
        ),
    )
    plain = list(placements(memory, tables, SharedWindows()))
    assert [one.distance for one in plain] == [right.distance]
    assert not list(placements(memory, tables, SharedWindows(), is_wanted=lambda one: one.distance != right.distance))


def candidates_at(monkeypatch: pytest.MonkeyPatch, made: tuple[Memory, Tables], index: int) -> int:
    """Count the placements whose pointers are counted if the symbol of an index, by address, is placed at 0."""
    memory, tables = made
    (right,) = placements(*made, SharedWindows())
    asked: list[int] = []
    first = int(np.sort(right.symbols.addresses)[index])
    ways = [[Candidate((right.distance - first) % (1 << 64), right.checks[0])]]
    monkeypatch.setattr(search, "_ways", lambda *_: map(iter, ways))
    monkeypatch.setattr(_PlacementSearch, "_placed", lambda _, candidate, *__: asked.append(candidate.distance))
    assert not list(placements(memory, tables, SharedWindows()))
    return len(asked)


def test_no_image_lies_at_both_ends_of_the_address_space(
    made: tuple[Memory, Tables], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small numbers that equal their own place, less whole pages, put it there: then all words lie in its range."""
    assert not candidates_at(monkeypatch, made, made[1].count // 2)


def test_a_few_symbols_may_lie_at_the_other_end(made: tuple[Memory, Tables], monkeypatch: pytest.MonkeyPatch) -> None:
    assert candidates_at(monkeypatch, made, 5) == 1


def test_no_words_of_another_size_are_looked_for_where_a_kernel_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its page table and lists tell the size, but damaged tables would be read, and their names solved, for each."""
    machine = Machine()
    offsets = machine.place + TABLES + machine.blob.tables["offsets"].offset
    machine.data[-(-offsets // PAGE) * PAGE :][:PAGE] = 0
    asked: list[int] = []

    def arrays_left(*arguments: Any) -> Iterator[PartialAddressTable]:
        asked.append(arguments[-1])
        yield from address_table.arrays_left(*arguments)

    monkeypatch.setattr(solver, "arrays_left", arrays_left)
    kernel = kallsift.recover(machine.memory())
    assert kernel.state is kallsift.State.RUNNING
    assert kernel.damage
    assert asked == [8]
