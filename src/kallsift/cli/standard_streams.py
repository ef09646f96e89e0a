"""Give the process its three standard streams, whichever of them it was started without.

A descriptor that a shell closed (``>&-``) is the next one that any file gets: a source that is opened as number 2 would
have the messages written into it. So each closed one is opened before anything else is.
"""

from __future__ import annotations

import os
import sys

DUMB_TERMINALS = ("dumb", "unknown")
"""Values of ``TERM`` that stand for a terminal without escape sequences (terminfo(5))."""


def has_escapes() -> bool:
    """Whether a terminal of this user's understands escape sequences."""
    return os.environ.get("TERM") not in DUMB_TERMINALS


def fill_closed_streams() -> None:
    """Open what is closed of descriptors 0 to 2, and the streams of `sys` that Python left out for them.

    Standard input is then empty, and messages go nowhere. A result must not go nowhere: standard output is opened
    for reading, so that writing to it fails as it does on a closed one (``EBADF``).
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # the lowest free number is taken, which is this one
            os.open(os.devnull, os.O_RDWR if descriptor == 2 else os.O_RDONLY)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
