"""Find arrays of addresses, and their bases, where nothing but the order of their words shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.format.address_encodings import ENCODINGS, AddressArray, Base, Encoding, WordFormat, Words
from kallsift.kallsyms.format.token_table import MAX_PADDING

MAX_PLACES = 32
"""Highest number of starts that are tried at each end of a run that is longer than the array."""

MAX_RUNS = 1024
"""Highest number of runs that are searched for arrays, the shortest first: they have the fewest foreign words."""

MAX_WINDOWS = 512
"""Highest number of arrays that are tried out of one run."""

NEXT_STEP = 1 << 24
"""Highest step in bytes from one of the last symbols to the next, where a word may be either an offset or a base."""

LARGEST_SPACE = 53
"""Bits of the largest addresses of kernels: s390x with five levels (arch/s390/boot/startup.c)."""

ABSURD_STEP = 1 << 28
"""A distance in bytes that two neighbouring symbols of one image never exceed."""


@dataclass(frozen=True, eq=False)
class Run:
    """A run of neighbouring words, each of whose steps fits one encoding; an array can be any part of it.

    Attributes:
        offset: offset of the first word in the segment's data.
        encoding: the encoding that the steps fit.
        words: the raw words, unsigned, native byte order.
    """

    offset: int
    encoding: Encoding
    words: Words

    def array(self, index: int, count: int) -> AddressArray:
        """Return the array of ``count`` words from the word ``index`` on."""
        return AddressArray(self.offset + index * self.words.itemsize, self.encoding, self.words[index : index + count])


def find_runs(
    data: NDArray[np.uint8], low: int, high: int, word_size: int, byte_order: str, least: int
) -> Iterator[Run]:
    """Yield the longest runs of words in ``data[low:high]``, encoding by encoding.

    Args:
        data: the segment's bytes.
        low: start of the search, at a multiple of the word size in memory.
        high: end of the search.
        word_size: bytes of an address.
        byte_order: ``"<"`` or ``">"``.
        least: lowest number of words of a run.
    """
    low, high = max(0, low), min(high, len(data))
    for encoding in ENCODINGS:
        size = encoding.entry_size or word_size
        if high - low < least * size:
            continue
        raw = np.frombuffer(data[low : low + (high - low) // size * size].tobytes(), f"{byte_order}u{size}")
        words = raw.astype(raw.dtype.newbyteorder("="))
        fits = encoding.order(words)
        if encoding.base is Base.SELF:
            # no symbol lies in the array itself
            fits &= (words[1:] != 0) & (words[:-1] != 0)
        breaks = np.concatenate(([-1], np.flatnonzero(~fits), [len(words) - 1]))
        for run in np.flatnonzero(np.diff(breaks) >= least):
            first, last = int(breaks[run]) + 1, int(breaks[run + 1]) + 1
            yield Run(low + first * size, encoding, words[first:last])


def find_arrays(
    data: NDArray[np.uint8], low: int, high: int, count: int, words: WordFormat, table_starts: Sequence[int] = ()
) -> Iterator[AddressArray]:
    """Yield arrays of ``count`` entries whose steps all fit one encoding, with bases.

    Args:
        data: the segment's bytes.
        low: start of the search, at a multiple of the word size in memory.
        high: end of the search.
        count: number of entries of the array.
        words: size and byte order of an address.
        table_starts: offsets of the other tables, which are aligned as the base is.
    """
    word_size, byte_order = words
    low = max(0, low)
    for run in find_runs(data, low, high, word_size, byte_order, count):
        # up to 6.19 a table starts at a multiple of the word size, since 7.0 at a multiple of four
        stride = 1 if run.encoding.base is Base.SELF else word_size // run.words.itemsize
        first = -((run.offset - low) // run.words.itemsize) % stride
        places = range(first, len(run.words) - count + 1, stride)
        for index in dict.fromkeys([*places[:MAX_PLACES], *places[-MAX_PLACES:]]):
            array = run.array(index, count)
            if not run.encoding.fits(array.words):
                continue
            if run.encoding.base is Base.RELATIVE_BASE:
                yield from _with_base(data, array, words, table_starts)
            else:
                yield array


def windows(runs: Sequence[Run], counts: Sequence[int]) -> Iterator[tuple[AddressArray, bool, bool]]:
    """Yield arrays that can be parts of the runs, the likeliest first.

    Each has as many words as one of ``counts``. Nothing is known of the bytes around an array: padding before it and
    noise on both sides may continue in order. So the likeliest array leaves out only zeros and words that are absurdly
    far away from it, and contains none of these.

    Yields:
        An array; whether only such words stand before it in its run; whether it ends where such words begin or the run
        ends.
    """
    runs = sorted(runs, key=lambda run: len(run.words))[:MAX_RUNS]
    candidates = [_windows(number, run, np.array(sorted(set(counts)), np.int64)) for number, run in enumerate(runs)]
    numbers, places, sizes, begins, ends, spare = np.concatenate([np.empty((6, 0), np.int64), *candidates], axis=1)
    for entry in np.lexsort((spare, -begins - ends)).tolist():
        array = runs[numbers[entry]].array(int(places[entry]), int(sizes[entry]))
        if array.encoding.fits(array.words):
            yield array, bool(begins[entry]), bool(ends[entry])


def _windows(number: int, run: Run, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the parts of a run that are tried, shape (6, n).

    The rows are: the run's number, index of the first word, number of words, whether the beginning fits, whether the
    end fits, number of words of the run that are left out.
    """
    zeros, jump, high = _plausible(run)
    spare = len(run.words) - counts
    counts, spare = counts[spare >= 0], spare[spare >= 0]
    edge = np.arange(MAX_PLACES)
    # the likeliest beginnings, then those at both ends of the run
    first = np.stack((high - counts, np.full_like(counts, jump)), axis=1)
    places = np.concatenate((first, np.broadcast_to(edge, (len(counts), MAX_PLACES)), spare[:, None] - edge), axis=1)
    sizes, left = np.broadcast_to(counts[:, None], places.shape), np.broadcast_to(spare[:, None], places.shape)
    inside = (places >= 0) & (places <= left)
    # keep each part once; np.unique is avoided because it hashes, which is slow for such regular numbers
    keys = np.sort(sizes[inside] * len(run.words) + places[inside])
    counts, places = np.divmod(keys[np.diff(keys, prepend=-1) > 0], len(run.words))
    begins, ends = (places <= zeros) | (places == jump), places + counts == high
    likely = ends | (places == jump)
    best = np.lexsort((-counts, ~likely, -begins.astype(np.int64) - ends))[:MAX_WINDOWS]
    return np.stack((np.full_like(places, number), places, counts, begins, ends, len(run.words) - counts))[:, best]


