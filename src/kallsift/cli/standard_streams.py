"""Give the process its three standard streams, even if it started without them.

If a shell closed a descriptor (``>&-``), the next file that is opened gets its number: messages would be written into a
source that is opened as number 2. So each closed one is opened before anything else.
"""

from __future__ import annotations

import os
import sys

DUMB_TERMINALS = ("dumb", "unknown")
"""Values of ``TERM`` for a terminal without escape sequences (terminfo(5))."""


def has_escapes() -> bool:
    """Tell whether the user's terminal understands escape sequences."""
    return os.environ.get("TERM") not in DUMB_TERMINALS


def fill_closed_streams() -> None:
    """Open the closed ones of descriptors 0 to 2, and the missing streams of `sys`.

    Standard input is then empty, and messages are lost. A result must not be lost: standard output is opened for
    reading, so that writing to it fails as it does on a closed one (``EBADF``).
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # the system takes the lowest free number, which is this one
            os.open(os.devnull, os.O_RDWR if descriptor == 2 else os.O_RDONLY)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
