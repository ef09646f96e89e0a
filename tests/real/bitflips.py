"""Single flipped bits in the names and the addresses of real kernels' tables: which are noticed, and by what.

The truth is what the untouched image gives, which the identity tests hold against the running kernel's own list.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

import numpy as np

import kallsift
from kallsift.kallsyms.evidence import proven
from kallsift.kallsyms.format.token_table import MAX_TABLE, token_tables
from kallsift.kallsyms.recovered_tables import Attempt
from kallsift.kallsyms.solvers.adjacent import recover_tables
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.cross_checks.held_twice import held_twice
from kallsift.kernel.placement.placement import Placement
from kallsift.kernel.placement.pointers import AFTER, BEFORE, Words
from kallsift.memory.segments import BytesSegment
from tests.real.damage_trials import texts

ADDRESSES = "addresses"

PARTS: Mapping[str, tuple[str, ...]] = {"names": ("names",), ADDRESSES: ("offsets", "addresses")}
"""What is flipped, and the tables that hold it."""


class Fate(Enum):
    """What became of a table with one flipped bit."""

    HARMLESS = "no line changed"
    NOTICED = "noticed"
    REFUSED = "no table"
    SILENT = "not noticed"


@dataclass(frozen=True)
class Flip:
    """One flipped bit.

    Attributes:
        kernel: the guest whose image it was.
        part: what was flipped: a key of `PARTS`.
        seed: what it was drawn by.
        fate: what came of it.
        failed: names of the checks that failed.
        line: the first symbol that came out changed, as it was; empty if none did.
    """

    kernel: str
    part: str
    seed: int
    fate: str
    failed: tuple[str, ...] = ()
    line: str = ""


class Flipped:
    """One kernel's image, to be damaged by a bit again and again."""

    def __init__(self, name: str, image: Path) -> None:
        self.name = name
        opened = kallsift.open(image)
        self.truth = kallsift.recover(opened)
        assert self.truth.proven
        self.names = texts(self.truth)
        self.memory = self.truth.memory
        token_table = next(int(table.physical) for table in self.truth.tables if table.name == "token_table")
        around = self.memory.around(token_table, BEFORE, AFTER)
        # a copy that can be written to: each bit is flipped back
        self.segment = BytesSegment(around.start, around.data.copy())
        place = token_table - self.segment.start
        held = self.segment.data[place : place + MAX_TABLE].tobytes()
        self.tokens = next(token_tables(self.segment, place + held.index(b"\x000\x001\x002\x00") + 1))

    def flip(self, part: str, seed: int) -> Flip:
        """Flips one bit of a part, drawn by the seed, and reads the tables."""
        chance = np.random.default_rng((seed, list(PARTS).index(part)))
        table = next(table for table in self.truth.tables if table.name in PARTS[part])
        place = int(table.physical) + int(chance.integers(table.size))
        bit = np.uint8(1 << int(chance.integers(8)))
        self.segment.data[place - self.segment.start] ^= bit
        try:
            return self._outcome(part, seed)
        finally:
            self.segment.data[place - self.segment.start] ^= bit

    def _outcome(self, part: str, seed: int) -> Flip:
        """What is made of the tables where their neighbours, or tables that touch nothing, are not asked."""
        words = Words(self.truth.symbols.word_size, self.truth.byte_order)
        tables = next(iter(recover_tables(self.segment, self.tokens, (words.size,), Attempt())), None)
        if tables is None:
            return Flip(self.name, part, seed, Fate.REFUSED.value)
        assert not tables.array.needs_base
        addresses = words.wrap(tables.array.addresses(tables.array_address + self.truth.distance & words.mask))
        symbols = SymbolTable(addresses, tables.characters, tables.bounds, words.size)
        checks = (*tables.checks, *held_twice(self.memory, Placement(symbols, self.truth.distance, words, ())))
        line = self._changed(symbols)
        failed = tuple(check.name for check in checks if check.essential and check.outcome is kallsift.Outcome.FAILED)
        silent = Fate.SILENT if line else Fate.HARMLESS
        return Flip(self.name, part, seed, (silent if proven(checks) else Fate.NOTICED).value, failed, line)

    def _changed(self, symbols: SymbolTable) -> str:
        """The first symbol that is not as it was; empty if all are."""
        truth = self.truth.symbols
        if len(symbols) != len(truth):
            return "another number of symbols"
        moved = np.flatnonzero(symbols.addresses != truth.addresses).tolist()
        # names that differ begin to do so at the first character that does
        shared = min(len(symbols.characters), len(truth.characters))
        differs = np.flatnonzero(symbols.characters[:shared] != truth.characters[:shared])[:1]
        renamed = (np.searchsorted(truth.bounds, differs, "right") - 1).tolist()
        if not renamed and not np.array_equal(symbols.bounds, truth.bounds):
            renamed = np.flatnonzero(symbols.bounds != truth.bounds)[:1].tolist()
        index = min([*moved[:1], *renamed], default=None)
        return "" if index is None else self.names[index].decode("latin-1")


