"""What the command says besides its result: single lines on standard error, safe to show."""

from __future__ import annotations

import sys

from kallsift.memory.memory import printable


def note(text: str) -> None:
    """A line that was asked for."""
    print(printable(text), file=sys.stderr)


def warn(text: str) -> None:
    """A line that says why the result is to be doubted."""
    note(f"kallsift: warning: {text}")


def complain(text: str) -> None:
    """A line that says what failed and what to do."""
    note(f"kallsift: {text}")
