"""Damages the pages under a kernel's tables, and tells which symbols survive it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tests.oracle.writer import Blob

PAGE = 4096

Filler = Literal["zeros", "noise", "foreign", "own"]
"""What a page's bytes become: zeros, noise, another page of the same data, or one of the tables."""


@dataclass(frozen=True, eq=False)
class Damage:
    """Data that lost pages.

    Attributes:
        data: as long as before.
        lost: addresses of the pages.
        survivors: whether a symbol's name, the tokens in it and its address are untouched, shape (n,), bool.
        names: whether a symbol's name and the tokens in it are.
        addresses: whether a symbol's address is.
    """

    data: bytes
    lost: tuple[int, ...]
    survivors: NDArray[np.bool_]
    names: NDArray[np.bool_]
    addresses: NDArray[np.bool_]


def damage(
    blob: Blob, data: bytes, offset: int, address: int, share: float, seed: int, filler: Filler = "zeros"
) -> Damage:
    """Data less a share of the pages under a blob's tables, at least one.

    Args:
        blob: the tables.
        data: what they lie in.
        offset: of ``blob.data`` in ``data``.
        address: of the first byte of ``data``, which decides where pages begin.
        share: of the pages, from 0 to 1.
        seed: of the choice.
        filler: what is there instead.
    """
    chance = random.Random(f"{seed} {share} {filler}")
    under = sorted(
        {
            page
            for place in blob.tables.values()
            for page in range((address + offset + place.offset) // PAGE, -(-(address + offset + place.end) // PAGE))
        }
    )
    lost = sorted(chance.sample(under, max(1, round(share * len(under)))))
    changed = bytearray(data)
    for page in lost:
        low, high = max(page * PAGE - address, 0), min((page + 1) * PAGE - address, len(data))
        changed[low:high] = _filled(chance, data, high - low, filler, [other * PAGE - address for other in under])
    pages = tuple(page * PAGE for page in lost)
    names, addresses = survivors(blob, [page - address - offset for page in pages])
    return Damage(bytes(changed), pages, names & addresses, names, addresses)


def _filled(chance: random.Random, data: bytes, size: int, filler: Filler, own: Sequence[int]) -> bytes:
    match filler:
        case "zeros":
            return bytes(size)
        case "noise":
            return chance.randbytes(size)
        case "foreign":
            start = chance.randrange(max(1, len(data) - size)) // PAGE * PAGE
            return data[start : start + size].ljust(size, b"\0")
        case "own":
            start = max(0, chance.choice(own))
            return data[start : start + size].ljust(size, b"\0")


def survivors(blob: Blob, pages: Iterable[int]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each symbol's name and tokens, and its address, lie outside of pages at these offsets in the blob."""
    touched = np.zeros(len(blob.data), np.bool_)
    for page in pages:
        touched[max(page, 0) : max(page + PAGE, 0)] = True
    before = np.concatenate(([0], np.cumsum(touched)))
    names = blob.tables["names"]
    bounds = np.array([*blob.heads, names.end])
    whole = np.diff(before[bounds]) == 0
    if blob.tokens:
        whole &= _known_tokens(blob, touched)
    if blob.era.compression == "stems":
        whole &= _known_stems(blob, whole)
    array = blob.tables["addresses" if "addresses" in blob.tables else "offsets"]
    entries = np.linspace(array.offset, array.end, len(blob.symbols) + 1).astype(np.int64)
    known = np.diff(before[entries]) == 0
    if (base := blob.tables.get("relative_base")) is not None and touched[base.offset : base.end].any():
        known &= False
    return whole, known


def _known_tokens(blob: Blob, touched: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether all tokens of each name are untouched in the token table."""
    table = blob.tables["token_table"].offset
    ends = np.cumsum([len(token) + 1 for token in blob.tokens]) + table
    lost = np.array(
        [touched[end - len(token) - 1 : end].any() for token, end in zip(blob.tokens, ends.tolist(), strict=True)]
    )
    codes = np.frombuffer(blob.data, np.uint8)
    heads = np.array([*blob.heads, blob.tables["names"].end])
    bad = np.zeros(len(blob.data) + 1, np.int64)
    bad[1:] = np.cumsum(lost[codes])
    sizes = 1 + (blob.era.long_names & (codes[heads[:-1]] >= 0x80))
    result: NDArray[np.bool_] = bad[heads[1:]] == bad[heads[:-1] + sizes]
    return result


def _known_stems(blob: Blob, whole: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether the characters that each name takes from those before it are known."""
    stems = [blob.data[head] for head in blob.heads]
    result, known = np.zeros(len(stems), np.bool_), 0
    for index, (stem, untouched, symbol) in enumerate(zip(stems, whole.tolist(), blob.symbols, strict=True)):
        result[index] = untouched and stem <= known
        # how much of this name the next one can build on
        known = 0 if not untouched else len(symbol.name) if stem <= known else known
    return result
