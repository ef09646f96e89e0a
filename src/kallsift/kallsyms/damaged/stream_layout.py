"""Hold the extent of a damaged name stream, its number of entries, and its surviving markers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.format.markers import GROUP


@dataclass(frozen=True, eq=False)
class NameStreamLayout:
    """The layout of a damaged name stream.

    Attributes:
        offset: offset of the first entry, or, if nothing tells that, of the lost page that it lies on.
        count: number of entries.
        count_offset: offset of the word with the count; None if it is lost.
        two_byte_lengths: whether a length may take two bytes.
        marked: whether any marker survives.
        numbers: numbers of the surviving markers, shape (k,).
        values: those markers, shape (k,).
        width: bytes of a marker.
        end: offset at which the markers begin; if none survives, the offset at which they would begin if nothing lay
            between them and the token table.
    """

    offset: int
    count: int
    count_offset: int | None
    two_byte_lengths: bool
    marked: bool
    numbers: NDArray[np.int64]
    values: NDArray[np.int64]
    width: int
    end: int

    @property
    def size(self) -> int:
        """Highest possible size of the stream in bytes."""
        return self.end - self.offset

    @property
    def markers(self) -> int:
        """Number of markers, lost ones included."""
        return -(-self.count // GROUP)

    @property
    def markers_end(self) -> int:
        """Offset behind the markers."""
        return self.end + self.markers * self.width
