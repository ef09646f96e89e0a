"""The tools that are measured: how each is installed and started, and how its answer is read.

Every peer gets an environment of its own outside the tree, with its version pinned.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kallsift" / "bench"
"""Where the peers are installed."""


@dataclass(frozen=True)
class Tool:
    """One tool.

    Attributes:
        name: as the report has it.
        command: command line, with ``{bin}`` for the folder of its programs, ``{dump}`` and ``{answer}``. What it
            prints goes to the answer too, if its command line does not name it.
        requirement: what pip installs for it, None if it is here already.
        answer: reads the lines ``address type name`` of its answer, None if it has no answer.
        types: whether its answer has type letters.
    """

    name: str
    command: tuple[str, ...]
    requirement: str | None = None
    answer: Callable[[Path], Iterator[str]] | None = None
    types: bool = True

    @property
    def is_peer(self) -> bool:
        """Whether it is neither kallsift nor the yardstick."""
        return self.requirement is not None

    def line(self, dump: Path, answer: Path) -> list[str]:
        """The command line for one run."""
        folder = _environment(self.requirement) / "bin" if self.requirement else Path(sys.executable).parent
        return [part.format(bin=folder, python=sys.executable, dump=dump, answer=answer) for part in self.command]


def kallsyms_lines(path: Path) -> Iterator[str]:
    """The built-in symbols of a text in the format of ``/proc/kallsyms``, with 16 digits each."""
    with path.open(encoding="latin-1", newline="\n") as lines:
        for line in lines:
            address, _, rest = line.rstrip("\n").partition(" ")
            if "\t[" not in rest:
                yield f"{address:0>16} {rest}"


def isf_lines(path: Path) -> Iterator[str]:
    """The symbols of pakunoda's ISF file at the addresses of the running kernel, with ``?`` for their types."""
    document = json.loads(path.read_bytes())
    shift = int(document["metadata"]["producer"]["pakunoda"].get("kaslr_shift") or "0", 0)
    for name, symbol in document["symbols"].items():
        address = symbol["address"] + (shift if symbol["address"] >> 63 else 0)
        yield f"{address % (1 << 64):016x} ? {name}"


TOOLS = (
    Tool("cat", ("cat", "{dump}")),
    Tool("kallsift", ("{python}", "-m", "kallsift", "symbols", "{dump}"), answer=kallsyms_lines),
    Tool(
        "pakunoda 1.0.9",
        ("{bin}/pakunoda", "extract", "--quiet", "--output", "{answer}", "{dump}"),
        requirement="pakunoda==1.0.9",
        answer=isf_lines,
        types=False,
    ),
    Tool(
        "kallsyms-finder 1.4.0",
        ("{bin}/kallsyms-finder", "{dump}"),
        requirement="vmlinux-to-elf==1.4.0",
        answer=kallsyms_lines,
    ),
)
"""Every tool; the first is the yardstick that reads the dump and does nothing with it, the second is kallsift."""

IMAGE_TOOLS = (
    *(tool for tool in TOOLS if not tool.name.startswith("pakunoda")),
    Tool("kallsift elf", ("{python}", "-m", "kallsift", "elf", "{dump}", "-o", "{answer}")),
    Tool("vmlinux-to-elf 1.4.0", ("{bin}/vmlinux-to-elf", "{dump}", "{answer}"), requirement="vmlinux-to-elf==1.4.0"),
)
"""The same for kernel images: two tools that print symbols, and the two that write ELF files of the same makers."""


def install(tool: Tool) -> None:
    """Installs a peer, if it is not there yet.

    Raises:
        subprocess.CalledProcessError: if pip fails.
    """
    if tool.requirement is None:
        return
    place = _environment(tool.requirement)
    done = place / "installed"
    if done.exists():
        return
    venv.create(place, with_pip=True, clear=True)
    subprocess.run([place / "bin" / "python", "-m", "pip", "install", "--quiet", tool.requirement], check=True)
    done.touch()


@dataclass(frozen=True)
class Score:
    """How an answer compares with the guest's own table.

    Attributes:
        right: lines of the truth that the answer has too, counted with repetition.
        wrong: lines of the answer that the truth does not have.
        total: lines of the truth.
        exact: whether the two are the same lines in the same order.
    """

    right: int
    wrong: int
    total: int
    exact: bool


def score(tool: Tool, answer: Path, truth: Path) -> Score:
    """Holds a tool's answer against the truth; an answer that is missing or cut short has no line right."""
    expected = list(_comparable(kallsyms_lines(truth), tool.types))
    try:
        given = list(_comparable(tool.answer(answer), tool.types)) if tool.answer else []
    except (OSError, ValueError):
        given = []
    right = (Counter(expected) & Counter(given)).total()
    return Score(right, len(given) - right, len(expected), given == expected)


def _comparable(lines: Iterable[str], types: bool) -> Iterator[str]:
    """The lines, without their types if those do not count."""
    return iter(lines) if types else (line[:17] + line[19:] for line in lines)


def _environment(requirement: str) -> Path:
    return CACHE / requirement.replace("==", "-")
