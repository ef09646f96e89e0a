"""Bytes in arrays, eight at a time: short texts are compared and copied in a few passes over all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LANE = 8
"""Bytes that are looked at or copied at once."""


def lanes(text: NDArray[np.uint8], byte_order: str = "<") -> NDArray[np.uint64]:
    """Return the eight bytes from each place on as one number, zeros behind the end; shape (n + 1,).

    Args:
        text: shape (n,).
        byte_order: ``"<"`` where the first byte is to be the lowest, ``">"`` where numbers are to sort as texts do.
    """
    padded = np.append(text, np.zeros(LANE, np.uint8))
    # to be indexed, never taken from: that would copy all lanes
    return np.ndarray(len(text) + 1, f"{byte_order}u8", padded, strides=(1,))


def writable_lanes(text: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return a view that writes the eight bytes from any place on, as `lanes` gives them; shape (n - 7,)."""
    return np.ndarray(len(text) - LANE + 1, "<u8", text, strides=(1,))
