"""Decode arrays of raw words into addresses, by each encoding that kernels have used.

Source: scripts/kallsyms.c and kernel/kallsyms.c of 2.6.12 to 7.3. Addresses never decrease in any release, so each
encoding maps raw words to numbers that never fall in a true array. Words relative to relative_base can also pass as
self-relative ones; the smallest step tells them apart, because some symbols always share an address.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.unsignedinteger]

WordFormat = tuple[int, str]
"""Size of an address in bytes, and the byte order, ``"<"`` or ``">"``."""

BEHIND_INDEX = 4
"""Size in bytes of an entry of arrays that lie behind the token index: releases that put the array there, and have
seqs_of_names, have no other size."""

ALIASES = 1 << 12
"""Words that are asked at once for neighbours with one address; the first ones of a kernel have some."""

MAX_EQUAL = 1024
"""Highest number of words, on average, that follow each other with one value. Kernels have far fewer, but padding is in
order too."""

_SIGN = np.uint32(1 << 31)


class Base(Enum):
    """The address that entries are relative to."""

    NONE = "nothing"
    RELATIVE_BASE = "relative_base"
    SELF = "the entry itself"


@dataclass(frozen=True)
class Encoding:
    """One way of storing addresses.

    Attributes:
        name: name that is shown to users.
        entry_size: bytes of an entry; 0 stands for the word size.
        base: what an entry is relative to.
        key: maps raw words (shape (n,)) to numbers that never fall in a true array, shape (n,).
        is_distinctive: tells, of words whose steps all fit, whether they can be of this encoding and of no other.
        decode: maps raw words and the address of the base to addresses modulo 2^64, shape (n,), uint64.
    """

    name: str
    entry_size: int
    base: Base
    key: Callable[[Words], Words | NDArray[np.int64]]
    is_distinctive: Callable[[Words], bool]
    decode: Callable[[Words, int], NDArray[np.uint64]]

    def order(self, words: Words) -> NDArray[np.bool_]:
        """Tell which steps between neighbouring raw words fit the encoding.

        The words have the shape (n,), the result the shape (n - 1,).
        """
        return _rises(self.key(words))

    def fits(self, words: Words) -> bool:
        """Tell whether words whose steps all fit can be of this encoding: they are distinctive, and no padding."""
        is_padding = MAX_EQUAL * np.count_nonzero(words[1:] != words[:-1]) < len(words)
        return not bool(is_padding) and self.is_distinctive(words)


def _rises(keys: Words | NDArray[np.int64]) -> NDArray[np.bool_]:
    result: NDArray[np.bool_] = keys[1:] >= keys[:-1]
    return result


def _grows(words: Words) -> bool:
    return bool(words[-1] > words[0])


def _percpu_key(words: Words) -> Words:
    """Map per-CPU offsets and offsets from the base to one rising sequence.

    Per-CPU offsets are not negative and come first; the other words are -1 - (address - base).
    """
    return np.where(words < _SIGN, words, ~words + _SIGN).astype(np.uint32)


def _percpu_decode(words: Words, base: int) -> NDArray[np.uint64]:
    wide = words.astype(np.uint64)
    return np.where(words < _SIGN, wide, np.uint64(base) + (~words).astype(np.uint32).astype(np.uint64))


def _self_relative_key(words: Words) -> NDArray[np.int64]:
    """Return each address, counted from the address of the first word."""
    signed = words.astype(np.uint32).view(np.int32).astype(np.int64)
    return signed + 4 * np.arange(len(words), dtype=np.int64)


def _has_aliases(words: Words) -> bool:
    """Return whether two neighbouring symbols have the same address.

    The first ones are compared first, because most arrays have such a pair there.
    """
    parts = (words[first : first + ALIASES + 1] for first in range(0, len(words) - 1, ALIASES))
    return any((np.diff(_self_relative_key(part)) == 0).any() for part in parts)


def _self_relative_decode(words: Words, place: int) -> NDArray[np.uint64]:
    signed = words.astype(np.uint32).view(np.int32).astype(np.int64)
    own = np.uint64(place) + np.arange(len(words), dtype=np.uint64) * np.uint64(4)
    return own + signed.view(np.uint64)


ENCODINGS = (
    Encoding(  # 7.0 and later
        name="self-relative",
        entry_size=4,
        base=Base.SELF,
        key=_self_relative_key,
        is_distinctive=_has_aliases,
        decode=_self_relative_decode,
    ),
    Encoding(  # 4.6 to 6.14 without KALLSYMS_ABSOLUTE_PERCPU, 6.15 to 6.19 everywhere
        name="offset from relative_base",
        entry_size=4,
        base=Base.RELATIVE_BASE,
        key=lambda words: words,
        is_distinctive=_grows,
        decode=lambda words, base: np.uint64(base) + words.astype(np.uint64),
    ),
    Encoding(  # 4.6 to 6.14, KALLSYMS_ABSOLUTE_PERCPU (x86-64 SMP)
        name="signed offset from relative_base, per-CPU absolute",
        entry_size=4,
        base=Base.RELATIVE_BASE,
        key=_percpu_key,
        is_distinctive=lambda words: bool((words >= _SIGN).any()) and not bool(_rises(words).all()),
        decode=_percpu_decode,
    ),
    Encoding(  # up to 4.5, and up to 6.10 without KALLSYMS_BASE_RELATIVE
        name="absolute",
        entry_size=0,
        base=Base.NONE,
        key=lambda words: words,
        is_distinctive=_grows,
        decode=lambda words, _: words.astype(np.uint64),
    ),
)


@dataclass(frozen=True, eq=False)
class AddressArray:
    """An array that can be the table of addresses.

    Attributes:
        offset: offset of the first entry in the segment's data.
        encoding: the encoding of its words.
        words: the raw entries, shape (n,), unsigned, native byte order.
        relative_base_offset: offset of the base in the segment's data; None where the encoding has none, or where the
            base was not found.
        relative_base: the base; None if the encoding has none, or if its value is unknown.
    """

    offset: int
    encoding: Encoding
    words: Words
    relative_base_offset: int | None = None
    relative_base: int | None = None

    @property
    def size(self) -> int:
        """Size of the array in bytes."""
        return self.words.nbytes

    @property
    def needs_base(self) -> bool:
        """Whether the array needs a base that is unknown."""
        return self.encoding.base is Base.RELATIVE_BASE and self.relative_base is None

    def addresses(self, place: int) -> NDArray[np.uint64]:
        """Return the symbols' addresses, shape (n,), uint64.

        Args:
            place: address of the array itself, in the address space of the result; only self-relative words need it.
        """
        base = place if self.encoding.base is Base.SELF else self.relative_base or 0
        return self.encoding.decode(self.words, base)
