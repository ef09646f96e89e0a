"""Plugins on guests that have something to find: what they print is what the guest said, in every format of dump."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from checks import CHECKS
from conftest import capture
from dumps import FORMATS, dump_of
from faults import FAULTS, fault_of
from plugins import linux_plugins
from results import outcome_of
from runner import Runner
from truth import Truth

MIN_PLUGINS = 45


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Runner]:
    """Runs ``vol -f`` on a guest; each has a cache of its own, empty at first."""
    folder = tmp_path_factory.mktemp("guests")
    runners: dict[str, Runner] = {}

    def of_guest(guest: str) -> Runner:
        if guest not in runners:
            cache = folder / f"cache of {guest}"
            cache.mkdir()
            runners[guest] = Runner(dump_of(capture(guest), FORMATS[guest], folder), cache)
        return runners[guest]

    return of_guest


@pytest.mark.parametrize("guest", FORMATS)
@pytest.mark.parametrize("plugin", CHECKS)
def test_rows_are_what_the_guest_says(runner: Callable[[str], Runner], guest: str, plugin: str) -> None:
    truth = Truth(capture(guest))
    outcome = outcome_of(runner(guest).run(plugin), plugin, truth)
    fault = fault_of(plugin, guest)
    if fault is not None:
        assert not outcome.is_good, f"the fault in faults.py is mended: {fault.cause}"
        assert fault.matches(outcome.message), outcome.message
        pytest.xfail(f"{fault.whose}: {fault.cause}")
    assert outcome.is_good, outcome.message


def test_the_table_has_all_plugins() -> None:
    names = {plugin.name for plugin in linux_plugins()}
    assert len(names) >= MIN_PLUGINS
    assert set(CHECKS) <= names
    assert {fault.plugin for fault in FAULTS} <= names


def test_a_check_fails_for_rows_of_another_guest(runner: Callable[[str], Runner], tmp_path: Path) -> None:
    """Else it would compare nothing."""
    first, other = list(FORMATS)[:2]
    plugins = ("linux.pslist.PsList", "linux.mountinfo.MountInfo", "linux.malware.hidden_modules.Hidden_modules")
    for plugin in plugins:
        run = runner(first).run(plugin)
        assert outcome_of(run, plugin, Truth(capture(first))).is_good
        assert not outcome_of(run, plugin, Truth(capture(other))).is_good
