"""Rank the readings of one kernel's tables that are in order; each is a kernel with the evidence for it.

A reading counts by what it proves. Another word size is another reading: if nothing tells which of two word sizes is
right, the kernel is not called proven.
"""

from __future__ import annotations

from dataclasses import replace

from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kernel.kernel import Kernel, State
from kallsift.kernel.recovery.interpretations import LANDMARKS

Merit = tuple[bool, bool, int, int, int]


class Ranking:
    """The best reading for each word size."""

    def __init__(self, word_size: int | None = None) -> None:
        """Start without readings.

        Args:
            word_size: bytes of a word that a user gives, which decides between two; None if no user does.
        """
        self._given = word_size
        self._best: dict[int, tuple[Merit, Kernel]] = {}

    def add(self, kernel: Kernel, hits: int) -> bool:
        """Keep one more reading if it is the best; tell whether no other one is needed.

        Args:
            kernel: the reading.
            hits: its distinct pointers to symbols, for readings that nothing else distinguishes.
        """
        size, merit = kernel.symbols.word_size, (*_merit(kernel), hits)
        if size not in self._best or merit > self._best[size][0]:
            self._best[size] = merit, kernel
        return kernel.proven and is_seen(kernel) and _has_known_words(kernel) and self._given in (None, size)

    def has_proven(self, word_size: int) -> bool:
        """Tell whether a reading with this word size is proven."""
        return word_size in self._best and self._best[word_size][1].proven

    def best(self) -> Kernel | None:
        """Return the best reading, or None.

        If a word size was given, only readings of that size count. The reading is not proven if one of another word
        size is equally well confirmed.
        """
        if not self._best or (self._given is not None and self._given not in self._best):
            return None
        size = self._given or max(self._best, key=lambda size: self._best[size][0])
        kernel = self._best[size][1]
        others = [other for width, (_, other) in self._best.items() if width != size]
        if _has_known_words(kernel) or not any(other.proven >= kernel.proven for other in others):
            return kernel
        choice = (
            f"--word-size {8 * size} was given"
            if self._given
            else f"give --word-size {8 * others[0].symbols.word_size}"
        )
        detail = f"the source fits words of {8 * size} bits and of {8 * others[0].symbols.word_size}; {choice}"
        return replace(kernel, evidence=(*kernel.evidence, Check.that(CheckId.WORD_SIZE, False, detail)))


def is_seen(kernel: Kernel) -> bool:
    """Tell whether landmarks were found where symbols say.

    They are missing for an array that begins one entry too late.
    """
    return any(check.name in LANDMARKS and check.outcome is Outcome.PASSED for check in kernel.evidence)


def _has_known_words(kernel: Kernel) -> bool:
    """Tell whether the word size is known, or no other word size was possible."""
    return not any(check.name == CheckId.WORD_SIZE and check.outcome is Outcome.ABSENT for check in kernel.evidence)


def _merit(kernel: Kernel) -> tuple[bool, bool, int, int]:
    """Return the merits of a kernel, the most important first.

    They are: a proof, a running kernel, the number of checks that passed, and the number of those that failed, negated.
    """
    outcomes = [check.outcome for check in kernel.evidence]
    passed, failed = outcomes.count(Outcome.PASSED), outcomes.count(Outcome.FAILED)
    return kernel.proven, kernel.state is State.RUNNING, passed, -failed
