"""Address encodings: how an array of raw words becomes addresses, as rows of one table.

Source: scripts/kallsyms.c and kernel/kallsyms.c of 2.6.12 to 7.3. Addresses never decrease in any release, so each
encoding makes of raw words numbers that rise in a true array. Base-relative words also pass as self-relative
ones; the smallest step tells them apart, for some symbols always share an address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.format.token_table import MAX_PADDING

Words = NDArray[np.unsignedinteger]

WordFormat = tuple[int, str]
"""Bytes of an address, and ``"<"`` or ``">"``."""

MAX_PLACES = 32
"""Starts that are tried at each end of a run longer than the array."""

MAX_RUNS = 1024
"""Runs that arrays are looked for in, the shortest first: those with the fewest words that are none of an array's."""

MAX_WINDOWS = 512
"""Arrays that are tried out of one run."""

BEHIND_INDEX = 4
"""Bytes of an entry of arrays that lie behind the token index: releases that put them there, and have seqs_of_names,
have no other."""

NEXT_STEP = 1 << 24
"""Bytes from one of the last symbols to the next at most, where a word may be either an offset or a base."""

LARGEST_SPACE = 53
"""Bits of the largest addresses of kernels: s390x with five levels (arch/s390/boot/startup.c)."""

ABSURD_STEP = 1 << 28
"""More than two neighbouring symbols of one image are ever apart."""

_SIGN = np.uint32(1 << 31)


@dataclass(frozen=True)
class Encoding:
    """One way of storing addresses.

    Attributes:
        name: as it is shown to people.
        entry_size: bytes of an entry; 0 stands for the word size.
        anchor: what an entry is relative to: ``"nothing"``, ``"relative_base"`` or ``"place"`` (its own address).
        key: maps raw words (shape (n,)) to numbers that never fall in a true array, shape (n,).
        typical: whether words whose steps all fit can be of this encoding and of no other.
        decode: maps raw words and the anchor's address to addresses modulo 2^64, shape (n,), uint64.
    """

    name: str
    entry_size: int
    anchor: str
    key: Callable[[Words], Words | NDArray[np.int64]]
    typical: Callable[[Words], bool]
    decode: Callable[[Words, int], NDArray[np.uint64]]

    def order(self, words: Words) -> NDArray[np.bool_]:
        """Whether each step to the next of some raw words, shape (n,), fits, shape (n - 1,)."""
        return _rises(self.key(words))


def _rises(keys: Words | NDArray[np.int64]) -> NDArray[np.bool_]:
    result: NDArray[np.bool_] = keys[1:] >= keys[:-1]
    return result


def _grows(words: Words) -> bool:
    return bool(words[-1] > words[0])


def _percpu_key(words: Words) -> Words:
    """Per-CPU offsets first (not negative), then -1 - (address - base), as one rising sequence."""
    return np.where(words < _SIGN, words, ~words + _SIGN).astype(np.uint32)


def _percpu_decode(words: Words, base: int) -> NDArray[np.uint64]:
    wide = words.astype(np.uint64)
    return np.where(words < _SIGN, wide, np.uint64(base) + (~words).astype(np.uint32).astype(np.uint64))


def _self_relative_key(words: Words) -> NDArray[np.int64]:
    """Each address, counted from that of the first word."""
    signed = words.astype(np.uint32).view(np.int32).astype(np.int64)
    return signed + 4 * np.arange(len(words), dtype=np.int64)


def _self_relative_decode(words: Words, place: int) -> NDArray[np.uint64]:
    signed = words.astype(np.uint32).view(np.int32).astype(np.int64)
    own = np.uint64(place) + np.arange(len(words), dtype=np.uint64) * np.uint64(4)
    return own + signed.view(np.uint64)