def _plausible(run: Run) -> tuple[int, int, int]:
    """Return where an array can begin in a run, and where it ends.

    The results are indices of words. The array can begin at any word up to the first result (-1 for none), or at the
    second; it ends at the third. Zeros before it may be padding or its own. Words beyond an absurd step among the first
    or last ones do not belong to it, except zeros before the step, which may be offsets into the per-CPU area.
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
    """Yield an array with each base that it can have; as it is if it needs none.

    The bases are: the word behind the array, the word before it, and none.

    Args:
        data: the segment's bytes.
        array: the array that needs a base.
        words: as for `find_arrays`.
        table_starts: as for `find_arrays`.
    """
    if array.encoding.base is not Base.RELATIVE_BASE:
        yield array
        return
    word_size, byte_order = words
    yield from _with_base(data, array, words, table_starts)
    before = array.offset // word_size * word_size - word_size
    if before >= 0 and _is_address(base := word_at(data, before, word_size, byte_order), word_size):
        yield replace(array, relative_base_offset=before, relative_base=base)
    yield array


def _is_address(word: int, word_size: int) -> bool:
    """Tell whether a word can be the base of a kernel's addresses.

    0 is no base: a loader has yet to fill it in. Addresses of 64 bits lie at the lower end of the address space, at the
    upper end, or low in a region that the upper byte chooses (PowerPC, LoongArch, MIPS).
    """
    if word_size == 4 or not word:
        return word != 0
    return word >> LARGEST_SPACE in (0, (1 << 64 - LARGEST_SPACE) - 1) or (word >> 32) & 0xFF_FFFF < 0x100


def _goes_on(array: AddressArray, following: NDArray[np.uint8], byte_order: str) -> bool:
    """Tell whether the bytes behind an array are more of its entries.

    Then the array begins later, and these bytes are no base. One entry alone says nothing: the base of a kernel that is
    linked low can be a little above its last offset.
    """
    if len(following) <= array.words.itemsize:
        return False
    more = np.ascontiguousarray(following).view(np.dtype(f"{byte_order}u{array.words.itemsize}"))
    entries = np.concatenate((array.words[-1:], more.astype(array.words.dtype)))
    addresses = array.encoding.decode(entries, 0)
    near = addresses[1:] - addresses[:-1] <= np.uint64(NEXT_STEP)
    return bool(array.encoding.order(entries).all() and near.all())


def word_at(data: NDArray[np.uint8], offset: int, size: int, byte_order: str) -> int:
    """Return the word at ``offset``; 0 if the data end before the word does."""
    word = data[offset : offset + size].tobytes()
    return int.from_bytes(word, "little" if byte_order == "<" else "big") if len(word) == size else 0


def _with_base(
    data: NDArray[np.uint8], array: AddressArray, words: WordFormat, table_starts: Sequence[int]
) -> Iterator[AddressArray]:
    """Yield the array with the base behind it; without a value if that word is zero.

    The word is zero where an image's loader fills it in later, or where the page of a dump is lost.
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
    # an array that is too long by one word, the base, would have zeros behind it as well; its last step is absurd
    last = array.encoding.decode(array.words[-2:], 0)
    end = places[0]
    if (
        int(last[-1] - last[0]) <= ABSURD_STEP
        and len(data) >= end + word_size
        and not data[end : end + word_size].any()
    ):
        yield replace(array, relative_base_offset=end)


def _base_offsets(array: AddressArray, word_size: int, table_starts: Sequence[int]) -> list[int]:
    """Return the offsets behind an array at which its base can stand, nearest first.

    One directive aligns all tables. ``.align n`` means n bytes for some assemblers and 2^n for others
    (scripts/kallsyms.c up to 4.20; GNU as, "Align"). So the alignment can be any power of two from the word size up to
    `MAX_PADDING` that divides the distances between the starts of all tables.
    """
    end = array.offset + array.size
    places = [end + -end % word_size]
    apart = [abs(start - array.offset) for start in table_starts]
    alignment = word_size
    while alignment <= MAX_PADDING and not any(distance % alignment for distance in apart):
        places.append(end + -array.size % alignment)
        alignment *= 2
    return sorted(set(places))
