"""Damage by lot: pages under the tables of a real kernel's image are zeroed, and what is recovered is counted.

The truth is what the undamaged image gives, which the identity tests hold against the running kernel's own list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import pairwise, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import kallsift
from kallsift.memory.segments import BytesSegment
from tests.oracle.damage import Filler

PAGE = 4096

FILLERS: dict[Filler, str] = {
    "zeros": "zeros",
    "noise": "random bytes",
    "foreign": "pages of the image from elsewhere",
    "own": "other pages of the tables",
}
"""What stands on lost pages."""


@dataclass(frozen=True)
class Trial:
    """How one trial came out.

    Attributes:
        survivors: symbols whose name, tokens, address, and what the address is relative to are untouched.
        recovered: those of them that were recovered.
        wrong: names and addresses that differ from the true ones.
        failure: why nothing was recovered; empty where something was.
    """

    survivors: int
    recovered: int
    wrong: int
    failure: str = ""


class Damaged:
    """One kernel's image, to be damaged again and again."""

    def __init__(self, image: Path) -> None:
        opened = kallsift.open(image)
        # the image keeps all of its bytes aside, undamaged, in case its headers mislead
        self.memory = replace(opened, image=opened.image and replace(opened.image, whole=None))
        self.truth = kallsift.recover(self.memory)
        places = [(table.name, int(table.physical), table.size) for table in self.truth.tables]
        # everything counts from the first page under the tables
        self.start = min(start for _, start, _ in places) // PAGE * PAGE
        self.tables = {name: (start - self.start, size) for name, start, size in places}
        self.pages = np.arange(max(start + size - 1 for start, size in self.tables.values()) // PAGE + 1)
        found = self.memory.segment_at(self.start + PAGE)
        assert isinstance(found, BytesSegment)
        self.segment = found

    @cached_property
    def names(self) -> list[bytes]:
        return texts(self.truth)

    @cached_property
    def heads(self) -> NDArray[np.int64]:
        """Place of each entry of the name stream, and of the end of the last one."""
        return self._entries[0]

    @cached_property
    def first_codes(self) -> NDArray[np.int64]:
        """Place of the first code of each entry."""
        return self._entries[1]

    @cached_property
    def _entries(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        start, _ = self.tables["names"]
        data = self.codes.tobytes()
        long = self.truth.banner is not None and release(self.truth.banner) >= (6, 1)
        heads, first, place = [], [], 0
        for _ in range(len(self.truth.symbols)):
            heads.append(start + place)
            length = data[place]
            if long and length & 0x80:
                place += 1
                length = length & 0x7F | data[place] << 7
            first.append(start + place + 1)
            place += 1 + length
        return np.array([*heads, start + place], np.int64), np.array(first, np.int64)

    def trial(self, percent: float, seed: int, filler: Filler = "zeros") -> Trial:
        """Overwrites a share of the pages, at least one, and recovers what is left."""
        chance = np.random.default_rng((seed, int(percent * 10)))
        lost = chance.choice(self.pages, max(1, round(len(self.pages) * percent / 100)), replace=False)
        data = self.segment.read().copy()
        for page in lost.tolist():
            start = self.start - self.segment.start + page * PAGE
            data[max(0, start) : start + PAGE] = self._filled(filler, chance)[max(0, -start) :]
        others = [segment for segment in self.memory.segments if segment is not self.segment]
        segments = sorted([*others, BytesSegment(self.segment.start, data)], key=lambda segment: segment.start)
        survivors = self._survivors(lost)
        try:
            kernel = kallsift.recover(replace(self.memory, segments=tuple(segments)))
        except kallsift.KallsiftError as error:
            return Trial(int(survivors.sum()), 0, 0, str(error))
        return self._judged(kernel, survivors)

    def _filled(self, filler: Filler, chance: np.random.Generator) -> NDArray[np.uint8]:
        """One page of what stands on lost pages."""
        if filler == "zeros":
            return np.zeros(PAGE, np.uint8)
        if filler == "noise":
            return chance.integers(0, 256, PAGE, np.uint8)
        if filler == "own":
            start = self.start - self.segment.start + int(chance.choice(self.pages[1:-1])) * PAGE
        else:
            start = int(chance.integers(0, self.segment.size // PAGE)) * PAGE
        return self.segment.read(start, start + PAGE)

    def _judged(self, kernel: kallsift.Kernel, survivors: NDArray[np.bool_]) -> Trial:
        if len(kernel.symbols) != len(self.truth.symbols):
            return Trial(int(survivors.sum()), 0, len(kernel.symbols), "another number of symbols")
        found = kernel.symbols
        known = np.ones(len(found), np.bool_) if found.known_addresses is None else found.known_addresses
        right_address = found.addresses == self.truth.symbols.addresses
        right_name = np.array([one == other for one, other in zip(texts(kernel), self.names, strict=True)])
        wrong = np.count_nonzero(known & ~right_address) + np.count_nonzero(found.named & ~right_name)
        recovered = survivors & known & right_address & found.named & right_name
        return Trial(int(survivors.sum()), int(recovered.sum()), int(wrong))

    @cached_property
    def codes(self) -> NDArray[np.uint8]:
        """The bytes of the name stream, codes and lengths."""
        start, size = self.tables["names"]
        return self.memory.read(self.start + start, size)

    @cached_property
    def tokens(self) -> NDArray[np.int64]:
        """Where each token begins, and where the last one ends."""
        start, size = self.tables["token_table"]
        ends = np.flatnonzero(self.memory.read(self.start + start, size) == 0) + 1
        assert len(ends) == 256
        return start + np.concatenate(([0], ends))

    def _survivors(self, lost: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each symbol's name, the tokens in it, its address and what that is relative to are untouched."""
        before = np.concatenate(([0], np.cumsum(np.isin(self.pages, lost))))

        def whole(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
            result: NDArray[np.bool_] = before[(ends - 1) // PAGE + 1] == before[starts // PAGE]
            return result

        if "relative_base" in self.tables:
            start, size = self.tables["relative_base"]
            if not whole(np.array([start]), np.array([start + size]))[0]:
                return np.zeros(len(self.names), np.bool_)
        lost_tokens = ~whole(self.tokens[:-1], self.tokens[1:])
        start, _ = self.tables["names"]
        unknown = np.concatenate(([0], np.cumsum(lost_tokens[self.codes])))
        named = unknown[self.heads[1:] - start] == unknown[self.first_codes - start]
        start, size = self.tables["offsets" if "offsets" in self.tables else "addresses"]
        entry = size // len(self.names)
        places = start + np.arange(len(self.names), dtype=np.int64) * entry
        untouched: NDArray[np.bool_] = named & whole(self.heads[:-1], self.heads[1:]) & whole(places, places + entry)
        return untouched


def texts(kernel: kallsift.Kernel) -> list[bytes]:
    """Letter and name of each symbol, empty where unknown."""
    characters, bounds = kernel.symbols.characters.tobytes(), kernel.symbols.bounds.tolist()
    return [characters[a:b] for a, b in pairwise(bounds)]


def release(banner: str) -> tuple[int, int]:
    """The two first numbers of the release that a banner names."""
    major, minor = banner.removeprefix("Linux version ").split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit())[:2] or 0)


HEADING = """\
# Damage

Of the pages under the tables of a kernel a share is zeroed at random, and what is left is recovered. The sources are
the kernels' own images, so that the truth is what the undamaged image gives; that equals the running kernels' lists
(kernels.md). Written by `make damage`; the same numbers come out each time.

A symbol survives a trial if the bytes of its name, of all tokens in it, of its address and of relative_base, where its
address needs that, are all untouched. It counts as recovered if its name, its letter and its address come out. Whatever
else comes out, of any symbol, must be true as well, or is counted as wrong. Token table and index are 1.5 KB: where
their page is lost nothing survives, and there is nothing to recover in such a trial.

What nothing bears out is unknown. Where pages hold something else, a name is believed if its group ends at the next
marker, or if seqs_of_names or an export that is named after its symbol tells its index; an address, if three pages in
a row go on at each other, or even steps lead on over what is lost between them, or exports agree. A page that is none
of these may be a copy of another one that is lost. Where no page is seen to hold something else, those that are not
blank are believed as long as nothing contradicts them. If a walk from a marker comes to what cannot be, all names up
to the next marker are given up; up to 6.1, where no seqs_of_names can bring them back, those are all of them where no
marker is left.
"""

COLUMNS = """
| kernel | pages lost | trials | with survivors | symbols that survive | of those recovered | in the worst trial | \
trials with nothing recovered | wrong |
|---|--:|--:|--:|--:|--:|--:|--:|--:|"""


@dataclass(frozen=True)
class Plan:
    """Which trials to make.

    Attributes:
        images: names of kernels, and their images.
        percents: shares of the pages.
        trials: of each of these.
        results: where each trial's result is kept, one a line.
        resume: whether those that are there already are kept.
        filler: what stands on lost pages.
    """

    images: Mapping[str, Path]
    percents: Sequence[float]
    trials: int
    results: Path
    resume: bool = False
    filler: Filler = "zeros"


def carry_out(plan: Plan) -> int:
    """Makes the trials and prints a Markdown table; 1 if anything wrong was recovered.

    If it is interrupted, the table has what was done.
    """
    done = _kept(plan.results) if plan.resume else {}
    plan.results.parent.mkdir(parents=True, exist_ok=True)
    with plan.results.open("a" if plan.resume else "w") as lines, suppress(KeyboardInterrupt):
        for name, image in plan.images.items():
            source: Damaged | None = None
            for seed, percent in product(range(plan.trials), plan.percents):
                if (name, percent, seed) in done:
                    continue
                source = source or Damaged(image)
                trial = done[name, percent, seed] = source.trial(percent, seed, plan.filler)
                kept = {"kernel": name, "percent": percent, "seed": seed, **asdict(trial)}
                print(json.dumps(kept), file=lines, flush=True)
    print((HEADING if plan.filler == "zeros" else f"\n## Pages overwritten with {FILLERS[plan.filler]}\n") + COLUMNS)
    for name, percent in product(plan.images, plan.percents):
        made = [trial for (kernel, share, _), trial in done.items() if (kernel, share) == (name, percent)]
        print(_row(name, percent, made))
    return int(any(trial.wrong for trial in done.values()))


def _kept(results: Path) -> dict[tuple[str, float, int], Trial]:
    """Trials of an earlier run."""
    kept = {}
    for line in results.read_text().splitlines() if results.exists() else ():
        row = json.loads(line)
        key = (row.pop("kernel"), row.pop("percent"), row.pop("seed"))
        kept[key] = Trial(**row)
    return kept


def _row(name: str, percent: float, done: list[Trial]) -> str:
    """A row of the table."""
    alive = [one for one in done if one.survivors]
    survivors, recovered = sum(one.survivors for one in alive), sum(one.recovered for one in alive)
    worst = min((one.recovered / one.survivors for one in alive), default=0)
    cells = (
        name,
        f"{percent:g} %",
        str(len(done)),
        str(len(alive)),
        f"{survivors:,}",
        f"{recovered / max(1, survivors):.2%}",
        f"{worst:.2%}",
        str(sum(not one.recovered for one in alive)),
        str(sum(one.wrong for one in done)),
    )
    return f"| {' | '.join(cells)} |"
