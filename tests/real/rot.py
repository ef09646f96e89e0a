"""The table of docs/measured/rot.md: whole dumps damaged at random, and what the command says of them.

The table itself is what is known so far: each run adds to it. A trial follows from its guest, container and number.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from unittest.mock import patch

import numpy as np

import kallsift
from kallsift import Kernel
from kallsift.analysis.dynamic.dynamic_symbols import dynamic_symbols
from kallsift.cli.app import run as command
from kallsift.compression.page_codecs import CODECS, Codec
from kallsift.errors import KallsiftError
from kallsift.memory.formats import registry as containers
from kallsift.output.symbols.kallsyms import kallsyms_text
from tests.lab import Capture, capture, guest_named
from tests.lab.places import lab_folder
from tests.memory.writers.avml import blocks
from tests.real.rot_damage import BY_PAGE, CUT, FRAMED, PLAIN, Damage, Target, cut_of, private_view

DOCUMENT = Path(__file__).parents[2] / "docs" / "measured" / "rot.md"

PATIENCE = 120
"""Seconds of processor time that one trial may take."""
BATCH = 50
"""Trials of one guest in one container that are made in a row."""

KNOWN = re.compile(rb"^[0-9a-f]+ [^?\n] [^?\n].*$", re.MULTILINE)
"""A line of which nothing is said to be unknown."""

COLUMNS = ("trials", "exit 0", "exit 3", "exit 1", "given up", "wrong at exit 0", "wrong at exit 3")

HEADING = """\
# Dumps that rot

Whole dumps of guests are damaged at random: pages zeroed, swapped, doubled, blocks of the file missing, the file cut
short, bytes of what is packed changed. Half of the trials hit the pages of the kernel's tables, a quarter the image
around them, a quarter all of memory: one page or byte, or many. What `kallsift symbols` prints then is compared line by
line with what it prints of the undamaged dump, which is the guest's own `/proc/kallsyms` (kernels.md, dynamic.md).

*Wrong at exit 0*: trials in which the exit code is 0 and any line is wrong or missing. There must be none. *Wrong at
exit 3*: the command says that its answer is not proven, and a line is wrong. *Given up*: a crash, or more than 120
seconds. Made by `python -m tests.real rot --trials N --resume`, which goes on where the table ends.
"""


@dataclass(frozen=True)
class Outcome:
    """What came of one trial.

    Attributes:
        container: key of `CONTAINERS`.
        number: of the trial.
        kind: of the damage.
        code: the exit code; -1 where it was given up.
        wrong: lines that are wrong.
        lacking: lines that are missing.
        said: why it is not proven or was refused.
    """

    container: str
    number: int
    kind: str
    code: int
    wrong: int = 0
    lacking: int = 0
    said: str = ""


def _converted(taken: Capture, path: Path, *options: str) -> None:
    if command(["convert", "--as-is", *options, str(taken.dump("elf")), str(path)]):
        raise KallsiftError(f"{path} could not be written")


def _avml(taken: Capture, path: Path) -> None:
    with kallsift.open(taken.dump("elf")) as memory, path.open("wb") as file:
        for segment in memory.segments:
            file.writelines(blocks([(segment.start, segment.read().tobytes())]))


CONTAINERS: dict[str, tuple[Callable[[Capture, Path], None], dict[str, Damage | None]]] = {
    "ELF core": (lambda taken, path: path.symlink_to(taken.dump("elf")), PLAIN),
    "LiME": (lambda taken, path: path.symlink_to(taken.dump("lime")), PLAIN),
    "AVML": (_avml, FRAMED),
    "kdump, zlib": (lambda taken, path: _converted(taken, path, "--format", "kdump"), BY_PAGE),
    "kdump, zstd": (lambda taken, path: _converted(taken, path, "--format", "kdump", "--packing", "zstd"), BY_PAGE),
}
"""What writes a guest's memory, and what can happen to such a file."""


def _printed(kernel: Kernel) -> tuple[bytes, tuple[str, ...]]:
    """All lines of a kernel, and what is missing."""
    dynamic = dynamic_symbols(kernel)
    return b"".join(kallsyms_text(kernel, dynamic)), dynamic.missing