@dataclass(frozen=True)
class Plan:
    """Which bits to flip.

    Attributes:
        images: names of kernels, and their images.
        flips: of each kernel and part.
        results: where each result is kept, one a line.
        resume: whether those that are there already are kept.
    """

    images: Mapping[str, Path]
    flips: int
    results: Path
    resume: bool = False


HEADING = """\
# Flipped bits

One bit of a kernel's table is flipped, at a place drawn by lot, in the names or in the addresses, many times over. The
sources are the kernels' own images, so that the truth is what the untouched image gives. Written by
`python -m tests.real bitflips`; the same numbers come out each time.

*Noticed*: the table is not called proven (exit code 3), or not believed at all. The columns behind it count by which
check; several can notice one flip. *Tables*: what must be true of the tables alone: seqs_of_names sorts the names,
addresses rise, markers and lengths fit. The rest are what the kernel holds twice (docs/evidence.md). *Not noticed*: a
line is wrong, and nothing that is asked here says otherwise; pointers and landmarks, which are asked of whole kernels
besides, see one symbol in some thousand.
"""

COLUMNS = """\
| kernel | bits of | flips | no line changed | noticed | of the changed | tables | name codes | siblings | exports | \
BTF | named pointers | function starts | linker arrays | static keys | not noticed |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"""

TWICE = (
    *("name codes", "sibling symbols", "exports twice", "BTF functions", "named pointers", "function starts"),
    *("linker arrays", "static keys"),
)
"""Checks of what the kernel holds twice, in the order of the columns."""

OF_TABLES = ("seqs_of_names", "type letters", "damage", "address order", "markers", "num_syms")
"""Checks of the tables alone."""


def carry_out(plan: Plan) -> int:
    """Makes the trials and prints a Markdown document."""
    done = _kept(plan.results) if plan.resume else {}
    plan.results.parent.mkdir(parents=True, exist_ok=True)
    with plan.results.open("a" if plan.resume else "w") as lines:
        for name, image in plan.images.items():
            source: Flipped | None = None
            for part in PARTS:
                for seed in range(plan.flips):
                    if (name, part, seed) in done:
                        continue
                    source = source or Flipped(name, image)
                    flip = done[name, part, seed] = source.flip(part, seed)
                    print(json.dumps(asdict(flip)), file=lines, flush=True)
    print(HEADING)
    print(COLUMNS)
    for name in plan.images:
        for part in PARTS:
            print(_row(name, part, [done[name, part, seed] for seed in range(plan.flips)]))
    print("\n## What nothing noticed\n")
    print("\n".join(_silent(flip for flip in done.values() if flip.kernel in plan.images and flip.seed < plan.flips)))
    return 0


def _kept(results: Path) -> dict[tuple[str, str, int], Flip]:
    """Flips of an earlier run."""
    kept = {}
    for line in results.read_text().splitlines() if results.exists() else ():
        row = json.loads(line)
        flip = Flip(**{**row, "failed": tuple(row["failed"])})
        kept[flip.kernel, flip.part, flip.seed] = flip
    return kept


def _row(name: str, part: str, flips: list[Flip]) -> str:
    fates = Counter(flip.fate for flip in flips)
    harmless, silent = fates[Fate.HARMLESS.value], fates[Fate.SILENT.value]
    noticed = len(flips) - harmless - silent
    by = [sum(check in flip.failed for flip in flips) for check in TWICE]
    tables = sum(flip.fate == Fate.REFUSED.value or any(name in OF_TABLES for name in flip.failed) for flip in flips)
    share = f"{noticed / max(1, noticed + silent):.0%}"
    cells = (name, part, len(flips), harmless, noticed, share, tables, *by, silent)
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _silent(flips: Iterator[Flip] | list[Flip]) -> Iterator[str]:
    """How many changed lines of each kind of symbol nothing noticed."""
    yield "| part | letter of the symbol | flips | for example |"
    yield "|---|---|--:|---|"
    kinds: dict[tuple[str, str], list[str]] = {}
    for flip in flips:
        if flip.fate == Fate.SILENT.value:
            kinds.setdefault((flip.part, flip.line[:1]), []).append(flip.line[1:])
    for (part, letter), names in sorted(kinds.items(), key=lambda kind: -len(kind[1])):
        examples = ", ".join(f"`{name}`" for name in names[:3])
        yield f"| {part} | {letter} | {len(names)} | {examples} |"
