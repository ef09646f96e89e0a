"""Measures ``kallsift symbols`` on compressed dumps beside unpacking them once: ``python -m bench.compressed DUMP``.

A dump is written as AVML, and as a kdump with each packing; once as it is, and once with its blank pages filled from
files, since a guest that just booted leaves most of its memory blank. The yardstick is what all packed pieces take to
unpack by a bare loop over the same library: in one thread or in as many as there are processors, whichever is faster,
and without starting Python. Runs take turns. Beside wall time stands processor time, which other work on the machine
disturbs less.
"""

from __future__ import annotations

import argparse
import mmap
import os
import platform
import resource
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import cramjam
import lzallright
import numpy as np
from backports import zstd
from numpy.typing import NDArray

import kallsift
from bench.__main__ import MEBIBYTE
from bench.measure import Run, measure
from kallsift.memory.formats.kdump.header import DESCRIPTOR, read_header
from kallsift.memory.memory import Memory
from kallsift.memory.segments import BytesSegment
from kallsift.output.dumps.kdump import PACKINGS, kdump_dump
from kallsift.output.dumps.machine_facts import memory_facts
from tests.memory.writers.avml import blocks

PAGE = 4096
PIECES_AT_ONCE = 256
"""Packed pieces that a thread of the yardstick takes at once."""

LIBRARIES = Path("/usr/lib")
"""Whose shared libraries fill the blank pages."""

FILLING = 1 << 29
"""Bytes of other content that blank pages are filled with, over and over."""

UNPACK: dict[str, Callable[[memoryview], Any]] = {
    "avml": cramjam.snappy.decompress,
    "zlib": zlib.decompress,
    "lzo": lambda piece: lzallright.LZOCompressor.decompress(piece, PAGE),
    "snappy": cramjam.snappy.decompress_raw,
    "zstd": zstd.decompress,
}
"""What unpacks a piece of each kind of dump."""


@dataclass(frozen=True)
class Packed:
    """A compressed dump: its kind, its file, and the offset and size of each packed piece, shape (n, 2)."""

    kind: str
    path: Path
    pieces: NDArray[np.int64]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = _parser().parse_args(arguments)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with kallsift.open(options.dump) as memory, tempfile.TemporaryDirectory(prefix="kallsift-bench-") as folder:
        truth = options.truth.read_bytes() if options.truth else None
        for title, source in (("as it is", memory), ("blank pages filled", filled(memory, _filling()))):
            print(f"\n### {options.dump.absolute().parent.name}, {title}\n\n{HEADER}")
            for kind in options.kind:
                dump = written(kind, source, Path(folder, kind))
                print(row(dump, *compared(dump, options.rounds, Path(folder, "answer"), truth)), flush=True)
                dump.path.unlink()


