"""Check names of uncertain index by pointers that are symbols: the word at `__ksymtab_X` points to X.

Where all exports lie in one section sorted by name, as in 7.1 and later, their ranks in seqs_of_names rise with their
indices, one by one, so the ranks fit any index as well as the next one. The pointers lead to the right symbols at one
index only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.format.address_encodings import WordFormat, Words
from kallsift.memory.segments import BytesSegment

LEADING = ((b"__ksymtab_", b""), (b"__tracepoint_ptr_", b"__tracepoint_"))
"""Prefixes of the names of pointers, and the prefixes of their targets' names: entries of the export table
(include/linux/export-internal.h), whose first field is a pointer, and of the table of tracepoints
(include/linux/tracepoint.h), which have no other field."""

_TARGETS = dict(LEADING)
_POINTER = re.compile(b"|".join(map(re.escape, _TARGETS)))

DISTANCE = 4
"""Bytes of a pointer that is relative to its own address, as on most machines since 4.19 (commit 7290d5809571); on
others a pointer is a word."""

FIELDS = (1, 2, 3)
"""Possible numbers of fields of an entry, all of one size; the second field of an export leads to its name, and, since
5.4, a third to its namespace."""

LEAST = 16
"""Lowest number of pointers that must lead to the right symbols."""

AGREEING = 0.9
"""Lowest share of the pointers that must agree: a name can have another symbol that is lost, and per-CPU symbols have
several addresses."""

STRAY = 3
"""Number of neighbouring pointers that lead elsewhere and so show foreign bytes among the names; fewer are chance."""

TRIED = 4
"""Highest number of runs of pointers that are looked for in memory."""

NEIGHBOURS = 8
"""Number of known pointers of each run, all of which must be found."""

MOST_PLACES = 4
"""Highest number of places of a run at which all known pointers are checked; a true run has one place only."""


@dataclass(frozen=True, eq=False)
class SymbolNames:
    """Names of all symbols, and what they say of pointers, which is found out once.

    Attributes:
        texts: the names without their letters; empty where unknown.
    """

    texts: Sequence[bytes]

    @cached_property
    def pointers(self) -> list[tuple[int, bytes]]:
        """The number of each name that is a pointer's, and the name of what that leads to."""
        return _pointer_names(self.texts)

    @cached_property
    def repeated(self) -> frozenset[bytes]:
        """The names that more than one symbol has, and the empty one."""
        return frozenset(name for name, times in Counter(self.texts).items() if times > 1) | {b""}


