"""What one source says of the symbols: which names and addresses it confirms, and which it contradicts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.evidence import Check, CheckId, Outcome


class Source(Enum):
    """What the kernel holds names or addresses in, beside the table."""

    SIBLINGS = "sibling symbols"
    EXPORTS = "exports twice"
    BTF = "BTF functions"
    POINTERS = "named pointers"
    STARTS = "function starts"


@dataclass(frozen=True, eq=False)
class Finding:
    """What one source says of a symbol table.

    Attributes:
        source: what was compared.
        names: shape (n,), bool; the names that it confirms.
        addresses: shape (n,), bool; the addresses that it confirms.
        contradictions: how many names and addresses it contradicts.
        first: the first of them, in words; empty if there is none.
        absent: why it says nothing; empty if it does.
    """

    source: Source
    names: NDArray[np.bool_]
    addresses: NDArray[np.bool_]
    contradictions: int = 0
    first: str = ""
    absent: str = ""

    @classmethod
    def none(cls, source: Source, count: int, why: str) -> Finding:
        """A source that says nothing of ``count`` symbols."""
        nothing = np.zeros(count, np.bool_)
        return cls(source, nothing, nothing, absent=why)

    @property
    def check(self) -> Check:
        """The finding as a piece of evidence."""
        name = CheckId(self.source.value)
        if self.absent:
            return Check(name, Outcome.ABSENT, self.absent)
        names, addresses = int(np.count_nonzero(self.names)), int(np.count_nonzero(self.addresses))
        if self.contradictions:
            noun = "symbol contradicts" if self.contradictions == 1 else "symbols contradict"
            return Check.that(name, False, f"{self.contradictions} {noun} them: {self.first}", is_quoted=True)
        return Check.that(name, True, f"{names:,} names and {addresses:,} addresses stand there a second time")


def summary(findings: tuple[Finding, ...], count: int) -> Check:
    """How many of ``count`` symbols stand in the kernel a second time, in any of the sources."""
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