def filled(memory: Memory, filling: NDArray[np.uint8]) -> Memory:
    """The memory with other content in its blank pages, shape (n, `PAGE`), in a file that is gone with it."""
    segments = []
    number = 0
    for segment in memory.segments:
        with tempfile.TemporaryFile() as file:
            file.truncate(segment.size)
            data = np.frombuffer(mmap.mmap(file.fileno(), segment.size), np.uint8)
        data[:] = segment.read()
        pages = data[: segment.size // PAGE * PAGE].reshape(-1, PAGE)
        for low in range(0, len(pages), PIECES_AT_ONCE):
            blank = low + np.flatnonzero(~pages[low : low + PIECES_AT_ONCE].any(axis=1))
            pages[blank] = filling[(number + np.arange(len(blank))) % len(filling)]
            number += len(blank)
        segments.append(BytesSegment(segment.start, data))
    return replace(memory, segments=tuple(segments))


def _filling() -> NDArray[np.uint8]:
    """Pages of this machine's shared libraries, those that are not blank."""
    content = bytearray()
    for path in sorted(LIBRARIES.rglob("*.so*")):
        if path.is_file() and not path.is_symlink() and len(content) < FILLING:
            content += path.read_bytes()
    pages = np.frombuffer(content, np.uint8)[: len(content) // PAGE * PAGE].reshape(-1, PAGE)
    return pages[pages.any(axis=1)]


def written(kind: str, memory: Memory, path: Path) -> Packed:
    """The memory as a file of one kind."""
    if kind == "avml":
        pieces = []
        with path.open("wb") as out:
            for number, part in enumerate(blocks(_parts(memory))):
                # of each block a header, the frames, and their size
                if number % 3 == 1:
                    pieces.append((out.tell(), len(part)))
                out.write(part)
        return Packed(kind, path, np.array(pieces, np.int64))
    with path.open("wb") as out:
        for offset, data in kdump_dump(memory, memory_facts(memory, None), packing=kind):
            out.seek(offset)
            out.write(data)
    content = np.memmap(path, np.uint8, "r")
    header = read_header(content)
    assert header is not None
    count = int((int(content[header.descriptors :][:8].view("<u8")[0]) - header.descriptors) // DESCRIPTOR.itemsize)
    rows = content[header.descriptors :][: count * DESCRIPTOR.itemsize].view(DESCRIPTOR.newbyteorder("<"))
    rows = np.unique(rows[(rows["flags"] & PACKINGS[kind][0]) != 0])
    return Packed(kind, path, np.stack([rows["offset"], rows["size"]], axis=1).astype(np.int64))


def _parts(memory: Memory) -> Iterator[tuple[int, bytes]]:
    """The memory in parts, so that it is never copied as a whole."""
    for segment in memory.segments:
        for low in range(0, segment.size, 1 << 24):
            yield segment.start + low, segment.read(low, low + (1 << 24)).tobytes()


@dataclass(frozen=True)
class Cost:
    """Seconds of wall time and of processor time."""

    wall: float
    processor: float


def unpacking(dump: Packed, threads: int) -> Cost:
    """What it costs some threads to unpack every piece of a dump once."""
    unpack = UNPACK[dump.kind]
    content = np.memmap(dump.path, np.uint8, "r").data
    at_once = 1 if dump.kind == "avml" else PIECES_AT_ONCE
    groups = [dump.pieces[low : low + at_once].tolist() for low in range(0, len(dump.pieces), at_once)]

    def work(group: Iterable[tuple[int, int]]) -> None:
        for offset, size in group:
            unpack(content[offset : offset + size])

    start, used = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, groups):
            pass
    return Cost(time.perf_counter() - start, time.process_time() - used)


def compared(dump: Packed, rounds: int, answer: Path, truth: bytes | None) -> tuple[list[Cost], list[Cost], int, str]:
    """What unpacking and kallsift cost, in turns after one that does not count; the most memory, and the answer."""
    yardstick: list[Cost] = []
    ours: list[Cost] = []
    runs: list[Run] = []
    command = [sys.executable, "-m", "kallsift", "symbols", str(dump.path)]
    for turn in range(rounds + 1):
        costs = [unpacking(dump, threads) for threads in sorted({1, os.cpu_count() or 1})]
        before = _processor_time_of_children()
        run = measure(command, answer, 600)
        if turn:
            yardstick.append(min(costs, key=lambda cost: cost.wall))
            ours.append(Cost(run.seconds, _processor_time_of_children() - before))
            runs.append(run)
    exact = truth is not None and answer.read_bytes() == truth
    codes = sorted({run.exit_code for run in runs})
    told = "identical" if exact else f"exit {', '.join(map(str, codes))}"
    return yardstick, ours, max(run.peak for run in runs), told


def _processor_time_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


HEADER = """\
| dump | file | unpacking once: wall, processor | kallsift symbols | wall ratio | processor ratio | memory | answer |
|---|--:|--:|--:|--:|--:|--:|---|"""


def row(dump: Packed, yardstick: Sequence[Cost], ours: Sequence[Cost], peak: int, answer: str) -> str:
    """The figures as a line of a Markdown table: medians; ratios are of runs that followed each other, with the least.

    Args:
        dump: which.
        yardstick: unpacking it.
        ours: kallsift, in the same turns.
        peak: bytes of private memory.
        answer: how the table compares with the truth.
    """
    pairs = list(zip(ours, yardstick, strict=True))
    wall = sorted(run.wall / unpack.wall for run, unpack in pairs)
    processor = sorted(run.processor / unpack.processor for run, unpack in pairs)
    cells = [
        "AVML" if dump.kind == "avml" else f"kdump, {dump.kind}",
        f"{dump.path.stat().st_size / MEBIBYTE:,.0f} MiB",
        f"{median(cost.wall for cost in yardstick):.2f} s, {median(cost.processor for cost in yardstick):.2f} s",
        f"{median(cost.wall for cost in ours):.2f} s, {median(cost.processor for cost in ours):.2f} s",
        f"{median(wall):.2f} ({wall[0]:.2f} to {wall[-1]:.2f})",
        f"{median(processor):.2f} ({processor[0]:.2f} to {processor[-1]:.2f})",
        f"{peak / MEBIBYTE:,.0f} MiB",
        answer,
    ]
    return f"| {' | '.join(cells)} |"


def _parser() -> argparse.ArgumentParser:
    kinds = tuple(UNPACK)
    parser = argparse.ArgumentParser(prog="python -m bench.compressed", description=__doc__)
    parser.add_argument("dump", type=Path, help="a memory dump")
    parser.add_argument("--truth", type=Path, metavar="KALLSYMS", help="the guest's own /proc/kallsyms")
    parser.add_argument("--kind", choices=kinds, nargs="+", default=kinds, help="kinds of dumps (default all)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="runs of each (default 5)")
    return parser


if __name__ == "__main__":
    main()
