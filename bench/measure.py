"""One run of a command: how long it took, and how much memory of its own it held at most. Needs Linux's /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

INTERVAL = 0.005
"""Seconds between two looks at a process's memory. A peak that is shorter can be missed."""


@dataclass(frozen=True)
class Run:
    """What was measured.

    Attributes:
        seconds: wall time from start to end.
        peak: greatest sum of the private (anonymous) memory of the process and its children, in bytes. Pages of mapped
            files do not count: they are the page cache's, as they are for ``cat``.
        exit_code: as `subprocess` has it: negative for a signal.
        timed_out: whether it was stopped because its time was over.
    """

    seconds: float
    peak: int
    exit_code: int
    timed_out: bool


def measure(command: Sequence[str], output: Path, timeout: float) -> Run:
    """Runs a command with its standard output in a file and its errors thrown away.

    Raises:
        OSError: if it cannot be started.
    """
    # Compiled modules are part of an installation, so a variable that forbids them must not be measured.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with output.open("wb") as stream:
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        watch = _Watch(process.pid, start + timeout)
        watch.start()
        # A blocking wait: it ends when the process does, not when a poll would see it.
        code = process.wait()
        seconds = time.perf_counter() - start
        watch.stop()
    return Run(seconds, watch.peak, code, watch.timed_out)


class _Watch(threading.Thread):
    """Samples the memory of a process and its children, and stops them all when their time is over."""

    def __init__(self, pid: int, deadline: float) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.timed_out = False
        self._pid = pid
        self._deadline = deadline
        self._ended = threading.Event()

    def run(self) -> None:
        """Samples until it is stopped."""
        while not self._ended.is_set():
            self.peak = max(self.peak, sum(map(anonymous_memory, family(self._pid))))
            if time.perf_counter() > self._deadline and not self.timed_out:
                self.timed_out = True
                # The process leads a session of its own, so this reaches its children and nobody else.
                with suppress(ProcessLookupError):
                    os.killpg(self._pid, signal.SIGKILL)
            self._ended.wait(INTERVAL)

    def stop(self) -> None:
        """Ends the sampling."""
        self._ended.set()
        self.join()


def family(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from family(int(child))


def anonymous_memory(pid: int) -> int:
    """Bytes of anonymous memory that are resident in a process; 0 if it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0
