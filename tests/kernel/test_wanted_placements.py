"""Placements that landmarks contradict cost little, and decide as much as they did where all were looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kallsift.errors import Step
from kallsift.kallsyms.recovered_tables import Attempt, Layout, Tables
from kallsift.kernel.placement import search
from kallsift.kernel.placement.distances import Candidate
from kallsift.kernel.placement.search import placements
from kallsift.kernel.placement.window_facts import SharedWindows
from kallsift.kernel.recovery import candidates as readings
from kallsift.kernel.recovery.candidates import SharedWork, best_of
from kallsift.memory.memory import Memory
from tests.kallsyms.placed import candidates
from tests.kernel.made_machine import BANNER, Machine


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
