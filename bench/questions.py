"""Measures each question that kallsift answers of a dump, beside reading it: ``python -m bench.questions CAPTURE``.

The capture is a folder of the lab: ``memory.elf`` with the truth that belongs to it.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from bench.__main__ import MEBIBYTE
from bench.measure import Run, measure

TARGET = 2.0
"""Seconds that a question to a dump of 4 GiB may take on an idle machine with two cores."""

KALLSIFT = (sys.executable, "-m", "kallsift")


def questions(capture: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each question as a reader would type it, and the command that is run for it."""
    dump, truth = str(capture / "memory.elf"), capture / "truth"
    yield "cat", ("cat", dump)
    for words in (
        ("symbols",),
        ("symbols", "--core"),
        ("info",),
        ("lookup", "init_task", "vfs_read"),
        ("lookup", "--table", "sys_call_table"),
        ("modules",),
        ("modules", "--sections"),
        ("exports",),
        ("layout",),
        ("layout", "--page-table"),
    ):
        yield " ".join((words[0], "DUMP", *words[1:])), (*KALLSIFT, words[0], dump, *words[1:])
    yield "symbolize DUMP dmesg", (*KALLSIFT, "symbolize", dump, str(truth / "dmesg"))
    yield "diff DUMP kallsyms", (*KALLSIFT, "diff", dump, str(truth / "kallsyms"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench.questions", description=__doc__)
    parser.add_argument("capture", type=Path, help="folder of one of the lab's captures")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="runs of each command (default 5)")
    parser.add_argument("--timeout", type=float, default=60, metavar="S", help="seconds for any run (default 60)")
    options = parser.parse_args(arguments)
    asked = dict(questions(options.capture))
    runs: dict[str, list[Run]] = {name: [] for name in asked}
    with tempfile.TemporaryDirectory(prefix="kallsift-bench-") as folder:
        for turn in range(-1, options.rounds):
            for name, command in asked.items():
                run = measure(command, Path(folder, "output"), options.timeout)
                if turn >= 0:
                    runs[name].append(run)
    size = (options.capture / "memory.elf").stat().st_size / MEBIBYTE
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"\n### {options.capture.name}/memory.elf, {size:,.0f} MiB\n")
    print("\n".join(report(runs)))


def report(runs: dict[str, list[Run]]) -> Iterator[str]:
    """The table: medians of wall time and memory, and whether each question is answered within `TARGET`."""
    reading = median(run.seconds for run in runs["cat"])
    yield f"| question | wall time | / cat's | private memory | exit code | within {TARGET:.0f} s |"
    yield "|---|--:|--:|--:|--:|---|"
    for name, taken in runs.items():
        seconds, peak = median(run.seconds for run in taken), median(run.peak for run in taken)
        codes = ", ".join(sorted({"timed out" if run.timed_out else str(run.exit_code) for run in taken}))
        within = "" if name == "cat" else "yes" if seconds <= TARGET else "NO"
        yield f"| {name} | {seconds:.2f} s | {seconds / reading:.1f} | {peak / MEBIBYTE:.0f} MiB | {codes} | {within} |"


if __name__ == "__main__":
    main()
