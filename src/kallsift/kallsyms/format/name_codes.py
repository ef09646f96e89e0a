"""Check that names are compressed as the kernel's generator compresses them.

scripts/kallsyms.c replaces pairs of codes, in every name and from left to right, by the free codes from 255 downwards
(since 2.6.14, commit b3dbb4ecd467). So a text has one encoding only: each token is the pair that two earlier tokens
make, and no two neighbouring codes of a name are what the generator would have written otherwise. A changed code or a
changed token mostly breaks that. Kernels up to 2.6.13 chose their tokens by another rule, and are not checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kallsyms.format.name_stream import Names
from kallsift.kallsyms.format.token_table import CODES, TokenTable

MAX_EXCEPTIONS = 0.01
"""Share of neighbouring codes above which the names are taken to follow another rule and not to be damaged."""

MIN_EXCEPTIONS = 8
"""Number of tokens, and of pairs of codes, that may break the rule in small tables before another rule is assumed."""

CHUNK = 1 << 15
"""Number of codes that are checked at once; it keeps the temporary arrays in the cache."""


@dataclass(frozen=True, eq=False)
class Merges:
    """The pairs that the generator merged.

    Attributes:
        left: shape (256,), int16; the first code of the pair that each code stands for; a character stands for itself.
        right: shape (256,), int16; the second code of that pair.
        rank: shape (256,), int16; 0 for characters; a pair that was merged later has a higher rank.
        merged: shape (256, 256), int16; the rank of the code that a pair of codes became; 0 for none.
        empty: shape (256,), bool; codes without a token, which no name uses.
        inconsistent: codes whose token is no pair of earlier ones.
    """

    left: NDArray[np.int16]
    right: NDArray[np.int16]
    rank: NDArray[np.int16]
    merged: NDArray[np.int16]
    empty: NDArray[np.bool_]
    inconsistent: tuple[int, ...]


def compression_check(data: NDArray[np.uint8], names: Names, tokens: TokenTable) -> Check:
    """Check that each name is the only encoding of its text.

    Args:
        data: the segment's bytes.
        names: the name stream, all of it intact.
        tokens: its token table, with all 256 tokens.
    """
    if not tokens.stored or tokens.known is not None:
        return Check(CheckId.NAME_CODES, Outcome.ABSENT, "the names are not compressed, or not all tokens are known")
    merges = token_merges(tokens)
    made = int(np.count_nonzero(merges.rank)) + len(merges.inconsistent)
    places = _broken_pairs(data, names, canonical_pairs(merges))
    allowed = max(MIN_EXCEPTIONS, MAX_EXCEPTIONS * int(names.lengths.sum()))
    if len(places) > allowed or len(merges.inconsistent) > max(MIN_EXCEPTIONS, made // 4):
        return Check(
            CheckId.NAME_CODES, Outcome.ABSENT, "the names are compressed by another rule (normal up to 2.6.13)"
        )
    if merges.inconsistent:
        code, count = merges.inconsistent[0], len(merges.inconsistent)
        first = bytes(tokens.strings[tokens.starts[code] : tokens.starts[code + 1] - 1]).decode("latin-1")
        detail = f"{count} of {made} tokens are no pairs of others, the first is {first!r}"
        return Check.that(CheckId.NAME_CODES, False, detail, is_quoted=True)
    if len(places):
        indices = np.unique(np.searchsorted(names.starts, places, "right") - 1)
        detail = f"{len(indices)} names are not as the generator encodes any, the first is of line {indices[0] + 1}"
        return Check.that(CheckId.NAME_CODES, False, detail, is_quoted=True)
    return Check.that(CheckId.NAME_CODES, True, f"all {len(names.starts)} names are the only encoding of their text")


def token_merges(tokens: TokenTable) -> Merges:
    """Find the pair of codes that the generator made each token of."""
    text = tokens.strings.tobytes()
    bounds = tokens.starts.tolist()
    strings = [text[bounds[code] : bounds[code + 1] - 1] for code in range(CODES)]
    left = np.arange(CODES, dtype=np.int16)
    right, rank, merged = left.copy(), np.zeros(CODES, np.int16), np.zeros((CODES, CODES), np.int16)
    pairs: dict[tuple[int, int], int] = {}
    inconsistent: list[int] = []
    for code in range(CODES - 1, -1, -1):
        string = strings[code]
        if not string or string == bytes([code]):
            continue
        parts = _encoded(string, pairs)
        if len(parts) != 2 or any(strings[character] != bytes([character]) for character in string):
            inconsistent.append(code)
            continue
        first, second = parts
        pairs[first, second] = code
        left[code], right[code], rank[code] = first, second, CODES - code
        merged[first, second] = CODES - code
    return Merges(left, right, rank, merged, tokens.lengths == 0, tuple(inconsistent))


def _encoded(string: bytes, pairs: dict[tuple[int, int], int]) -> list[int]:
    """Encode a text with the known pairs, those with the highest code first."""
    codes = list(string)
    while len(codes) > 1:
        # the generator gives the highest code first, and replaces the leftmost of equal pairs first
        best = max((pairs.get(pair, -1), -place) for place, pair in enumerate(pairwise(codes)))
        if best[0] < 0:
            break
        codes[-best[1] : 2 - best[1]] = [best[0]]
    return codes


def canonical_pairs(merges: Merges) -> NDArray[np.bool_]:
    """Tell which pairs of neighbouring codes the generator can leave.

    The merges along the seam of a pair are undone, the last one first. The generator leaves the pair if no merge across
    the seam would have come before those that made its two sides. The result has the shape (256, 256), bool.
    """
    left, right, rank, merged = merges.left, merges.right, merges.rank, merges.merged.ravel()
    result: NDArray[np.bool_] = (merged == 0) & ~(merges.empty[:, None] | merges.empty[None, :]).ravel()
    # a pair of two characters needs no walk: it is left if it was not merged
    first, second = np.nonzero((rank[:, None] > 0) | (rank[None, :] > 0))
    active = first * CODES + second
    keep = result[active]
    active, first, second = active[keep], first[keep], second[keep]
    while len(active):
        # undo the side that was merged last; of two sides of the same rank, the left one was merged first
        older, newer = rank.take(second), rank.take(first)
        undo_first = newer > older
        limit = np.where(undo_first, newer, older + 1)
        first, second = np.where(undo_first, right.take(first), first), np.where(undo_first, second, left.take(second))
        across = merged.take(first * CODES + second)
        broken = (across > 0) & (across < limit)
        result[active[broken]] = False
        on = ~broken & (np.maximum(rank.take(first), rank.take(second)) > 0)
        active, first, second = active[on], first[on], second[on]
    grid: NDArray[np.bool_] = result.reshape(CODES, CODES)
    return grid


def _broken_pairs(data: NDArray[np.uint8], names: Names, canonical: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the offsets of codes that the generator would not leave.

    That is, not before the code that follows in the same name.
    """
    codes = data[names.offset : names.end]
    broken = ~canonical.ravel()
    found: list[NDArray[np.int64]] = []
    for low in range(0, len(codes) - 1, CHUNK):
        part = codes[low : low + CHUNK + 1].astype(np.uint16)
        pairs = part[:-1] << 8
        pairs |= part[1:]
        # all pairs are in bounds; mode "wrap" avoids the check of each index
        found.append(np.flatnonzero(broken.take(pairs, mode="wrap")) + (low + names.offset))
    places = np.concatenate(found) if found else np.empty(0, np.int64)
    entries = np.searchsorted(names.starts, places, "right") - 1
    starts, ends = names.starts[np.maximum(entries, 0)], (names.starts + names.lengths)[np.maximum(entries, 0)]
    inside = (entries >= 0) & (places >= starts) & (places + 1 < ends)
    return places[inside]
