"""Show a progress bar on the terminal if the work takes longer than a second.

rich is imported only then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kallsift.cli.standard_streams import has_escapes
from kallsift.kernel.recovery.search import Progress

if TYPE_CHECKING:
    from rich import progress

PATIENCE = 1.0
"""Seconds without output before the bar appears."""


@contextmanager
def progress_on_terminal() -> Iterator[Progress | None]:
    """Provide a function to report progress to while the block runs.

    It is None if no terminal can show the bar.
    """
    if not (sys.stderr.isatty() and has_escapes()):
        yield None
        return
    bar = _Bar()
    try:
        yield bar.report
    finally:
        bar.close()


class _Bar:
    """A bar that draws nothing until `PATIENCE` is over, and leaves nothing behind."""

    def __init__(self) -> None:
        self._due = time.monotonic() + PATIENCE
        self._drawn: tuple[progress.Progress, progress.TaskID] | None = None

    def report(self, step: str, done: int, total: int) -> None:
        """Show how much of a step is done; its total is 0 if it is unknown.

        After a finished step others follow, so no bar is ever full while the command continues.
        """
        if self._drawn is None:
            if time.monotonic() < self._due:
                return
            self._drawn = _draw()
        bar, task = self._drawn
        if done < total:
            bar.update(task, description=step, completed=done, total=total)
        elif bar.tasks[0].total is not None or bar.tasks[0].description != step:
            # rich cannot remove a task's total
            bar.remove_task(task)
            self._drawn = bar, bar.add_task(step, total=None)

    def close(self) -> None:
        """Remove the bar from the terminal."""
        if self._drawn is not None:
            self._drawn[0].stop()


def _draw() -> tuple[progress.Progress, progress.TaskID]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    bar.start()
    return bar, bar.add_task("", total=None)