ENCODINGS = (
    Encoding(  # 7.0 and later
        name="self-relative",
        entry_size=4,
        anchor="place",
        key=_self_relative_key,
        typical=lambda words: bool((np.diff(_self_relative_key(words)) == 0).any()),
        decode=_self_relative_decode,
    ),
    Encoding(  # 4.6 to 6.14 without, 6.15 to 6.19 everywhere
        name="offset from relative_base",
        entry_size=4,
        anchor="relative_base",
        key=lambda words: words,
        typical=_grows,
        decode=lambda words, base: np.uint64(base) + words.astype(np.uint64),
    ),
    Encoding(  # 4.6 to 6.14, KALLSYMS_ABSOLUTE_PERCPU (x86-64 SMP)
        name="signed offset from relative_base, per-CPU absolute",
        entry_size=4,
        anchor="relative_base",
        key=_percpu_key,
        typical=lambda words: bool((words >= _SIGN).any()) and not bool(_rises(words).all()),
        decode=_percpu_decode,
    ),
    Encoding(  # up to 4.5, and up to 6.10 without KALLSYMS_BASE_RELATIVE
        name="absolute",
        entry_size=0,
        anchor="nothing",
        key=lambda words: words,
        typical=_grows,
        decode=lambda words, _: words.astype(np.uint64),
    ),
)


@dataclass(frozen=True, eq=False)
class AddressArray:
    """An array that can be the table of addresses.

    Attributes:
        offset: of the first entry in the segment's data.
        encoding: how its words are to be read.
        words: the raw entries, shape (n,), unsigned, native byte order.
        relative_base_offset: where the base stands in the segment's data; None where the encoding has none, or where
            the base was not found.
        relative_base: its value; None likewise.
    """

    offset: int
    encoding: Encoding
    words: Words
    relative_base_offset: int | None = None
    relative_base: int | None = None

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return self.words.nbytes

    @property
    def adrift(self) -> bool:
        """Whether its base is needed and unknown."""
        return self.encoding.anchor == "relative_base" and self.relative_base is None

    def addresses(self, place: int) -> NDArray[np.uint64]:
        """The symbols' addresses, shape (n,), uint64.

        Args:
            place: address of the array itself, in the space that the answer is wanted in; only self-relative words
                need it.
        """
        anchor = place if self.encoding.anchor == "place" else self.relative_base or 0
        return self.encoding.decode(self.words, anchor)


@dataclass(frozen=True, eq=False)
class Run:
    """Neighbouring words each of whose steps fits one encoding: an array can be any part of it.

    Attributes:
        offset: of the first word in the segment's data.
        encoding: the one that they fit.
        words: the raw words, unsigned, native byte order.
    """

    offset: int
    encoding: Encoding
    words: Words

    def array(self, index: int, count: int) -> AddressArray:
        """The array of ``count`` words from the word ``index`` on."""
        return AddressArray(self.offset + index * self.words.itemsize, self.encoding, self.words[index : index + count])


