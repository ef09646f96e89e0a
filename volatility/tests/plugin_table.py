"""Write the table of docs/measured/volatility.md: every plugin for Linux on four kernels, by plain ``vol -f``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import volatility3.framework.constants
from dumps import FORMATS, TITLES, dump_of
from faults import fault_of
from plugins import Plugin, linux_plugins
from results import KeptRuns, Outcome, outcome_of
from runner import Runner
from truth import CAPTURES, Truth

HEADING = """\
# Plugins of Volatility

Each plugin for Linux of Volatility {version}, as `vol -f FILE PLUGIN` runs it with kallsift-volatility installed:
no symbol file, an empty cache. Each kernel is read in a format of its own. The guests have what plugins look for: a
shell with a history, sockets, namespaces, BPF programs, hooks, a module that hides
(tests/lab/scenarios/investigated). Second names of plugins that were renamed are left out.
**Same** means that all rows were compared with what the guest said of itself, and are the same
(volatility/tests/checks.py says of each plugin what); a number alone means that it ran to its end and was not compared.
Written by `make volatility-table`.
"""

FAILURES = """
## What fails, and whose fault it is

| plugin | kernel | what it says | whose fault | why |
|---|---|---|---|---|"""


def cell(outcome: Outcome, is_known: bool) -> str:
    """Return what stands in the table."""
    if outcome.is_good:
        rows = "no rows" if not outcome.count else "1 row" if outcome.count == 1 else f"{outcome.count:,} rows"
        return f"same, {rows}" if outcome.is_compared else rows
    return ("differs" if outcome.is_compared else "fails") + ("" if is_known else ", **unexplained**")


def escaped(text: str) -> str:
    """Return text that a cell of Markdown can hold."""
    return text.replace("|", "\\|").replace("<", "&lt;")[:200]


def explained(outcome: Outcome, plugin: str, guest: str) -> tuple[bool, list[str]]:
    """Tell whether an outcome is as faults.py has it; return the failure's row for the table."""
    fault = fault_of(plugin, guest)
    if outcome.is_good:
        # else the table would go on to name a fault that is mended
        return fault is None, []
    is_known = fault is not None and fault.matches(outcome.message)
    whose, cause = (fault.whose, fault.cause) if fault is not None and is_known else ("unknown", "")
    return is_known, [plugin.removeprefix("linux."), title(guest), escaped(outcome.message), whose, cause]


def title(guest: str) -> str:
    """Return a guest's column: kernel, paging, format."""
    name = guest.removeprefix("amd64-").removesuffix("-investigated").replace("-la57", ", 5-level")
    return f"{name} ({TITLES[FORMATS[guest]]})"


class Table:
    """The table in the making.

    Attributes:
        is_good: whether all failures are explained, and all explanations still hold.
    """

    def __init__(self, folder: Path, guests: Sequence[str]) -> None:
        """Prepare to run on these guests, with data in a folder."""
        self.is_good = True
        self._folder = folder
        self._guests = guests
        self._runs = KeptRuns(folder / "runs")
        self._cells: dict[tuple[str, str], str] = {}
        self._failures: list[list[str]] = []
        self._releases: dict[str, str] = {}

    def run(self, plugins: Sequence[Plugin]) -> None:
        """Run all plugins on all guests, as far as there are no results."""
        for guest in self._guests:
            capture = CAPTURES / guest
            self._releases[guest] = json.loads((capture / "manifest.json").read_text())["kernel"]["release"]
            dump = dump_of(capture, FORMATS[guest], self._folder)
            cache = self._folder / "cache" / guest
            cache.mkdir(parents=True, exist_ok=True)
            runner, truth = Runner(dump, cache), Truth(capture)
            for plugin in plugins:
                words = plugin.words(truth)
                done = self._runs.run(capture, plugin, words, partial(runner.run, plugin.name, *words))
                self._add(outcome_of(done, plugin.name, truth), plugin.name, guest)

    def _add(self, outcome: Outcome, plugin: str, guest: str) -> None:
        is_explained, failure = explained(outcome, plugin, guest)
        self.is_good = self.is_good and is_explained
        self._cells[plugin, guest] = cell(outcome, is_explained)
        if failure:
            self._failures.append(failure)
        note = "" if is_explained else " UNEXPLAINED"
        print(
            f"{guest} {plugin}: {outcome.count} rows, {outcome.seconds:.0f} s{note} {outcome.message}", file=sys.stderr
        )

    def lines(self) -> list[str]:
        """Return the document's lines."""
        plugins = list(dict.fromkeys(plugin for plugin, _ in self._cells))
        lines = [HEADING.format(version=volatility3.framework.constants.PACKAGE_VERSION)]
        lines += [
            f"| plugin | {' | '.join(title(guest) for guest in self._guests)} |",
            f"|---{'|---' * len(self._guests)}|",
        ]
        lines.append(f"| *kernel* | {' | '.join(self._releases[guest] for guest in self._guests)} |")
        for plugin in plugins:
            cells = [self._cells[plugin, guest] for guest in self._guests]
            lines.append(f"| {plugin.removeprefix('linux.')} | {' | '.join(cells)} |")
        good = sum(1 for text in self._cells.values() if not text.startswith(("fails", "differs")))
        same = sum(1 for text in self._cells.values() if text.startswith("same"))
        lines.append(
            f"\n{len(plugins)} plugins; {good} of {len(self._cells)} runs are complete, {same} of them as the truth."
        )
        lines.append(FAILURES)
        lines += [f"| {' | '.join(failure)} |" for failure in self._failures]
        return lines


def main() -> int:
    """Write the table to standard output; 1 if a failure is not explained."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--guest", nargs="+", choices=tuple(FORMATS), default=tuple(FORMATS))
    parser.add_argument("--plugin", nargs="+", help="parts of plugins' names; default all")
    options = parser.parse_args()
    chosen = [
        plugin
        for plugin in linux_plugins()
        if not options.plugin or any(part in plugin.name for part in options.plugin)
    ]
    table = Table(CAPTURES.parent / "volatility", options.guest)
    table.run(chosen)
    print("\n".join(table.lines()))
    return 0 if table.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