def dump_of(guest: str, container: str) -> Path:
    """Return a guest's memory in a container, written when it is first asked for."""
    taken = capture(guest_named(guest))
    path = lab_folder() / "rot" / f"{guest}.{re.sub(r'[^a-z]+', '-', container.lower())}"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        draft = path.with_name(f".{path.name}")
        draft.unlink(missing_ok=True)
        CONTAINERS[container][0](taken, draft)
        draft.rename(path)
    return path


def _loaded(load: Callable[[], Codec]) -> Codec:
    return remembering(load())


def remembering(codec: Codec) -> Codec:
    """Return a codec that unpacks no page twice: trials that are forked have those of the undamaged dump at hand."""
    decode, error = codec
    known: dict[bytes, bytes] = {}

    def look_up(packed: memoryview, target: memoryview) -> int:
        page = known.get(key := bytes(packed))
        if page is not None and len(page) == len(target):
            target[:] = page
            return len(page)
        written = decode(packed, target)
        if written == len(target):
            known[key] = bytes(target)
        return written

    return look_up, error


class Rotting:
    """One guest's memory in one container, to be damaged again and again."""

    def __init__(self, guest: str, container: str) -> None:
        self.guest, self.container = guest, container
        self.path = dump_of(guest, container)
        self.codecs = {flag: (name, cache(partial(_loaded, load))) for flag, (name, load) in CODECS.items()}
        with patch.dict(CODECS, self.codecs):
            self.memory = containers.open_mapped("dump", private_view(self.path))
            kernel = kallsift.recover(self.memory)
        assert kernel.proven
        self.truth, missing = _printed(kernel)
        assert not missing
        self.lines = Counter(self.truth.splitlines())
        low = min(int(table.physical) for table in kernel.tables)
        high = max(int(table.physical) + table.size for table in kernel.tables)
        self.target = Target(self.memory, low, high)

    def trial(self, number: int) -> Outcome:
        """Damage the dump as the number has it, and recover what is left."""
        with patch.dict(CODECS, self.codecs):
            return self._trial(number)

    def _trial(self, number: int) -> Outcome:
        kinds = CONTAINERS[self.container][1]
        chance = np.random.default_rng(
            (zlib.crc32(self.guest.encode()), list(CONTAINERS).index(self.container), number)
        )
        kind = list(kinds)[number % len(kinds)]
        damage = kinds[kind]
        view = private_view(self.path, cut_of(self.path, chance) if kind == CUT else range(0))
        if damage is not None:
            memory = containers.open_mapped("dump", view)
            view = damage(view, Target(memory, self.target.low, self.target.high), chance)
        try:
            memory = containers.open_mapped("dump", view)
            kernel = kallsift.recover(memory)
            text, missing = _printed(kernel)
        except KallsiftError as error:
            return Outcome(self.container, number, kind, 1, said=str(error))
        failed = [check.name for check in kernel.evidence if check.outcome.value == "failed"]
        code = 0 if kernel.proven and not missing else 3
        if text == self.truth:
            return Outcome(self.container, number, kind, code, said=", ".join((*failed, *missing)))
        ours = Counter(KNOWN.findall(text))
        common = sum(min(count, self.lines[line]) for line, count in ours.items())
        wrong, lacking = ours.total() - common, self.lines.total() - common
        return Outcome(self.container, number, kind, code, wrong, lacking, ", ".join((*failed, *missing)))


def outcome_of(rotting: Rotting, number: int) -> Outcome:
    """Make a trial in a process of its own, which inherits all that is prepared; one that does not end is given up."""
    kinds = list(CONTAINERS[rotting.container][1])
    given_up = partial(Outcome, rotting.container, number, kinds[number % len(kinds)], -1)
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        os.close(receiver)
        # the time is of processors, so that a busy machine gives nothing up
        resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE))
        try:
            try:
                outcome = rotting.trial(number)
            except Exception as error:
                outcome = given_up(said=f"{type(error).__name__}: {error}")
            with os.fdopen(sender, "w") as pipe:
                pipe.write(json.dumps(outcome.__dict__))
        finally:
            os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return given_up(said=f"the process ended ({signal.Signals(os.WTERMSIG(status)).name})")
    return Outcome(**json.loads(said))


