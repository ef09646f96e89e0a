"""The table of docs/measured/boots.md: many boots of one guest, each with a KASLR seed of its own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import kallsift
from tests.lab import Capture, Guest, LabError, capture
from tests.lab.places import lab_folder
from tests.real.dynamic_table import printed

HEADING = """\
# Boot after boot

Every line of `/proc/kallsyms` (built-in, modules, BPF), byte for byte against the guest's own, in several boots of the
same guest, each with another KASLR seed: where a boot puts things decides nothing. Written by
`python -m tests.real boots`, which boots each of these kernels so many times and keeps no memory of theirs.

| guest | kernel | boots | places of the kernel | lines | identical | else |
|---|---|--:|--:|--:|--:|---|"""


@dataclass(frozen=True)
class Boot:
    """What came out of one boot.

    Attributes:
        guest: its name.
        release: of its kernel.
        base: address of its ``_text`` or ``_stext``, as the guest has it.
        lines: of its ``/proc/kallsyms``.
        outcome: ``identical``, or what is not.
    """

    guest: str
    release: str
    base: str
    lines: int
    outcome: str


def compared(taken: Capture) -> Boot:
    """Recover all symbols of a capture and compare them with the guest's own."""
    truth = taken.truth("kallsyms")
    places = {name: address for address, _, name in (line.split(b" ", 2) for line in truth.splitlines())}
    base = places.get(b"_text", places.get(b"_stext", b"unknown")).decode()
    try:
        with kallsift.open(taken.dump("elf")) as memory:
            text, missing = printed(memory)
    except kallsift.KallsiftError as error:
        outcome = f"refused: {error}"
    else:
        outcome = "identical" if text == truth else "different"
        outcome = f"missing: {missing[0]}" if missing else outcome
    return Boot(taken.name, taken.manifest["kernel"]["release"], base, truth.count(b"\n"), outcome)


def boots(guest: Guest, times: int, results: Path) -> Iterator[Boot]:
    """Boot a guest until there are so many results of it, each of which is added to a file."""
    known = [boot for boot in _known(results) if boot.guest == guest.name][:times]
    yield from known
    for _ in range(times - len(known)):
        with tempfile.TemporaryDirectory(prefix=".boots.", dir=lab_folder()) as folder:
            boot = compared(capture(guest, again=True, folder=Path(folder)))
        with results.open("a") as file:
            file.write(json.dumps(asdict(boot)) + "\n")
        yield boot


def _known(results: Path) -> list[Boot]:
    lines = results.read_text().splitlines() if results.exists() else []
    return [Boot(**json.loads(line)) for line in lines]


def row(found: Sequence[Boot]) -> str:
    """One row of the table; boots of one guest."""
    lines = sorted({boot.lines for boot in found})
    identical = sum(boot.outcome == "identical" for boot in found)
    others = "; ".join(sorted({boot.outcome for boot in found} - {"identical"}))
    span = f"{lines[0]:,}" if len(lines) == 1 else f"{lines[0]:,} to {lines[-1]:,}"
    bases = len({boot.base for boot in found})
    releases = ", ".join(sorted({boot.release for boot in found}))
    return f"| {found[0].guest} | {releases} | {len(found)} | {bases} | {span} | {identical} | {others or '-'} |"


def write(guests: Sequence[Guest], times: int, *, resume: bool) -> int:
    """Print the table; 1 if anything differs.

    Args:
        guests: what to boot.
        times: how often each.
        resume: keep the results of a run that was stopped.
    """
    if times < 1:
        raise LabError("--times must be at least 1")
    results = lab_folder() / "boots.jsonl"
    if not resume:
        results.unlink(missing_ok=True)
    print(HEADING)
    worst = 0
    for guest in guests:
        found = list(boots(guest, times, results))
        worst = worst if all(boot.outcome == "identical" for boot in found) else 1
        print(row(found), flush=True)
    return worst
