"""Write evidence as plain lines, and the reasons against a proof in one line."""

from __future__ import annotations

from collections.abc import Iterator

from kallsift.kallsyms.evidence import Check, Outcome
from kallsift.kernel.kernel import Kernel
from kallsift.memory.memory import printable

MARKS = {Outcome.PASSED: "✓", Outcome.FAILED: "✗", Outcome.ABSENT: "–"}  # noqa: RUF001 - the dash is meant
"""Mark before each check, by its outcome."""


def evidence_lines(checks: tuple[Check, ...]) -> Iterator[str]:
    """Yield one line for each check: mark, name, finding."""
    for check in checks:
        yield f"{MARKS[check.outcome]} {check.name}: {printable(check.detail)}"


def doubts(kernel: Kernel) -> str:
    """Return why a kernel is not proven: its state and the failed checks.

    Example: ``state stale copy; failed: markers``.
    """
    failed = [
        printable(f"{check.name} ({check.detail})" if check.is_quoted else check.name)
        for check in kernel.evidence
        if check.essential and check.outcome is Outcome.FAILED
    ]
    return "; ".join([f"state {kernel.state.value}", *([f"failed: {', '.join(failed)}"] if failed else [])])