class Table:
    """The counts of docs/measured/rot.md, by guest and container and by kind of damage."""

    def __init__(self, document: Path, resume: bool) -> None:
        self.document = document
        self.counts: dict[tuple[str, str], Counter[str]] = {}
        if resume and document.exists():
            for line in document.read_text().splitlines():
                cells = [cell.strip() for cell in line.strip("|").split("|")]
                if len(cells) == 2 + len(COLUMNS) and cells[2].replace(",", "").isdigit():
                    numbers = (int(cell.replace(",", "")) for cell in cells[2:])
                    self.counts[cells[0], cells[1]] = Counter(dict(zip(COLUMNS, numbers, strict=True)))

    def trials(self, guest: str, container: str) -> int:
        """How many trials of a guest's memory in a container were made."""
        return self.counts.get((guest, container), Counter())["trials"]

    def add(self, guest: str, outcome: Outcome) -> None:
        """Count one trial."""
        column = {0: "exit 0", 3: "exit 3", 1: "exit 1"}.get(outcome.code, "given up")
        row = Counter(["trials", column])
        if outcome.code == 0 and outcome.wrong + outcome.lacking:
            row["wrong at exit 0"] += 1
        if outcome.code == 3 and outcome.wrong:
            row["wrong at exit 3"] += 1
        for key in ((guest, outcome.container), (outcome.kind, outcome.container)):
            self.counts.setdefault(key, Counter()).update(row)

    def write(self) -> None:
        """Write the document."""
        kinds = tuple(dict.fromkeys(kind for _, kinds in CONTAINERS.values() for kind in kinds))
        guests = sorted({key[0] for key in self.counts} - set(kinds))
        total = sum(self.trials(guest, container) for guest in guests for container in CONTAINERS)
        draft = self.document.with_suffix(".part")
        lines = [HEADING, f"So far {total:,} trials.", *self._rows("guest", guests), *self._rows("damage", kinds)]
        draft.write_text("\n".join(lines) + "\n")
        draft.rename(self.document)

    def _rows(self, what: str, names: Sequence[str]) -> Iterator[str]:
        yield f"\n| {what} | container | {' | '.join(COLUMNS)} |"
        yield f"|---|---|{'--:|' * len(COLUMNS)}"
        for name in names:
            for container in CONTAINERS:
                if row := self.counts.get((name, container)):
                    yield f"| {name} | {container} | {' | '.join(f'{row[column]:,}' for column in COLUMNS)} |"


def carry_out(guests: Sequence[str], trials: int, *, resume: bool) -> int:
    """Make so many trials, spread evenly over guests and containers, and write the table after each batch."""
    os.nice(10)
    table, made, worst = Table(DOCUMENT, resume), 0, 0
    # in no order, so that few trials are of all guests and containers already
    pairs = sorted(product(guests, CONTAINERS), key=lambda pair: zlib.crc32("".join(pair).encode()))
    with (lab_folder() / "rot.jsonl").open("a") as log:
        while made < trials:
            guest, container = min(pairs, key=lambda pair: table.trials(*pair))
            count = min(BATCH, trials - made)
            for outcome in outcomes(guest, container, range(first := table.trials(guest, container), first + count)):
                table.add(guest, outcome)
                made += 1
                bad = outcome.code == -1 or (outcome.code == 0 and outcome.wrong + outcome.lacking > 0)
                worst = worst or int(bad)
                line = json.dumps({"guest": guest, "time": int(time.time()), **outcome.__dict__})
                log.write(line + "\n")
                log.flush()
                if bad:
                    print(line, file=sys.stderr, flush=True)
            table.write()
    return worst


def outcomes(guest: str, container: str, numbers: range) -> Iterator[Outcome]:
    """Yield what came of some trials; the undamaged dump is recovered once for all of them."""
    rotting = Rotting(guest, container)
    for number in numbers:
        yield outcome_of(rotting, number)