def find_runs(
    data: NDArray[np.uint8], low: int, high: int, word_size: int, byte_order: str, least: int
) -> Iterator[Run]:
    """The longest runs of words in ``data[low:high]``, of at least ``least`` words.

    Args:
        data: the segment's bytes.
        low: where to begin, at a multiple of the word size in memory.
        high: where to end.
        word_size: bytes of an address.
        byte_order: ``"<"`` or ``">"``.
        least: words of a run at least.
    """
    low, high = max(0, low), min(high, len(data))
    for encoding in ENCODINGS:
        size = encoding.entry_size or word_size
        if high - low < least * size:
            continue
        raw = np.frombuffer(data[low : low + (high - low) // size * size].tobytes(), f"{byte_order}u{size}")
        words = raw.astype(raw.dtype.newbyteorder("="))
        fits = encoding.order(words)
        if encoding.anchor == "place":
            # no symbol lies in the array itself
            fits &= (words[1:] != 0) & (words[:-1] != 0)
        breaks = np.concatenate(([-1], np.flatnonzero(~fits), [len(words) - 1]))
        for run in np.flatnonzero(np.diff(breaks) >= least):
            first, last = int(breaks[run]) + 1, int(breaks[run + 1]) + 1
            yield Run(low + first * size, encoding, words[first:last])


def find_arrays(
    data: NDArray[np.uint8], low: int, high: int, count: int, words: WordFormat, table_starts: Sequence[int] = ()
) -> Iterator[AddressArray]:
    """Find arrays of ``count`` entries whose steps all fit one encoding, and their bases.

    Args:
        data: the segment's bytes.
        low: where to begin, at a multiple of the word size in memory.
        high: where to end.
        count: entries of the array.
        words: size and byte order of an address.
        table_starts: offsets of the other tables, which are aligned as the base is.
    """
    word_size, byte_order = words
    low = max(0, low)
    for run in find_runs(data, low, high, word_size, byte_order, count):
        # up to 6.19 a table starts at a multiple of the word size, since then of four
        stride = 1 if run.encoding.anchor == "place" else word_size // run.words.itemsize
        first = -((run.offset - low) // run.words.itemsize) % stride
        places = range(first, len(run.words) - count + 1, stride)
        for index in dict.fromkeys([*places[:MAX_PLACES], *places[-MAX_PLACES:]]):
            array = run.array(index, count)
            if not run.encoding.typical(array.words):
                continue
            if run.encoding.anchor == "relative_base":
                yield from _with_base(data, array, words, table_starts)
            else:
                yield array


def windows(runs: Sequence[Run], counts: Sequence[int]) -> Iterator[tuple[AddressArray, bool, bool]]:
    """Arrays out of runs of unknown neighbours, of as many words as one of the counts says, the likeliest first.

    Padding before an array and noise around it may go on in order. So the likeliest array leaves out nothing but
    zeros and words absurdly far away from it, and takes in none of them. The second value is whether it begins where
    only such words stand before it, the third whether it ends so.
    """
    runs = sorted(runs, key=lambda run: len(run.words))[:MAX_RUNS]
    candidates = [_windows(number, run, np.array(sorted(set(counts)), np.int64)) for number, run in enumerate(runs)]
    numbers, places, sizes, begins, ends, spare = np.concatenate([np.empty((6, 0), np.int64), *candidates], axis=1)
    for entry in np.lexsort((spare, -begins - ends)).tolist():
        array = runs[numbers[entry]].array(int(places[entry]), int(sizes[entry]))
        if array.encoding.typical(array.words):
            yield array, bool(begins[entry]), bool(ends[entry])


def _windows(number: int, run: Run, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The parts of a run that are tried, shape (6, n): its number, first word, words, ends that fit, words left out."""
    zeros, jump, high = _plausible(run)
    spare = len(run.words) - counts
    counts, spare = counts[spare >= 0], spare[spare >= 0]
    edge = np.arange(MAX_PLACES)
    # the likeliest first, then those at both ends of the run
    first = np.stack((high - counts, np.full_like(counts, jump)), axis=1)
    places = np.concatenate((first, np.broadcast_to(edge, (len(counts), MAX_PLACES)), spare[:, None] - edge), axis=1)
    sizes, left = np.broadcast_to(counts[:, None], places.shape), np.broadcast_to(spare[:, None], places.shape)
    inside = (places >= 0) & (places <= left)
    # each once; sorted by hand, for NumPy's own unique hashes, which such regular numbers defeat
    keys = np.sort(sizes[inside] * len(run.words) + places[inside])
    counts, places = np.divmod(keys[np.diff(keys, prepend=-1) > 0], len(run.words))
    begins, ends = (places <= zeros) | (places == jump), places + counts == high
    likely = ends | (places == jump)
    best = np.lexsort((-counts, ~likely, -begins.astype(np.int64) - ends))[:MAX_WINDOWS]
    return np.stack((np.full_like(places, number), places, counts, begins, ends, len(run.words) - counts))[:, best]


def _plausible(run: Run) -> tuple[int, int, int]:
    """Where the array can begin: at any word up to the first number, or at the second; and where it ends, the third.

    Zeros before it may be padding or its own. Words beyond an absurd step among the first or last ones are none of it,
    but for what may be offsets into the per-CPU area: zeros before the step.
    """
    words = run.words
    edge = min(MAX_PLACES, len(words) // 4)
    addresses = run.encoding.decode(words, 0)
    zeros = int(np.argmax(addresses != 0))
    absurd = np.flatnonzero(addresses[1:] - addresses[:-1] > np.uint64(ABSURD_STEP)) + 1
    first, last = absurd[absurd <= zeros + edge], absurd[absurd >= len(words) - edge]
    high = int(last[0]) if len(last) else len(words)
    jump = int(first[-1]) if len(first) else 0
    return zeros if zeros or not jump else -1, jump, high


def with_bases(
    data: NDArray[np.uint8], array: AddressArray, words: WordFormat, table_starts: Sequence[int] = ()
) -> Iterator[AddressArray]:
    """The array as it is if it needs no base; else with the word behind it, with the one before it, and with none.

    Args:
        data: the segment's bytes.
        array: what needs a base.
        words: as `find_arrays`.
        table_starts: as `find_arrays`.
    """
    if array.encoding.anchor != "relative_base":
        yield array
        return
    word_size, byte_order = words
    yield from _with_base(data, array, words, table_starts)
    before = array.offset // word_size * word_size - word_size
    if before >= 0 and _is_address(base := word_at(data, before, word_size, byte_order), word_size):
        yield replace(array, relative_base_offset=before, relative_base=base)
    yield array


def _is_address(word: int, word_size: int) -> bool:
    """Whether a word can be the base of a kernel's addresses; 0 is what a loader has yet to fill in.

    Addresses of 64 bits lie at the lower end of all that there are, at the upper one, or low in a region that the upper
    byte chooses (PowerPC, LoongArch, MIPS).
    """
    if word_size == 4 or not word:
        return word != 0
    return word >> LARGEST_SPACE in (0, (1 << 64 - LARGEST_SPACE) - 1) or (word >> 32) & 0xFF_FFFF < 0x100


def _goes_on(array: AddressArray, following: NDArray[np.uint8], byte_order: str) -> bool:
    """Whether bytes behind an array are more of its entries: then it begins later, and they are no base.

    One entry alone says nothing: the base of a kernel that is linked low can be a little above its last offset.
    """
    if len(following) <= array.words.itemsize:
        return False
    more = np.ascontiguousarray(following).view(np.dtype(f"{byte_order}u{array.words.itemsize}"))
    entries = np.concatenate((array.words[-1:], more.astype(array.words.dtype)))
    addresses = array.encoding.decode(entries, 0)
    near = addresses[1:] - addresses[:-1] <= np.uint64(NEXT_STEP)
    return bool(array.encoding.order(entries).all() and near.all())


def word_at(data: NDArray[np.uint8], offset: int, size: int, byte_order: str) -> int:
    """The word at ``offset``, 0 where the data end before it does."""
    word = data[offset : offset + size].tobytes()
    return int.from_bytes(word, "little" if byte_order == "<" else "big") if len(word) == size else 0


def _with_base(
    data: NDArray[np.uint8], array: AddressArray, words: WordFormat, table_starts: Sequence[int]
) -> Iterator[AddressArray]:
    """Yield the array with the base behind it, then without a value where the first word behind it is zero.

    An image's loader may fill it in, and a page of a dump may be lost.
    """
    word_size, byte_order = words
    places = _base_offsets(array, word_size, table_starts)
    for offset in places:
        base = word_at(data, offset, word_size, byte_order)
        if (
            _is_address(base, word_size)
            and not _goes_on(array, data[offset : offset + word_size], byte_order)
            and not data[array.offset + array.size : offset].any()
        ):
            yield replace(array, relative_base_offset=offset, relative_base=base)
            break
    # an array that takes in the word behind it, which is the base, would have zeros behind it as well
    last = array.encoding.decode(array.words[-2:], 0)
    end = places[0]
    if (
        int(last[-1] - last[0]) <= ABSURD_STEP
        and len(data) >= end + word_size
        and not data[end : end + word_size].any()
    ):
        yield replace(array, relative_base_offset=end)


def _base_offsets(array: AddressArray, word_size: int, table_starts: Sequence[int]) -> list[int]:
    """Where the base can stand behind an array, the nearest first.

    One directive aligns all tables. ``.align n`` is n bytes for some assemblers and 2^n for others (scripts/kallsyms.c
    up to 4.20; GNU as, "Align"), so any power of two from the word size up to `MAX_PADDING` that the starts of all
    tables have in common can be meant.
    """
    end = array.offset + array.size
    places = [end + -end % word_size]
    apart = [abs(start - array.offset) for start in table_starts]
    alignment = word_size
    while alignment <= MAX_PADDING and not any(distance % alignment for distance in apart):
        places.append(end + -array.size % alignment)
        alignment *= 2
    return sorted(set(places))
