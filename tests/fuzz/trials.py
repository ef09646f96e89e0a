"""Cases one after the other until the time is over: what all fuzzing here shares.

Whatever comes of a case must be an answer or an error of kallsift's own, in one line, within `PATIENCE`, and within
`ROOM`. Every case follows from the seed and its number, so that one that failed can be tried again by that.
"""

from __future__ import annotations

import random
import resource
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from kallsift.errors import KallsiftError

PATIENCE = 5.0
"""Seconds that one case may take."""
ROOM = 4 << 30
"""Bytes of address space."""
MOST_FAILURES = 10

HOSTILE = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)

FAILED = "FAILED"
"""How outcomes begin that must not be."""


@dataclass(frozen=True)
class Trials:
    """What is tried.

    Attributes:
        name: of what is damaged.
        attempt: damages and asks, by the case's number and its source of chance; says what came of it.
        keep: says where what a case was can be found, by its number.
        patience: seconds that one case may take.
        room: bytes of address space for all of it.
    """

    name: str
    attempt: Callable[[int, random.Random], str]
    keep: Callable[[int], str]
    patience: float = PATIENCE
    room: int = ROOM

    def run(self, seed: int, seconds: float, only: int | None = None) -> int:
        """Tries cases until the time is over, or only one; says what came of them, and returns the exit code."""
        resource.setrlimit(resource.RLIMIT_AS, (self.room, self.room))
        counts: Counter[str] = Counter()
        slowest, failures = 0.0, 0
        end = time.monotonic() + seconds
        for number in count(1) if only is None else [only]:
            if only is None and (time.monotonic() >= end or failures >= MOST_FAILURES):
                break
            started = time.monotonic()
            try:
                outcome = self.attempt(number, random.Random(f"{seed} {number}"))
            except Exception:
                outcome = FAILED
                traceback.print_exc()
            took = time.monotonic() - started
            slowest = max(slowest, took)
            if outcome.startswith(FAILED) or took > self.patience:
                failures += 1
                print(f"case {number} of seed {seed}: {outcome} after {took:.1f} s: {self.keep(number)}", flush=True)
            counts[outcome] += 1
        told = ", ".join(f"{times} {outcome}" for outcome, times in sorted(counts.items()))
        print(f"{self.name}: {counts.total()} cases: {told}; the slowest took {slowest:.2f} s")
        return 1 if failures else 0


def refusal(error: KallsiftError) -> str:
    """What an error of kallsift's own counts as."""
    return "refused" if str(error).isprintable() else f"{FAILED} with an error that is not one printable line"
