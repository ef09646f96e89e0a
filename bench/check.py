"""Reports how fast kallsift is beside what it cannot be faster than: ``python -m bench.check CAPTURE``.

Each figure is a ratio to a yardstick that takes turns with it: reading the dump (``cat``), importing NumPy, or a fixed
piece of array work. The fastest of some runs counts, since what else a machine does only makes runs slower. It is a
report: it never fails for a figure.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import kallsift
from bench.measure import measure

KALLSIFT = (sys.executable, "-m", "kallsift", "symbols")
IMPORT_NUMPY, ARRAY_WORK = "import numpy", "array work"
YARDSTICKS = {
    IMPORT_NUMPY: (sys.executable, "-c", "import numpy"),
    ARRAY_WORK: (
        sys.executable,
        "-c",
        "import numpy as np\n"
        "words = np.arange(1 << 22, dtype=np.uint64)\n"
        "for _ in range(8): np.flatnonzero((words * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(60) == 3)\n"
        "np.sort(words[::-1].copy())",
    ),
}
"""What stands for the machine: how fast it starts Python, and how fast it works on arrays."""

PAGE = 4096
BLOCK = 1 << 20
SPARSE_SIZE = 1 << 40
LOST_SHARE = 10
"""Every so many-th page under the tables of a damaged dump is blank."""


@dataclass(frozen=True)
class Task:
    """A command that is measured.

    Attributes:
        name: what it does.
        command: its arguments.
        yardstick: name of the task that it is compared with.
        goal: ratio to that at most; None where there is no goal.
    """

    name: str
    command: tuple[str, ...]
    yardstick: str
    goal: float | None = None


@dataclass(frozen=True)
class Cost:
    """Seconds of wall time and of processor time."""

    wall: float
    processor: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the report."""
    parser = argparse.ArgumentParser(prog="python -m bench.check", description=__doc__)
    parser.add_argument("capture", type=Path, help="folder of a capture of the lab, with memory.elf")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="runs of each command (default 5)")
    parser.add_argument("--timeout", type=float, default=120, metavar="S", help="seconds for any run (default 120)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kallsift-bench-") as folder:
        # as where it is installed, nothing is compiled anew in each run
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        tasks = list(_tasks(options.capture, Path(folder)))
        costs = _measured(tasks, options.rounds, options.timeout, Path(folder, "output"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, NumPy {np.__version__}")
    print("\n".join(report(tasks, costs)))


def _tasks(capture: Path, folder: Path) -> Iterator[Task]:
    """Yield the yardsticks, and what is measured beside them."""
    for name, command in YARDSTICKS.items():
        yield Task(name, command, name)
    yield Task("import kallsift", (sys.executable, "-c", "import kallsift"), IMPORT_NUMPY, 1.3)
    yield Task("kallsift --version", (sys.executable, "-m", "kallsift", "--version"), IMPORT_NUMPY)
    dump = capture / "memory.elf"
    yield Task("cat", ("cat", str(dump)), "cat")
    yield Task("symbols", (*KALLSIFT, str(dump)), IMPORT_NUMPY, 0.35 / 0.09)
    yield Task("symbols --core", (*KALLSIFT, "--core", str(dump)), IMPORT_NUMPY)
    large = capture.with_name(f"{capture.name}-4g") / "memory.elf"
    if large.exists():
        yield Task("cat, 4 GiB", ("cat", str(large)), "cat, 4 GiB")
        yield Task("symbols, 4 GiB", (*KALLSIFT, str(large)), "cat, 4 GiB", 1.4)
    yield Task("symbols, 1 TiB sparse", (*KALLSIFT, str(sparse(dump, folder / "sparse.raw"))), "symbols", 1.5)
    for name, file in damaged(dump, folder):
        yield Task(f"symbols, {name}", (*KALLSIFT, str(file)), ARRAY_WORK, 3 / 0.4)


def sparse(dump: Path, target: Path, size: int = SPARSE_SIZE, blank: frozenset[int] = frozenset()) -> Path:
    """Write a dump's memory as a raw file of some size, with holes where blocks are blank.

    Args:
        dump: what to write.
        target: where to.
        size: bytes of the file at least.
        blank: addresses of pages that are written as zeros.
    """
    with kallsift.open(dump) as memory, target.open("wb") as file:
        file.truncate(max(size, memory.segments[-1].end))
        for segment in memory.segments:
            for low in range(0, segment.size, BLOCK):
                block = segment.read(low, low + BLOCK)
                if block.any():
                    file.seek(segment.start + low)
                    file.write(block.data)
        for page in blank:
            file.seek(page)
            file.write(bytes(PAGE))
    return target


def damaged(dump: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Write a dump's memory as raw files that lack something, each with what happened to it."""
    with kallsift.open(dump) as memory:
        tables = kallsift.recover(memory).tables
    first = min(int(table.physical) for table in tables) // PAGE * PAGE
    last = max(int(table.physical) + table.size for table in tables)
    (token_table,) = (int(table.physical) // PAGE * PAGE for table in tables if table.name == "token_table")
    yield (
        "damaged",
        sparse(dump, folder / "damaged.raw", 0, frozenset(range(first + 5 * PAGE, last, LOST_SHARE * PAGE))),
    )
    yield "without its token table", sparse(dump, folder / "tokens.raw", 0, frozenset([token_table]))
    cut = sparse(dump, folder / "cut.raw", 0)
    os.truncate(cut, last)
    yield "cut off behind its tables", cut


def _measured(tasks: Sequence[Task], rounds: int, timeout: float, output: Path) -> dict[str, Cost]:
    """Return the least that each task cost; they take turns, after a turn that does not count."""
    best: dict[str, Cost] = {}
    for turn in range(rounds + 1):
        for task in tasks:
            before = _processor_time()
            run = measure(task.command, output, timeout)
            cost = Cost(run.seconds, _processor_time() - before)
            if turn:
                known = best.get(task.name, cost)
                best[task.name] = Cost(min(known.wall, cost.wall), min(known.processor, cost.processor))
    return best


def _processor_time() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(tasks: Sequence[Task], costs: dict[str, Cost]) -> Iterator[str]:
    """Yield the lines of a Markdown table: the least of each task, and its ratio to that of its yardstick."""
    yield "\n| task | wall time | processor time | yardstick | wall ratio | processor ratio | goal | within |"
    yield "|---|--:|--:|---|--:|--:|--:|---|"
    for task in tasks:
        cost, beside = costs[task.name], costs[task.yardstick]
        wall, processor = cost.wall / beside.wall, cost.processor / max(beside.processor, 1e-3)
        goal = "" if task.goal is None else f"{task.goal:.1f}"
        within = "" if task.goal is None else "yes" if min(wall, processor) <= task.goal else "no"
        yield (
            f"| {task.name} | {cost.wall:.2f} s | {cost.processor:.2f} s | {task.yardstick} | {wall:.1f} "
            f"| {processor:.1f} | {goal} | {within} |"
        )


if __name__ == "__main__":
    main()
