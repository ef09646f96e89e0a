"""Read the bytes of pages in a QEMU migration stream, by the places that an index has of them."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from kallsift.compression.page_codecs import inflate

FILL, PACKED = -1, -512
"""Bases of places below 0, which are codes.

Such a place is `FILL` less the byte that fills the page, or `PACKED` less the place of the page's packed bytes.
"""


def read_pages(view: NDArray[np.uint8], size: int, places: NDArray[np.int64]) -> tuple[NDArray[np.uint8], list[int]]:
    """Return the bytes of pages that were sent, and indices of those that are broken.

    The bytes have shape (len(places) * size,). Pages that do not unpack are zero.

    Args:
        view: the whole stream, shape (n,), uint8.
        size: size of a page.
        places: place of each page, shape (m,).
    """
    lost: list[int] = []
    data = np.empty((len(places), size), np.uint8)
    filled = (places < 0) & (places > PACKED)
    data[filled] = (FILL - places[filled])[:, None]
    # Plain pages in adjacent records are copied at once.
    steps = np.diff(places)
    edges = np.flatnonzero((steps != size + 8) & (steps != size)) + 1
    for start, end in zip([0, *edges.tolist()], [*edges.tolist(), len(places)], strict=True):
        first = int(places[start])
        if first > 0:
            _copy_plain(view, places[start:end], data[start:end])
        elif first <= PACKED:
            for index in range(start, end):
                page = _unpacked(view, size, PACKED - int(places[index]))
                data[index] = 0 if page is None else page
                if page is None:
                    lost.append(index)
    return data.ravel(), lost


def _copy_plain(view: NDArray[np.uint8], places: NDArray[np.int64], data: NDArray[np.uint8]) -> None:
    """Copy plain pages that are each a page or a record apart to the rows of ``data``.

    Those with the same distance are copied at once.
    """
    start, size = 0, data.shape[1]
    while start < len(places):
        first, end = int(places[start]), start + 1
        step = int(places[end]) - first if end < len(places) else size
        others = np.flatnonzero(np.diff(places[start:]) != step)
        end = start + 1 + int(others[0]) if len(others) else len(places)
        data[start:end] = as_strided(view[first : first + size], (end - start, size), (step, 1), writeable=False)
        start = end


def _unpacked(view: NDArray[np.uint8], size: int, position: int) -> NDArray[np.uint8] | None:
    """Return a page that was packed; None if it does not unpack."""
    (packed,) = struct.unpack_from(">I", view.data, position)
    page = np.empty(size, np.uint8)
    try:
        written = inflate(view[position + 4 : position + 4 + packed].data, page.data)
    except zlib.error:
        return None
    return page if written == size else None
