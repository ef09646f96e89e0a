"""How many remarks on one source are told in full: a damaged file may give cause for thousands."""

from __future__ import annotations

from collections.abc import Sequence

MAX_REMARKS = 16


def limited(remarks: Sequence[str]) -> tuple[str, ...]:
    """Return the first `MAX_REMARKS` remarks, and how many more there are."""
    rest = len(remarks) - MAX_REMARKS
    return (*remarks[:MAX_REMARKS], *([f"and {rest} remarks more of this kind"] if rest > 0 else []))
