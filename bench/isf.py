"""Measures what makes symbol files (ISF) for Volatility 3 out of dumps: ``python -m bench.isf CAPTURE...``.

Of each maker: wall time, memory, how many symbols have the address that the guest itself gave them, and which of
Volatility's plugins print rows with the file. Each capture is a folder of the lab.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import platform
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.__main__ import MEBIBYTE
from bench.measure import Run, measure
from bench.peers import TOOLS, Tool, install, kallsyms_lines

ISF_TOOLS = (
    Tool("kallsift isf", ("{python}", "-m", "kallsift", "isf", "{dump}", "-o", "{answer}")),
    *(tool for tool in TOOLS if tool.name.startswith("pakunoda")),
)
"""The makers of symbol files; each writes one file, plain or packed by xz."""

VOLATILITY = Tool(
    "Volatility 2.28.2",
    ("{bin}/vol", "-q", "-r", "json", "-s", "{answer}", "-f", "{dump}"),
    requirement="volatility3==2.28.2",
)
"""What reads them: ``{answer}`` is the folder that the file is in."""

PLUGINS = (
    "linux.bash.Bash",
    "linux.boottime.Boottime",
    "linux.capabilities.Capabilities",
    "linux.check_syscall.Check_syscall",
    "linux.elfs.Elfs",
    "linux.envars.Envars",
    "linux.iomem.IOMem",
    "linux.ip.Addr",
    "linux.kmsg.Kmsg",
    "linux.kthreads.Kthreads",
    "linux.library_list.LibraryList",
    "linux.lsmod.Lsmod",
    "linux.lsof.Lsof",
    "linux.mountinfo.MountInfo",
    "linux.pagecache.Files",
    "linux.proc.Maps",
    "linux.psaux.PsAux",
    "linux.pslist.PsList",
    "linux.pstree.PsTree",
    "linux.sockstat.Sockstat",
)
"""Plugins that an analyst starts with; a guest of the lab has something to show to all but ``bash``."""


@dataclass(frozen=True)
class Symbols:
    """How the symbols of a file compare with the guest's own list.

    Attributes:
        right: names at an address that the guest gives to that name.
        wrong: names that the guest has, at none of its addresses.
        unknown: names that the guest does not have.
    """

    right: int
    wrong: int
    unknown: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = _parser().parse_args(arguments)
    for tool in (*ISF_TOOLS, VOLATILITY):
        install(tool)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {VOLATILITY.name}")
    for capture in options.capture:
        print(f"\n### {capture.name}\n")
        print("| maker | wall time | private memory | right symbols | wrong | not the guest's | plugins with rows |")
        print("|---|--:|--:|--:|--:|--:|--:|")
        with tempfile.TemporaryDirectory(prefix="kallsift-bench-") as folder:
            failures = [_row(tool, capture, Path(folder), options.timeout) for tool in ISF_TOOLS]
        print()
        print("\n".join(line for lines in failures for line in lines), flush=True)


def _row(tool: Tool, capture: Path, folder: Path, timeout: float) -> list[str]:
    """Print the figures of one maker; return a line for each plugin that prints no row with its file."""
    dump, symbol_folder = capture / "memory.elf", folder / tool.name.replace(" ", "-") / "linux"
    symbol_folder.mkdir(parents=True)
    file = symbol_folder / "kernel.json"
    run = measure(tool.line(dump, file), Path(os.devnull), timeout)
    if run.exit_code:
        print(f"| {tool.name} | {_time(run)} |  |  |  |  | exit {run.exit_code} |", flush=True)
        return []
    symbols = compared(symbols_of(file), capture / "truth" / "kallsyms")
    rows = {plugin: rows_of(plugin, dump, symbol_folder.parent, timeout) for plugin in PLUGINS}
    answered = sum(isinstance(answer, int) and answer > 0 for answer in rows.values())
    cells = (
        tool.name,
        _time(run),
        f"{run.peak / MEBIBYTE:,.0f} MiB",
        f"{symbols.right:,}",
        f"{symbols.wrong:,}",
        f"{symbols.unknown:,}",
        f"{answered} of {len(PLUGINS)}",
    )
    print(f"| {' | '.join(cells)} |", flush=True)
    return [
        f"* {tool.name}, {plugin}: {answer or 'no row'}"
        for plugin, answer in rows.items()
        if not answer or isinstance(answer, str)
    ]


def _time(run: Run) -> str:
    return f"{run.seconds:.2f} s"


def symbols_of(file: Path) -> dict[str, int]:
    """The addresses of a symbol file by name."""
    data = file.read_bytes()
    document: dict[str, Any] = json.loads(lzma.decompress(data) if data.startswith(b"\xfd7zXZ") else data)
    return {name: symbol["address"] for name, symbol in document["symbols"].items()}


def compared(symbols: Mapping[str, int], truth: Path) -> Symbols:
    """Hold a file's symbols against a guest's own list.

    The file may have the addresses of the link or of the running kernel: where ``_stext`` differs tells by how much
    all addresses of the kernel's image do. Absolute ones, such as per-CPU offsets, do not move.
    """
    addresses: dict[str, set[int]] = {}
    for line in kallsyms_lines(truth):
        address, _, name = line.split(" ", 2)
        addresses.setdefault(name, set()).add(int(address, 16))
    slide = min(addresses["_stext"]) - symbols["_stext"]
    known = {name: address for name, address in symbols.items() if name in addresses}
    right = sum(bool({address, (address + slide) % (1 << 64)} & addresses[name]) for name, address in known.items())
    return Symbols(right, len(known) - right, len(symbols) - len(known))


def rows_of(plugin: str, dump: Path, symbol_folder: Path, timeout: float) -> int | str:
    """How many rows a plugin prints, or how it failed: the last line of what it says."""
    with tempfile.TemporaryDirectory(prefix="kallsift-bench-cache-") as cache:
        line = [*VOLATILITY.line(dump, symbol_folder), "--cache-path", cache, plugin]
        try:
            run = subprocess.run(line, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            return f"over {timeout:.0f} s"
    if run.returncode:
        said = [text for text in run.stderr.splitlines() if text.strip()]
        return said[-1].strip() if said else f"exit {run.returncode}"
    return len(json.loads(run.stdout))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.isf", description=__doc__)
    parser.add_argument("capture", type=Path, nargs="+", help="folders of the lab's guests")
    parser.add_argument("--timeout", type=float, default=300, metavar="S", help="seconds for any run (default 300)")
    return parser


if __name__ == "__main__":
    main()