@dataclass(frozen=True, eq=False)
class NamedPointers:
    """The addresses that the words at symbols' addresses point to, read as if each were a pointer.

    Attributes:
        targets: address of each name that exactly one known symbol has.
        leads_to: shape (n,), the addresses pointed to, modulo the size of a pointer.
        there: shape (n,), whether the word was read.
    """

    targets: dict[bytes, int]
    leads_to: Words
    there: NDArray[np.bool_]

    @classmethod
    def find(
        cls,
        segment: BytesSegment,
        words: WordFormat,
        names: SymbolNames,
        addresses: NDArray[np.uint64],
        known: NDArray[np.bool_],
        likely: NDArray[np.bool_] | None = None,
    ) -> NamedPointers | None:
        """Find the pointers of the kernel that has these symbols.

        None if too few are known, or if they do not lie in the segment.

        Args:
            segment: memory in which the symbols lie as far from one another as their addresses do.
            words: size and byte order of an address.
            names: names of all symbols.
            addresses: addresses of all symbols, shape (n,).
            known: mask of the known addresses, shape (n,).
            likely: mask of the addresses at which pointers are read, those included that may be wrong; None for
                ``known``.
        """
        word_size, byte_order = words
        targets = _addresses_of_single(names, addresses, known)
        numbers, wanted = _wanted(names.pointers, targets)
        numbers, wanted = numbers[known[numbers]], wanted[known[numbers]]
        if len(numbers) < LEAST:
            return None
        apart, times_apart = np.unique(np.diff(addresses[numbers]), return_counts=True)
        step = int(apart[times_apart.argmax()])
        for size, relative in ((DISTANCE, True), (word_size, False)):
            if step not in [size * fields for fields in FIELDS]:
                continue
            # pointers are aligned in memory, wherever the segment begins
            first = -segment.start % size
            raw = segment.data[first : first + (len(segment.data) - first) // size * size]
            cells = np.ascontiguousarray(raw).view(f"{byte_order}u{size}").astype(f"u{size}", copy=False)
            for shift in _shifts(cells, addresses[numbers], wanted, relative=relative):
                leads_to, there = _read(cells, addresses, shift, relative=relative)
                there &= known if likely is None else likely
                # an image's loader may still have to add the same number to all of them
                added = (leads_to[numbers] - wanted.astype(cells.dtype))[there[numbers]]
                values, counts = np.unique(added, return_counts=True)
                if len(added) and counts.max() >= max(LEAST, AGREEING * len(added)):
                    return cls(targets, leads_to - values[counts.argmax()], there)
        return None

    def holds(self, indices: NDArray[np.int64], names: Sequence[bytes]) -> NDArray[np.bool_]:
        """Tell which names are those of pointers that lead to the right symbol, by the pointer at each name's index."""
        numbers, wanted = _wanted(_pointer_names(names), self.targets)
        result = np.zeros(len(names), np.bool_)
        at = indices[numbers]
        result[numbers] = self.there[at] & (self.leads_to[at] == wanted.astype(self.leads_to.dtype))
        return result

    def pairs(self, names: SymbolNames) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the indices of symbols that are pointers and of the symbols that their names mean, shapes (m,)."""
        there = self.there.tolist()
        wanted = [(number, target) for number, target in names.pointers if target and there[number]]
        # only those that are led to are looked for among all names
        sought = {target for _, target in wanted}
        sought_at = [(name, number) for number, name in enumerate(names.texts) if name in sought]
        own = {name: number for name, number in sought_at if name not in names.repeated}
        found = [(number, own[target]) for number, target in wanted if target in own]
        pointers, symbols = np.array(found, np.int64).reshape(-1, 2).T
        return pointers, symbols

    def first_index(self, names: Sequence[bytes], low: int, high: int) -> int | None:
        """Return the index of the first of some neighbouring names, or None.

        None where pointers do not tell it.

        Args:
            names: names of neighbouring symbols; empty where unknown.
            low: the lowest index that the first of them can have.
            high: the highest index that the last of them can have.
        """
        numbers, wanted = _wanted(_pointer_names(names), self.targets)
        slots = low + np.flatnonzero(self.there[low : high + 1])
        if len(numbers) < LEAST or not len(slots):
            return None
        slots = slots[np.argsort(self.leads_to[slots], kind="stable")]
        places = np.searchsorted(self.leads_to[slots], wanted.astype(self.leads_to.dtype))
        firsts, votes = np.unique(slots[np.minimum(places, len(slots) - 1)] - numbers, return_counts=True)
        first = int(firsts[votes.argmax()])
        if first < low or first + len(names) - 1 > high:
            return None
        read = self.there[first + numbers]
        right = self.holds(first + numbers, [names[number] for number in numbers.tolist()])[read]
        if np.count_nonzero(right) < max(LEAST, AGREEING * len(right)):
            return None
        return None if np.convolve(~right, np.ones(STRAY, np.int64)).max() >= STRAY else first


def name_pointers(names: Sequence[bytes]) -> bool:
    """Tell whether enough of some names are those of pointers."""
    return len(_pointer_names(names)) >= LEAST


def _pointer_names(names: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """Return the positions of names that are pointers', and their targets' names."""
    # one search in a joined text is much faster than a test of each name; no token, so no name, holds a NUL
    lengths = np.fromiter(map(len, names), np.int64, len(names))
    starts = np.concatenate(([0], np.cumsum(lengths + 1)))
    matches = list(_POINTER.finditer(b"\0".join(names)))
    places = np.array([match.start() for match in matches], np.int64)
    numbers = np.searchsorted(starts, places, "right") - 1
    begins = (starts[numbers] == places).tolist()
    return [
        (number, _TARGETS[match.group()] + names[number][len(match.group()) :])
        for number, match, is_begin in zip(numbers.tolist(), matches, begins, strict=True)
        if is_begin
    ]


def _addresses_of_single(
    names: SymbolNames, addresses: NDArray[np.uint64], known: NDArray[np.bool_]
) -> dict[bytes, int]:
    """Return the known addresses of those names that only one symbol has."""
    found = dict(zip(compress(names.texts, known.tolist()), addresses[known].tolist(), strict=True))
    for name in names.repeated:
        found.pop(name, None)
    return found


def _wanted(
    pointers: Sequence[tuple[int, bytes]], targets: dict[bytes, int]
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return the positions of names that are pointers', and their targets' addresses, where these are known."""
    found = [(number, targets[target]) for number, target in pointers if target in targets]
    return np.array([number for number, _ in found], np.int64), np.array([target for _, target in found], np.uint64)


def _shifts(
    words: Words, addresses: NDArray[np.uint64], wanted: NDArray[np.uint64], *, relative: bool
) -> Iterator[int]:
    """Yield differences, modulo 2^64, between offsets of words and their addresses.

    Some neighbouring pointers are searched among the words; each place at which all fit gives a difference.
    """
    size = words.itemsize
    for start in np.unique(np.linspace(0, len(addresses) - NEIGHBOURS, TRIED).astype(np.int64)).tolist():
        part = slice(start, start + NEIGHBOURS)
        away = (addresses[part] - addresses[start]).astype(np.int64)
        rises = (wanted[part] - wanted[start]).astype(words.dtype)
        if relative:
            rises -= away.astype(words.dtype)
        far = away // size
        if (away % size).any() or far[-1] >= len(words):
            continue
        last = len(words) - int(far[-1])
        places = np.flatnonzero(words[far[1] : far[1] + last] - words[:last] == rises[1])
        for distance, rise in zip(far[2:], rises[2:], strict=True):
            places = places[words[places + distance] - words[places] == rise]
        for place in places[:MOST_PLACES].tolist():
            yield (place * size - int(addresses[start])) % (1 << 64)


def _read(
    words: Words, addresses: NDArray[np.uint64], shift: int, *, relative: bool
) -> tuple[Words, NDArray[np.bool_]]:
    """Return the address that the word at each address points to, and if it was read.

    Words beyond the segment are not read, nor zeros, which may stand on a page that is lost.
    """
    places = addresses + np.uint64(shift)
    there = (places < len(words) * words.itemsize) & (places % words.itemsize == 0)
    found = words[np.where(there, places // words.itemsize, 0).astype(np.int64)]
    there &= found != 0
    return found + addresses.astype(words.dtype) if relative else found, there
