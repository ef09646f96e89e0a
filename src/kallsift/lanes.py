"""Compare and copy short texts in arrays, eight bytes at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LANE = 8
"""Bytes that are looked at or copied at once."""


def lanes(text: NDArray[np.uint8], byte_order: str = "<") -> NDArray[np.uint64]:
    """Return the eight bytes at each offset as a number, shape (n + 1,).

    Bytes beyond the end are zeros.

    Args:
        text: shape (n,).
        byte_order: ``"<"`` where the first byte is to be the lowest, ``">"`` where numbers are to sort as texts do.
    """
    padded = np.append(text, np.zeros(LANE, np.uint8))
    # to be indexed, never taken from: that would copy all lanes
    return np.ndarray(len(text) + 1, f"{byte_order}u8", padded, strides=(1,))


def writable_lanes(text: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return a view that writes the eight bytes at any offset, shape (n - 7,).

    The numbers are those of `lanes`.
    """
    return np.ndarray(len(text) - LANE + 1, "<u8", text, strides=(1,))
