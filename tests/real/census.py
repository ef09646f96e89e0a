"""Recovers the symbols of every kernel image that Debian's mirror still has, and compares each with another's reading.

What was found of an image is kept in the lab's folder, so the census can be stopped and repeated.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import kallsift
from kallsift.kallsyms.evidence import Outcome
from tests.lab.errors import LabError
from tests.lab.places import lab_folder, say
from tests.real.census_packages import ARCHITECTURES, SUITES, Image, listed
from tests.real.census_table import holds, table
from tests.real.census_truth import LARGE, LARGEST, compare, compare_map, guest_reading, map_reading, peer_reading

Row = dict[str, Any]
"""What is kept of one image, as JSON has it."""

RECOVERY_TIMEOUT = 300  # seconds
GONE = "404"  # how a mirror answers for a package that it lists but has no longer
AHEAD = 4  # images that are downloaded while one is recovered


class _TooSlowError(Exception):
    """A recovery took longer than any may."""


def census_folder() -> Path:
    """Where images and what was found of them are kept."""
    return lab_folder() / "census"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m tests.real images``."""
    parser.add_argument("--suite", action="append", choices=SUITES, help="only this suite (may be given repeatedly)")
    parser.add_argument("--architecture", action="append", choices=ARCHITECTURES, help="only this architecture")
    parser.add_argument("--match", default="", metavar="TEXT", help="only packages with this in name and version")
    parser.add_argument("--again", action="store_true", help="recover anew what was proven before, too")
    parser.add_argument("--no-peer", action="store_true", help="do not run vmlinux-to-elf where it has not been run")
    parser.add_argument("--offline", action="store_true", help="only images that were downloaded before")


def run(options: argparse.Namespace) -> int:
    """Takes the census and prints its table."""
    rows = []
    for image, arrival in _fetched(chosen(options)):
        try:
            arrival.result()
            rows.append(entry(image, peer=not options.no_peer, again=options.again))
        except (LabError, OSError) as error:
            say(f"{image.key}: {error}")
            gone = isinstance(error, LabError) and GONE in error.detail + str(error)
            rows.append({**asdict(image), "gone": gone, "error": f"not to be had: {error}".splitlines()[0]})
    print(table(rows, whole=not (options.offline or options.suite or options.architecture or options.match)))
    return 0 if rows and all(holds(row) for row in rows) else 1


def chosen(options: argparse.Namespace) -> Iterator[Image]:
    """The images that the options name."""
    if options.offline:
        images = [Image(**json.loads(path.read_text())) for path in sorted(census_folder().glob("*/image.json"))]
        order = {suite: number for number, suite in enumerate(SUITES)}
        images.sort(key=lambda image: (order[image.suite], ARCHITECTURES.index(image.architecture), image.key))
    else:
        images = list(listed(tuple(suite for suite in SUITES if suite in (options.suite or SUITES))))
    for image in images:
        suites, architectures = options.suite or SUITES, options.architecture or ARCHITECTURES
        if image.suite in suites and image.architecture in architectures and options.match in image.key:
            yield image


def _fetched(images: Iterator[Image]) -> Iterator[tuple[Image, Future[None]]]:
    """The images, while the next few are being downloaded."""
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[tuple[Image, Future[None]]] = deque()
        for image in images:
            waiting.append((image, pool.submit(fetch, image)))
            if len(waiting) > AHEAD:
                yield waiting.popleft()
        yield from waiting


def fetch(image: Image) -> None:
    """Puts the image and what is known of it into its folder, unless it is there.

    Raises:
        LabError: as `Image.fetch`.
    """
    folder = census_folder() / image.key
    if not (folder / "image").exists():
        say(f"{image.key}: downloading")
        folder.mkdir(parents=True, exist_ok=True)
        image.fetch(folder / "image")
    (folder / "image.json").write_text(json.dumps(asdict(image), indent=1) + "\n")


def entry(image: Image, peer: bool, again: bool) -> Row:
    """The row of an image that was fetched, from what is kept where that is enough."""
    folder = census_folder() / image.key
    kept = folder / "row.json"
    # of the row that is kept all stays but where the mirror has the image now
    row: Row = {**json.loads(kept.read_text()), **asdict(image)} if kept.exists() else {}
    if again or (peer and not row.get("asked")) or not row.get("proven"):
        row = {**asdict(image), **_recovered(image, folder, peer), "asked": peer or row.get("asked", False)}
        kept.write_text(json.dumps(row, indent=1) + "\n")
        outcome = row.get("error") or row.get("reading") or "not compared"
        say(f"{image.key}: {row.get('symbols', 0):,} symbols, {outcome}")
    return row


def _recovered(image: Image, folder: Path, peer: bool) -> Row:
    start = time.perf_counter()
    try:
        with _limit(RECOVERY_TIMEOUT):
            memory = kallsift.open(folder / "image")
            kernel = kallsift.recover(memory)
            seconds = time.perf_counter() - start
    except Exception as error:  # whatever happens to one image, the others follow
        return {"error": f"{type(error).__name__}: {error}", "proven": False}
    with memory:
        return {**_facts(kernel), "seconds": seconds, **_compared(image, folder, kernel, peer)}


def _facts(kernel: kallsift.Kernel) -> Row:
    failed = [f"{check.name}: {check.detail}" for check in kernel.evidence if check.outcome is Outcome.FAILED]
    return {
        "packaging": kernel.memory.container,
        "found_architecture": kernel.architecture,
        "word_bits": kernel.symbols.word_size * 8,
        "byte_order": kernel.byte_order,
        "symbols": len(kernel.symbols),
        "encoding": kernel.encoding,
        "tables": [place.name for place in kernel.tables],
        "base": kernel.virtual_base,
        "banner": kernel.banner,
        "state": kernel.state.value,
        "proven": kernel.proven,
        "failed": failed,
        "notes": list(kernel.memory.notes),
    }


def _compared(image: Image, folder: Path, kernel: kallsift.Kernel, peer: bool) -> Row:
    """How the recovered table compares with the peer's, and a guest's or, where there is none, the linker's map."""
    found: Row = {}
    agrees = False
    other = peer_reading(folder / "image", folder / "peer.gz", run=peer)
    if other and other.problem:
        found |= {"reading": other.source, "peer_problem": other.problem}
    elif other:
        agreement = compare(kernel, other)
        agrees = agreement.identical
        found |= {"reading": other.source, "peer_agreement": asdict(agreement)}
    if guest := guest_reading(image):
        found |= {"reading": guest.source, "agreement": asdict(compare(kernel, guest))}
        return found
    largest = (LARGE if agrees else LARGEST) if peer else 0
    if linked := map_reading(image, folder / "map.gz", largest):
        found |= {"reading": linked.source, "map_agreement": asdict(compare_map(kernel, linked))}
    return found


@contextmanager
def _limit(seconds: int) -> Iterator[None]:
    """Ends what runs inside with an exception when it takes too long."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TooSlowError(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
