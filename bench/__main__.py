"""Measures ``kallsift symbols`` beside ``cat`` and other tools, and prints the figures as Markdown tables.

The runs of all tools take turns, so that a change of the machine's mood meets them all; medians are reported.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.measure import Run, measure
from bench.peers import TOOLS, Score, Tool, install, score

MEBIBYTE = 1 << 20


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = _parser().parse_args(arguments)
    if options.truth and len(options.truth) != len(options.dump):
        _parser().error("--truth needs one file for each of --dump, in the same order")
    tools = [tool for tool in TOOLS if not tool.is_peer or (options.peers and _installed(tool))]
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    )
    for dump, truth in zip(options.dump, options.truth or [None] * len(options.dump), strict=True):
        print(f"\n### {dump.absolute().parent.name}/{dump.name}, {dump.stat().st_size / MEBIBYTE:,.0f} MiB\n")
        rounds = {tool: options.peer_rounds if tool.is_peer else options.rounds for tool in tools}
        print(report(*compare(dump, truth, rounds, options.timeout)), flush=True)


def compare(
    dump: Path, truth: Path | None, rounds: dict[Tool, int], timeout: float
) -> tuple[dict[Tool, list[Run]], dict[Tool, Score]]:
    """Runs each tool as often as its rounds say, in turns, after one run of the quick ones that does not count."""
    runs: dict[Tool, list[Run]] = {tool: [] for tool in rounds}
    scores: dict[Tool, Score] = {}
    with tempfile.TemporaryDirectory(prefix="kallsift-bench-") as folder:
        output, answer = Path(folder, "output"), Path(folder, "answer")
        for turn in range(-1, max(rounds.values())):
            for tool, wanted in rounds.items():
                if turn >= wanted or (turn < 0 and tool.is_peer):
                    continue
                _say(f"{dump.name}: {tool.name}, " + ("warming up" if turn < 0 else f"run {turn + 1} of {wanted}"))
                line = tool.line(dump, answer)
                printed = output if tool.answer else Path(os.devnull)
                run = measure(line, printed, timeout)
                if turn < 0:
                    continue
                runs[tool].append(run)
                if truth is not None and tool.answer and tool not in scores:
                    scores[tool] = score(tool, answer if str(answer) in line else output, truth)
                answer.unlink(missing_ok=True)
    return runs, scores


def report(runs: dict[Tool, list[Run]], scores: dict[Tool, Score]) -> str:
    """The figures as a Markdown table: medians, and their ratios to those of kallsift and of ``cat``.

    Args:
        runs: of each tool; the first two are ``cat`` and kallsift.
        scores: of those whose answers were held against a truth.
    """
    yardstick, ours = (median(run.seconds for run in runs[tool]) for tool in list(runs)[:2])
    lines = [
        "| tool | runs | wall time | fastest to slowest | / kallsift | / cat | private memory | right lines | wrong |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for tool, done in runs.items():
        if not done:
            continue
        seconds = sorted(run.seconds for run in done)
        middle = median(seconds)
        cells = [
            tool.name,
            str(len(done)),
            f"{middle:.2f} s{_ending(done)}",
            f"{seconds[0]:.2f} to {seconds[-1]:.2f} s",
            f"{middle / ours:.1f}",
            f"{middle / yardstick:.1f}",
            f"{median(run.peak for run in done) / MEBIBYTE:,.0f} MiB",
            *_score_cells(tool, scores.get(tool)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _installed(tool: Tool) -> bool:
    """Whether a peer could be installed; says so if not."""
    _say(f"{tool.name}: installing, if it is not there yet")
    try:
        install(tool)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{tool.name} is left out, it cannot be installed: {error}", file=sys.stderr)
        return False
    return True


def _ending(runs: Sequence[Run]) -> str:
    """How the runs ended, where it was not well."""
    if any(run.timed_out for run in runs):
        return " (stopped)"
    codes = sorted({run.exit_code for run in runs} - {0})
    return f" (exit {', '.join(map(str, codes))})" if codes else ""


def _score_cells(tool: Tool, result: Score | None) -> tuple[str, str]:
    if result is None:
        return "", ""
    remark = ", identical" if result.exact else "" if tool.types else " (no types)"
    return f"{result.right:,} of {result.total:,}{remark}", f"{result.wrong:,}"


def _count(text: str) -> int:
    """A number of runs: at least one."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return int(text)


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--dump", type=Path, nargs="+", required=True, metavar="PATH", help="memory dumps")
    parser.add_argument("--truth", type=Path, nargs="+", metavar="KALLSYMS", help="each guest's own /proc/kallsyms")
    parser.add_argument("--rounds", type=_count, default=7, metavar="N", help="runs of cat and kallsift (default 7)")
    parser.add_argument(
        "--peers", action=argparse.BooleanOptionalAction, default=True, help="measure other tools too (default)"
    )
    parser.add_argument("--peer-rounds", type=_count, default=3, metavar="N", help="runs of each peer (default 3)")
    parser.add_argument("--timeout", type=float, default=300, metavar="S", help="seconds for any run (default 300)")
    return parser


if __name__ == "__main__":
    main()
