"""Run ``vol`` many times on a dump without starting Python, loading plugins and recovering the kernel each time.

Each run is a forked child that calls Volatility's own entry point with the words of the command line, so that what it
prints is what ``vol -f FILE PLUGIN`` prints; Volatility keeps global state, which ends with the child.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kallsift_volatility
from kallsift_volatility.recovery import recovered
from plugins import load_plugins
from volatility3.framework.configuration import requirements

PLUGINS = Path(kallsift_volatility.__path__[0], "plugins")

MAX_SECONDS = 300
"""How long a plugin may take, of the processor, so that what else a machine does changes no outcome."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """What came of one run.

    Attributes:
        rows: what the plugin printed; None if it failed.
        count: how many rows that is.
        message: the error's last line, or the first complaint of a plugin that printed no rows.
        seconds: of the processor.
    """

    rows: Rows | None
    count: int | None
    message: str
    seconds: float


class Runner:
    """Runs plugins on one dump.

    Attributes:
        cache: Volatility's cache, empty at first: the first run writes the symbol file into it.
    """

    def __init__(self, dump: Path, cache: Path) -> None:
        """Load the plugins, and recover the dump's kernel."""
        self.dump = dump
        self.cache = cache
        load_plugins()
        recovered(requirements.URIRequirement.location_from_file(str(dump)))

    def run(self, plugin: str, *arguments: str) -> Run:
        """Run a plugin as ``vol -f FILE PLUGIN ARGUMENT...`` does."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            options = ["--cache-path", str(self.cache), "-p", str(PLUGINS), "-o", name, "-q", "-r", "json"]
            sys.stdout.flush()
            sys.stderr.flush()
            child = os.fork()
            if child == 0:
                _run_child(["vol", *options, "-f", str(self.dump), plugin, *arguments], folder)
            _, status, usage = os.wait4(child, 0)
            seconds = usage.ru_utime + usage.ru_stime
            output = (folder / "stdout").read_text(errors="replace")
            errors = (folder / "stderr").read_text(errors="replace")
        if os.WIFSIGNALED(status):
            is_late = os.WTERMSIG(status) == signal.SIGXCPU
            return Run(
                None,
                None,
                f"not done after {MAX_SECONDS} seconds" if is_late else f"ended by signal {os.WTERMSIG(status)}",
                seconds,
            )
        if status:
            return Run(None, None, error_of(errors, output), seconds)
        rows: Rows = json.loads(output)
        return Run(rows, len(rows), "" if rows else complaint_of(errors), seconds)


def _run_child(words: list[str], folder: Path) -> None:
    """Call Volatility in a forked child, which ends."""
    status = 1
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS + 10))
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600), number)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        sys.argv = words
        # its handler of messages keeps the stderr of when it is imported
        from volatility3 import cli

        try:
            cli.main()
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def error_of(errors: str, output: str) -> str:
    """Return the line that tells most of why a run failed: of a traceback the last, of Volatility's text the detail."""
    lines = [line for line in errors.splitlines() if line.strip()]
    if any(line.startswith("Traceback") for line in lines):
        return next(line for line in reversed(lines) if not line.startswith((" ", "\t")))
    causes = next((number for number, line in enumerate(lines) if line.startswith("\t*")), None)
    if causes:
        return lines[causes - 1]
    unsatisfied = [line for line in output.splitlines() if line.startswith("Unsatisfied")]
    return (unsatisfied or lines or ["no message"])[-1]


def complaint_of(errors: str) -> str:
    """Return the first warning or error of a plugin."""
    found = re.search(r"^(?:ERROR|WARNING)\s+\S+\s*:\s*(.*)$", errors, re.MULTILINE)
    return found[1] if found else ""
