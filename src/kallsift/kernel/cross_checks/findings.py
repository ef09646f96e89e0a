"""Hold the result of one source of copies: the names and addresses that it confirms, and those that it contradicts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.evidence import Check, CheckId, Outcome


@dataclass(frozen=True, eq=False)
class Finding:
    """The result of comparing one source with a symbol table.

    Attributes:
        source: the check that reports it.
        names: shape (n,), bool; the names that it confirms.
        addresses: shape (n,), bool; the addresses that it confirms.
        contradictions: number of names and addresses that it contradicts.
        first: a sentence about the first of them; empty if there is none.
        absent: the reason why nothing was compared; empty if something was.
    """

    source: CheckId
    names: NDArray[np.bool_]
    addresses: NDArray[np.bool_]
    contradictions: int = 0
    first: str = ""
    absent: str = ""

    @classmethod
    def none(cls, source: CheckId, count: int, why: str) -> Finding:
        """Return the finding of a source that tells nothing of ``count`` symbols."""
        nothing = np.zeros(count, np.bool_)
        return cls(source, nothing, nothing, absent=why)

    @property
    def check(self) -> Check:
        """The finding as a check for the evidence."""
        if self.absent:
            return Check(self.source, Outcome.ABSENT, self.absent)
        names, addresses = int(np.count_nonzero(self.names)), int(np.count_nonzero(self.addresses))
        if self.contradictions:
            noun = "symbol contradicts" if self.contradictions == 1 else "symbols contradict"
            return Check.that(self.source, False, f"{self.contradictions} {noun} them: {self.first}", is_quoted=True)
        return Check.that(self.source, True, f"{names:,} names and {addresses:,} addresses stand there a second time")


def summary(findings: tuple[Finding, ...], count: int) -> Check:
    """Return the check that counts the symbols that any of the sources confirms."""
    nothing = np.zeros(count, np.bool_)
    names, addresses = nothing.copy(), nothing.copy()
    for finding in findings:
        names |= finding.names
        addresses |= finding.addresses
    both = int(np.count_nonzero(names & addresses))
    detail = (
        f"{both:,} of {count:,} symbols are confirmed by something beside the table; "
        f"{np.count_nonzero(names):,} names and {np.count_nonzero(addresses):,} addresses are"
    )
    return Check(CheckId.HELD_TWICE, Outcome.PASSED if names.any() or addresses.any() else Outcome.ABSENT, detail)
