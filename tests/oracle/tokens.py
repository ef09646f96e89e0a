"""Token compression: the most frequent pair of codes becomes a new code, from 255 downward.

The characters that occur stand for themselves. Codes for which no pair is left have the empty token.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_SEPARATOR = 256


@lru_cache(maxsize=64)
def compress(texts: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Compresses texts with one table.

    Args:
        texts: without zero bytes.

    Returns:
        The 256 tokens, and the codes of each text.
    """
    tokens = [b""] * 256
    for character in set(b"".join(texts)):
        tokens[character] = bytes([character])
    codes = np.array([code for text in texts for code in (*text, _SEPARATOR)], np.int64)
    for code in range(255, -1, -1):
        if tokens[code]:
            continue
        inside = (codes[:-1] < _SEPARATOR) & (codes[1:] < _SEPARATOR)
        counts = np.bincount((codes[:-1] * 256 + codes[1:])[inside], minlength=1)
        best = int(counts.argmax())
        if counts[best] < 2:
            break
        left, right = divmod(best, 256)
        tokens[code] = tokens[left] + tokens[right]
        codes = _replaced(codes, left, right, code)
    ends = np.flatnonzero(codes == _SEPARATOR)
    starts = [0, *(ends[:-1] + 1)]
    return tuple(tokens), tuple(bytes(codes[a:b].tolist()) for a, b in zip(starts, ends, strict=True))


def _replaced(codes: NDArray[np.int64], left: int, right: int, code: int) -> NDArray[np.int64]:
    """Every ``left, right`` as ``code``; of those that overlap (a code doubled), the first, the third ..."""
    places = np.flatnonzero((codes[:-1] == left) & (codes[1:] == right))
    if left == right:
        fresh = np.diff(places, prepend=-2) != 1
        run_starts = places[fresh][np.cumsum(fresh) - 1]
        places = places[(places - run_starts) % 2 == 0]
    codes = codes.copy()
    codes[places] = code
    return np.delete(codes, places + 1)


def expand(tokens: Sequence[bytes], codes: bytes) -> bytes:
    """The text that codes stand for."""
    return b"".join(tokens[code] for code in codes)
