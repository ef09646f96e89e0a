"""What the command's exit code says."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kallsift.kernel.kernel import Kernel


class ExitCode(IntEnum):
    """Every code that ``kallsift`` ends with."""

    PROVEN = 0
    """All that was printed is proven."""
    NOTHING = 1
    """Nothing recovered or found, the source is unreadable, the result could not be written, or a module is refused."""
    USAGE = 2
    """The command line makes no sense."""
    PARTIAL = 3
    """Something was printed, but not all of it is there or proven."""
    DIFFERENT = 4
    """Two sources were compared, and differ; 1 would be taken for a source that cannot be read."""
    INTERRUPTED = 130
    """Stopped from the keyboard, as shells report it."""
    PIPE_CLOSED = 141
    """The reader of the output went away (``| head``), as shells report it of other tools."""


def verdict(kernels: Sequence[Kernel], whole: bool = True) -> ExitCode:
    """What may be said after printing these kernels, and, unless ``whole``, not all of what they have."""
    whole = whole and not any(kernel.left_out or not kernel.has_readable_tables for kernel in kernels)
    return ExitCode.PROVEN if whole and all(kernel.proven for kernel in kernels) else ExitCode.PARTIAL
