"""Token compression: the most frequent pair of codes becomes a new code, from 255 downward.

The characters that occur stand for themselves. Codes for which no pair is left have the empty token. Kernels before
2.6.14 chose longer strings by another rule, of which only the result's form is repeated here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_SEPARATOR = 256

Compressed = tuple[tuple[bytes, ...], tuple[bytes, ...]]
"""256 tokens, and the codes of each text."""

LONGEST = 11
"""Codes of a token at most before 2.6.14."""

_SUBSTRINGS = 96
_SAMPLE = 1 << 14


@lru_cache(maxsize=64)
def compress(texts: tuple[bytes, ...]) -> Compressed:
    """Compresses texts with one table.

    Args:
        texts: without zero bytes.

    Returns:
        The 256 tokens, and the codes of each text.
    """
    return _by_pairs(_characters(texts), _joined(texts))


@lru_cache(maxsize=64)
def compress_substrings(texts: tuple[bytes, ...]) -> Compressed:
    """Like ``compress``, but the first codes go to strings of up to eleven characters."""
    tokens = _characters(texts)
    free = [code for code in range(255, -1, -1) if not tokens[code]]
    counts: Counter[bytes] = Counter()
    for text in texts[: _SAMPLE // 16]:
        for size in range(3, LONGEST + 1):
            counts.update(text[start : start + size] for start in range(len(text) - size + 1))
    gain = sorted(((len(part) - 1) * (count - 1), part) for part, count in counts.items() if count > 1)
    chosen = [part for _, part in gain[::-1]][: min(_SUBSTRINGS, len(free))]
    codes = _joined(texts)
    for code, part in zip(free, chosen, strict=False):
        tokens[code] = part
        codes = _parts_replaced(codes, part, code)
    return _by_pairs(tokens, codes)


def _characters(texts: Sequence[bytes]) -> list[bytes]:
    """A table of the characters that occur."""
    tokens = [b""] * 256
    for character in set(b"".join(texts)):
        tokens[character] = bytes([character])
    return tokens


def _joined(texts: Sequence[bytes]) -> NDArray[np.int64]:
    """All characters, with a separator behind each text."""
    lengths = np.array([len(text) for text in texts], np.int64)
    codes = np.full(int(lengths.sum()) + len(texts), _SEPARATOR, np.int64)
    inside = np.ones(len(codes), np.bool_)
    inside[np.cumsum(lengths + 1) - 1] = False
    codes[inside] = np.frombuffer(b"".join(texts), np.uint8)
    return codes


def _by_pairs(tokens: list[bytes], codes: NDArray[np.int64]) -> Compressed:
    """Gives the free codes to pairs, the most frequent first.

    Of equally frequent ones the first by the right code, then by the left. Overlapping pairs count each.
    """
    for code in range(255, -1, -1):
        if tokens[code]:
            continue
        counts = np.bincount(codes[1:] * 257 + codes[:-1], minlength=257 * 257).reshape(257, 257)[:256, :256]
        right, left = divmod(int(counts.argmax()), 256)
        if not counts[right, left]:
            break
        tokens[code] = tokens[left] + tokens[right]
        codes = _replaced(codes, left, right, code)
    ends = np.flatnonzero(codes == _SEPARATOR)
    starts = [0, *(ends[:-1] + 1).tolist()]
    stream = np.where(codes == _SEPARATOR, 0, codes).astype(np.uint8).tobytes()
    return tuple(tokens), tuple(stream[a:b] for a, b in zip(starts, ends.tolist(), strict=True))


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


def _parts_replaced(codes: NDArray[np.int64], part: bytes, code: int) -> NDArray[np.int64]:
    """Every ``part`` as ``code``; of those that overlap, the first."""
    if len(codes) < len(part):
        return codes
    places = np.flatnonzero(
        np.logical_and.reduce([codes[i : len(codes) - len(part) + 1 + i] == c for i, c in enumerate(part)])
    )
    kept, last = [], -len(part)
    for place in places.tolist():
        if place >= last + len(part):
            kept.append(place)
            last = place
    starts = np.array(kept, np.int64)
    codes = codes.copy()
    codes[starts] = code
    return np.delete(codes, (starts[:, None] + np.arange(1, len(part))).ravel())


def expand(tokens: Sequence[bytes], codes: bytes) -> bytes:
    """The text that codes stand for."""
    return b"".join(tokens[code] for code in codes)
