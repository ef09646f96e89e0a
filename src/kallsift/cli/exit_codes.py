"""Define the exit codes of the command."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kallsift.kernel.kernel import Kernel


class ExitCode(IntEnum):
    """All exit codes of ``kallsift``."""

    PROVEN = 0
    """Everything that was printed is proven."""
    NOTHING = 1
    """Nothing was recovered or found, or there was an error.

    The source is unreadable, the result could not be written, or a module is refused.
    """
    USAGE = 2
    """The command line makes no sense."""
    PARTIAL = 3
    """Something was printed, but it is incomplete or not proven."""
    DIFFERENT = 4
    """Two sources were compared, and differ.

    Code 1 would look like a source that cannot be read.
    """
    INTERRUPTED = 130
    """Stopped from the keyboard, as shells report it."""
    PIPE_CLOSED = 141
    """The reader of the output ended (``| head``), as shells report it of other tools."""


def verdict(kernels: Sequence[Kernel], whole: bool = True) -> ExitCode:
    """Return the exit code after these kernels were printed.

    ``whole`` is false if the output lacks a part of what they have.
    """
    whole = whole and not any(kernel.left_out or not kernel.has_readable_tables for kernel in kernels)
    return ExitCode.PROVEN if whole and all(kernel.proven for kernel in kernels) else ExitCode.PARTIAL
