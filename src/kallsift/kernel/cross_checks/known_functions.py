"""Hold the functions that a list of the kernel gives, apart from its symbols."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct

MAX_ALIGNMENT = 16
"""Highest alignment of functions in bytes."""

MAX_MISALIGNED = 0.01
"""Highest share of functions, such as those in assembler, that do not follow the alignment."""


@dataclass(frozen=True, eq=False)
class KnownFunctions:
    """Functions that a list of the kernel gives, as offsets in the code, each ascending.

    Attributes:
        named: functions at which a symbol is.
        unnamed: offsets at which the others can begin.
    """

    named: NDArray[np.int64]
    unnamed: NDArray[np.int64]

    @property
    def alignment(self) -> int:
        """The power of two at whose multiples almost all functions begin."""
        size, most = 1, MAX_MISALIGNED * len(self.named)
        while size < MAX_ALIGNMENT and np.count_nonzero(self.named % (2 * size)) < most:
            size *= 2
        return size

    def with_others(self, others: KnownFunctions) -> KnownFunctions:
        """Return what either of two lists gives."""
        return KnownFunctions(
            distinct(np.concatenate((self.named, others.named))),
            distinct(np.concatenate((self.unnamed, others.unnamed))),
        )


NO_FUNCTIONS = KnownFunctions(np.empty(0, np.int64), np.empty(0, np.int64))
