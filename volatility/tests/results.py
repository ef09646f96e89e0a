"""Outcomes of plugins; runs are kept, so that a table that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import kallsift_volatility
import volatility3.framework.constants
from checks import CHECKS
from plugins import Plugin
from runner import Run
from truth import Truth

import kallsift

SOURCES = (
    *(Path(kallsift.__path__[0], name) for name in ("output/isf", "types")),
    Path(kallsift_volatility.__path__[0]),
)
"""What decides how a plugin fares; the rest of kallsift finds the same kernel."""


@dataclass(frozen=True)
class Outcome:
    """How a plugin fared on a guest.

    Attributes:
        count: how many rows it printed; None if it failed.
        is_compared: whether the rows were compared with the guest's truth.
        message: why it failed, how the rows differ, or what a plugin says that prints none.
        is_good: whether it ran to its end and, where compared, said what the guest said.
        seconds: of the processor.
    """

    count: int | None
    is_compared: bool
    message: str
    is_good: bool
    seconds: float


def outcome_of(run: Run, plugin: str, truth: Truth) -> Outcome:
    """Judge a run."""
    check = CHECKS.get(plugin)
    if run.rows is None or check is None:
        return Outcome(run.count, False, run.message, run.count is not None, run.seconds)
    try:
        check(run.rows, truth)
    except (AssertionError, LookupError, TypeError, ValueError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Outcome(run.count, True, text, False, run.seconds)
    return Outcome(run.count, True, run.message, True, run.seconds)


def version() -> str:
    """Return what tells this Volatility, and the sources that make symbol files, from others."""
    digest = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return f"{volatility3.framework.constants.PACKAGE_VERSION} {digest.hexdigest()[:16]}"


class KeptRuns:
    """Runs by guest and plugin in a folder; of plugins that nothing is compared with, only how many rows there were."""

    def __init__(self, folder: Path) -> None:
        """Keep runs in a folder."""
        self._folder = folder
        self._version = version()

    def run(self, guest: Path, plugin: Plugin, words: Sequence[str], run: Callable[[], Run]) -> Run:
        """Return a plugin's run on a guest; it runs if there is none of this version, capture and arguments."""
        capture = hashlib.sha256((guest / "manifest.json").read_bytes()).hexdigest()
        key = [self._version, capture, *words]
        path = self._folder / guest.name / f"{plugin.name}.json"
        if path.exists() and (known := json.loads(path.read_text()))["key"] == key:
            return Run(**known["run"])
        done = run()
        kept = done if plugin.name in CHECKS else Run(None, done.count, done.message, done.seconds)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps({"key": key, "run": asdict(kept)}))
        draft.replace(path)
        return kept
