"""Outcomes of plugins, kept so that a run that was stopped goes on where it was."""

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
    Path(__file__).parent,
)
"""What decides how a plugin fares; the rest of kallsift finds the same kernel."""


@dataclass(frozen=True)
class Outcome:
    """How a plugin fared on a guest.

    Attributes:
        rows: how many it printed; None if it failed.
        is_compared: whether the rows were compared with the guest's truth.
        message: why it failed, how the rows differ, or what a plugin says that prints none.
        is_good: whether it ran to its end and, where compared, said what the guest said.
        seconds: of the processor.
    """

    rows: int | None
    is_compared: bool
    message: str
    is_good: bool
    seconds: float


def outcome_of(run: Run, plugin: str, truth: Truth) -> Outcome:
    """Judge a run."""
    check = CHECKS.get(plugin)
    if run.rows is None:
        return Outcome(None, False, run.message, False, run.seconds)
    try:
        if check is not None:
            check(run.rows, truth)
    except (AssertionError, LookupError, TypeError, ValueError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Outcome(len(run.rows), True, text, False, run.seconds)
    return Outcome(len(run.rows), check is not None, run.message, True, run.seconds)


def version() -> str:
    """Return what tells this Volatility, and these sources, from others."""
    digest = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted(folder.rglob("*.py")):
            if path.name != "faults.py":  # which only explains
                digest.update(path.read_bytes())
    return f"{volatility3.framework.constants.PACKAGE_VERSION} {digest.hexdigest()[:16]}"


class Results:
    """Outcomes by guest and plugin, in a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        """Read what there is of this version."""
        self._path = path
        self._version = version()
        self._known: dict[str, Outcome] = {}
        for line in path.read_text().splitlines() if path.exists() else []:
            fields = json.loads(line)
            if fields.pop("version") == self._version:
                self._known[fields.pop("key")] = Outcome(**fields)

    def outcome(self, guest: Path, plugin: Plugin, words: Sequence[str], run: Callable[[], Run]) -> Outcome:
        """Return a plugin's outcome on a guest; it runs if there is none."""
        capture = hashlib.sha256((guest / "manifest.json").read_bytes()).hexdigest()[:16]
        key = " ".join([guest.name, capture, plugin.name, *words])
        if key not in self._known:
            self._known[key] = outcome_of(run(), plugin.name, Truth(guest))
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write(json.dumps({"version": self._version, "key": key, **asdict(self._known[key])}) + "\n")
        return self._known[key]
