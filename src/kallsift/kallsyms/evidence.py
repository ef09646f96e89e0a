"""Evidence: what was checked of a recovered kernel, and how each check came out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """How one check came out."""

    PASSED = "passed"
    FAILED = "failed"
    ABSENT = "absent"
    """The thing to check against is not in this source; says nothing for or against."""


@dataclass(frozen=True)
class Check:
    """One equation that a true table must fulfil.

    Attributes:
        name: short name of the equation, e.g. ``"markers"``.
        outcome: how it came out.
        detail: one sentence with the figures.
        essential: whether the table counts as unproven when this check fails.
        is_quoted: whether the one line that says why a kernel is not proven has the detail too.
    """

    name: str
    outcome: Outcome
    detail: str
    essential: bool = True
    is_quoted: bool = False

    @classmethod
    def that(cls, name: str, holds: bool, detail: str, *, essential: bool = True, is_quoted: bool = False) -> Check:
        """A check that passed if ``holds``, else failed."""
        return cls(name, Outcome.PASSED if holds else Outcome.FAILED, detail, essential, is_quoted)


def proven(checks: tuple[Check, ...]) -> bool:
    """Whether no essential check failed."""
    return not any(check.essential and check.outcome is Outcome.FAILED for check in checks)
