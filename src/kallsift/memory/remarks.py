"""Limit the number of remarks on one source, because a damaged file may cause thousands."""

from __future__ import annotations

from collections.abc import Sequence

MAX_REMARKS = 16


def limited(remarks: Sequence[str]) -> tuple[str, ...]:
    """Return the first `MAX_REMARKS` remarks, and the number of further ones."""
    rest = len(remarks) - MAX_REMARKS
    return (*remarks[:MAX_REMARKS], *([f"and {rest} more remarks of this kind"] if rest > 0 else []))


def reason(remarks: Sequence[str]) -> str:
    """Return the first remark in parentheses, as a reason; empty if there is none."""
    return f" ({remarks[0]})" if remarks else ""
