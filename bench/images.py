"""Measures kallsift beside vmlinux-to-elf on unpacked amd64 kernel images: ``python -m bench.images CAPTURE...``.

Each capture is a folder of the lab with the ``vmlinuz`` that a guest booted and the ``/proc/kallsyms`` it had.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.__main__ import MEBIBYTE, compare, report
from bench.measure import Run
from bench.peers import IMAGE_TOOLS, Tool, install
from tests.real.images import vmlinux

LINK_BASE = 0xFFFFFFFF81000000  # of _text in every x86-64 kernel with CONFIG_PHYSICAL_START's default
LOWEST = 0xFFFFFFFF80000000  # below are absolute symbols, such as offsets of per-CPU variables


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = _parser().parse_args(arguments)
    for tool in IMAGE_TOOLS:
        install(tool)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    rounds = {tool: options.peer_rounds if tool.is_peer else options.rounds for tool in IMAGE_TOOLS}
    for capture in options.capture:
        with tempfile.TemporaryDirectory(prefix="kallsift-bench-") as folder:
            image, truth = Path(folder, "vmlinux"), Path(folder, "kallsyms")
            image.write_bytes(vmlinux(capture / "vmlinuz"))
            truth.write_text(unslid((capture / "truth" / "kallsyms").read_text("latin-1")), "latin-1")
            print(f"\n### {capture.name}, {image.stat().st_size / MEBIBYTE:,.0f} MiB\n")
            runs, scores = compare(image, truth, rounds, options.timeout)
            print(report(runs, scores))
            print(f"\n{claims(runs)}", flush=True)


def unslid(text: str) -> str:
    """The built-in symbols of a guest at the addresses that its kernel was linked for."""
    lines = [line for line in text.splitlines() if "\t[" not in line]
    slide = next(int(line[:16], 16) for line in lines if line.endswith(" _text")) - LINK_BASE
    addresses = [int(line[:16], 16) for line in lines]
    moved = [address - slide if address >= LOWEST else address for address in addresses]
    return "".join(f"{address:016x}{line[16:]}\n" for address, line in zip(moved, lines, strict=True))


def claims(runs: dict[Tool, list[Run]]) -> str:
    """How much faster, and with how much less memory, kallsift does what each of the peer's two programs does."""
    kallsift, finder, elf, to_elf = list(runs)[1:]
    sentences = []
    for ours, theirs in ((kallsift, finder), (elf, to_elf)):
        faster = median(run.seconds for run in runs[theirs]) / median(run.seconds for run in runs[ours])
        less = median(run.peak for run in runs[theirs]) / median(run.peak for run in runs[ours])
        sentences.append(f"{ours.name} is {faster:.0f} times faster than {theirs.name} in 1/{less:.1f} of its memory")
    return "; ".join(sentences) + "."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.images", description=__doc__)
    parser.add_argument("capture", type=Path, nargs="+", help="folders of the lab's captures of amd64 guests")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="runs of cat and kallsift (default 7)")
    parser.add_argument("--peer-rounds", type=int, default=3, metavar="N", help="runs of each peer (default 3)")
    parser.add_argument("--timeout", type=float, default=300, metavar="S", help="seconds for any run (default 300)")
    return parser


if __name__ == "__main__":
    main()
