"""Damage by lot: pages under the tables of a real kernel's image are zeroed, and what is recovered is counted.

The truth is what the undamaged image gives, which the identity tests hold against the running kernel's own list.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import kallsift
from kallsift.memory.model import Segment

PAGE = 4096


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
        self.memory = kallsift.open(image)
        self.truth = kallsift.recover(self.memory)
        places = [(table.name, int(table.physical), table.size) for table in self.truth.tables]
        # everything counts from the first page under the tables
        self.start = min(start for _, start, _ in places) // PAGE * PAGE
        self.tables = {name: (start - self.start, size) for name, start, size in places}
        self.pages = np.arange(max(start + size - 1 for start, size in self.tables.values()) // PAGE + 1)
        found = self.memory.segment_at(self.start + PAGE)
        assert found is not None
        self.segment = found

    @cached_property
    def names(self) -> list[bytes]:
        return texts(self.truth)

    @cached_property
    def heads(self) -> NDArray[np.int64]:
        """Place of each entry of the name stream, and of the end of the last one."""
        start, _ = self.tables["names"]
        data = self.memory.read(self.start + start, self.tables["names"][1]).tobytes()
        long = self.truth.banner is not None and release(self.truth.banner) >= (6, 1)
        heads, place = [], 0
        for _ in range(len(self.truth.symbols)):
            heads.append(start + place)
            length = data[place]
            if long and length & 0x80:
                place += 1
                length = length & 0x7F | data[place] << 7
            place += 1 + length
        return np.array([*heads, start + place], np.int64)

    def trial(self, percent: float, seed: int) -> Trial:
        """Zeroes a share of the pages, at least one, and recovers what is left."""
        chance = np.random.default_rng((seed, int(percent * 10)))
        lost = chance.choice(self.pages, max(1, round(len(self.pages) * percent / 100)), replace=False)
        data = self.segment.data.copy()
        for page in lost.tolist():
            start = self.start - self.segment.start + page * PAGE
            data[max(0, start) : start + PAGE] = 0
        others = [segment for segment in self.memory.segments if segment is not self.segment]
        segments = sorted([*others, Segment(self.segment.start, data)], key=lambda segment: segment.start)
        survivors = self._survivors(lost)
        try:
            kernel = kallsift.recover(replace(self.memory, segments=tuple(segments)))
        except kallsift.KallsiftError as error:
            return Trial(int(survivors.sum()), 0, 0, str(error))
        return self._judged(kernel, survivors)

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

    def _survivors(self, lost: NDArray[np.int64]) -> NDArray[np.bool_]:
        def whole(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
            gone = np.isin(self.pages, lost)
            before = np.concatenate(([0], np.cumsum(gone)))
            result: NDArray[np.bool_] = before[(ends - 1) // PAGE + 1] == before[starts // PAGE]
            return result

        def intact(name: str) -> bool:
            start, size = self.tables[name]
            return bool(whole(np.array([start]), np.array([start + size]))[0])

        if not intact("token_table") or ("relative_base" in self.tables and not intact("relative_base")):
            return np.zeros(len(self.names), np.bool_)
        start, size = self.tables["offsets" if "offsets" in self.tables else "addresses"]
        entry = size // len(self.names)
        places = start + np.arange(len(self.names), dtype=np.int64) * entry
        return whole(self.heads[:-1], self.heads[1:]) & whole(places, places + entry)


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

Pages under the tables of real kernels' images zeroed at random. A symbol survives if the bytes of its name, the token
table, the bytes of its address and relative_base do; it counts as recovered if its name and its address come out.
Written by `python -m tests.real damage`.

| kernel | pages zeroed | trials | symbols that survive | of those recovered | worst trial | nothing recovered | wrong |
|---|--:|--:|--:|--:|--:|--:|--:|"""


def table(images: list[tuple[str, Path]], percents: list[float], trials: int) -> int:
    """Prints a Markdown table; 1 if anything wrong was recovered."""
    print(HEADING)
    bad = 0
    for name, image in images:
        source = Damaged(image)
        for percent in percents:
            done = [source.trial(percent, seed) for seed in range(trials)]
            alive = [one for one in done if one.survivors]
            survivors, recovered = sum(one.survivors for one in alive), sum(one.recovered for one in alive)
            worst = min((one.recovered / one.survivors for one in alive if not one.failure), default=0)
            failed = sum(bool(one.failure) for one in alive)
            wrong = sum(one.wrong for one in done)
            bad |= wrong > 0
            share = f"{recovered / max(1, survivors):.2%}"
            print(
                f"| {name} | {percent:g} % | {trials} | {survivors:,} | {share} | {worst:.2%} | {failed} | {wrong} |",
                flush=True,
            )
    return bad
