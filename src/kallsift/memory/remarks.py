"""Remarks on one source: how many are told in full, for a damaged file may give cause for thousands."""

from __future__ import annotations

from collections.abc import Sequence

MAX_REMARKS = 16


def limited(remarks: Sequence[str]) -> tuple[str, ...]:
    """Return the first `MAX_REMARKS` remarks, and how many more there are."""
    rest = len(remarks) - MAX_REMARKS
    return (*remarks[:MAX_REMARKS], *([f"and {rest} remarks more of this kind"] if rest > 0 else []))


def reason(remarks: Sequence[str]) -> str:
    """Return the first remark as the reason behind what a source lacks; empty where there is none."""
    return f" ({remarks[0]})" if remarks else ""
