"""Print messages besides the result: single lines on standard error, safe to show."""

from __future__ import annotations

import sys

from kallsift.memory.memory import printable


def note(text: str) -> None:
    """Print a line that was asked for."""
    print(printable(text), file=sys.stderr)


def warn(text: str) -> None:
    """Print a line that says why the result may be wrong or incomplete."""
    note(f"kallsift: warning: {text}")


def complain(text: str) -> None:
    """Print a line that says what failed and what to do."""
    note(f"kallsift: {text}")
