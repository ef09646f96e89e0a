"""Bound the work of searches in proportion to the size of the source.

A dump holds what anybody on the machine wrote into it. So each loop over what bytes say takes from a budget what its
next step costs before it makes the step; one that is refused is counted, and the loop ends with what it has.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

MIN_WORK, WORK_RATIO = 1 << 30, 4
"""Bytes that any source may cost to pass over, and how many times its own size besides."""

MIN_OUTPUT, OUTPUT_RATIO = 1 << 29, 4
"""Bytes that may be made out of any source, and how many times its own size besides."""

STEP = 1 << 13
"""What it costs to look at one thing by itself, as bytes that could be passed over meanwhile."""

STRETCH_STEP = 1 << 15
"""What it costs to begin with one run of memory, likewise; it may have to be decoded."""


@dataclass(eq=False)
class WorkBudget:
    """The work that a search may still do.

    Attributes:
        work: bytes that may still be passed over, each as often as it is.
        output: bytes that may still be made and kept.
        refused: how many of what was left out, by what it is.
        spent_work: bytes passed over.
        spent_output: bytes made.
        whole: the budget that this one is a share of; None if it is none.
    """

    work: int
    output: int
    refused: Counter[str] = field(default_factory=Counter)
    spent_work: int = 0
    spent_output: int = 0
    whole: WorkBudget | None = None

    @classmethod
    def of(cls, size: int) -> WorkBudget:
        """Return the budget of a source of so many bytes."""
        return cls(MIN_WORK + WORK_RATIO * size, MIN_OUTPUT + OUTPUT_RATIO * size)

    def share(self, parts: int) -> WorkBudget:
        """Return a budget of an equal part of the rest; its work is taken from this one too."""
        return WorkBudget(self.work // parts, self.output // parts, whole=self)

    def take(self, what: str, work: int = 0, output: int = 0, count: int = 1) -> bool:
        """Take the cost of one step; return False and count the step if it exceeds the rest.

        Args:
            what: is left out then, as messages call it.
            work: bytes that are passed over.
            output: bytes that are made.
            count: how many of it are left out.
        """
        if work > self.work or output > self.output:
            self.leave_out(what, count)
            return False
        if self.whole is not None and not self.whole.take(what, work, output, count):
            return False
        self.work -= work
        self.output -= output
        self.spent_work += work
        self.spent_output += output
        return True

    def spend(self, work: int) -> None:
        """Take what a step costs that is made whatever is left: at most as much as is."""
        self.take("", min(work, self.work))

    def leave_out(self, what: str, count: int = 1) -> None:
        """Count what is left out; of a share it is for its owner to say what comes of that."""
        self.refused[what] += count

    @property
    def left_out(self) -> str | None:
        """One line that says what was left out; None if nothing was."""
        parts = [f"{count:,} {what}" for what, count in sorted(self.refused.items()) if count]
        return (
            f"the limit of work for a source of this size was reached; left out: {', '.join(parts)}" if parts else None
        )
