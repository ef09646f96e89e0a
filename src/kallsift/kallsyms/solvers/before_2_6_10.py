"""Find tables from before 2.6.10: addresses, their number, and names with a NUL behind each.

Since 2.5.54 a name is stored as a byte that says how many characters it shares with the name before, and the rest of
it; before that release it is stored whole (kernel/kallsyms.c, scripts/kallsyms.c of those releases). No type letters
are stored: these kernels derived the letters that they printed from sections and exports. So the letters are unknown
here, and printed as ``?``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import Step
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kallsyms.format.address_encodings import ENCODINGS, AddressArray
from kallsift.kallsyms.format.token_table import MAX_PADDING
from kallsift.kallsyms.recovered_tables import Attempt, TableExtent, Tables, in_order
from kallsift.kallsyms.solvers.adjacent import blank_page
from kallsift.kallsyms.solvers.identifier_regions import BLOCK
from kallsift.memory.memory import Memory
from kallsift.memory.segments import BytesSegment

LEAST, MOST = 256, 1 << 18
"""Lowest and highest number of symbols of a table; kernels of that time had some ten thousand."""

MAX_NAME = 128
"""Highest size of a name in bytes, the NUL included (KSYM_NAME_LEN)."""

AROUND = 2 * BLOCK + MAX_PADDING
"""Bytes before and behind the beginning of a region of names in which the names can begin."""

ABSOLUTE = next(encoding for encoding in ENCODINGS if encoding.name == "absolute")
GRAPHIC = (np.arange(256) > ord(" ")) & (np.arange(256) < 0x7F)
"""Mask of the bytes that names can have."""


class Listing(NamedTuple):
    """One reading of the names behind their number.

    Attributes:
        form: how they are stored: ``stems`` or ``strings``.
        start: offset of the first byte.
        texts: the names.
        end: offset behind the last byte.
    """

    form: str
    start: int
    texts: list[bytes]
    end: int


def recover_early(memory: Memory, low: int, word_sizes: Sequence[int], attempt: Attempt) -> Iterator[Tables]:
    """Yield all tables whose names begin where a region of names does.

    Each word that can be the number of symbols is compared with the addresses before it, then with the names behind it.
    The work is bounded by the bytes around the word.

    Args:
        memory: the source.
        low: address at which the region begins.
        word_sizes: sizes of an address in bytes, in the order in which they are tried.
        attempt: the record of the furthest step that was reached.
    """
    for size in word_sizes:
        near = memory.around(low, AROUND + MAX_PADDING + LEAST * size, AROUND)
        for byte_order in "<>":
            for place, count in _counts(near, max(0, low - AROUND), size, byte_order):
                segment = memory.around(place, count * size + MAX_PADDING, size + MAX_PADDING + count * (MAX_NAME + 1))
                num_syms = place - segment.start
                array = _array(segment.data, num_syms, count, size, byte_order)
                if array is None or blank_page(segment, array.offset, array.size) is not None:
                    continue
                listings = [*_listings(segment.data, num_syms + size, count)]
                if len(listings) > 1:
                    here = f"{count} words in order at {segment.start + array.offset:#x} and their number"
                    attempt.reached(2, Step.NAMES, f"{here}, but the names behind it can be read in more than one way")
                elif listings:
                    yield _tables(segment, (size, byte_order), num_syms, array, listings[0])


def _counts(near: BytesSegment, low: int, size: int, byte_order: str) -> Iterator[tuple[int, int]]:
    """Yield words from ``low`` on that can be the number of symbols, with addresses.

    Before such a word stand words in order.
    """
    first = -near.start % size
    raw = near.data[first : first + (len(near.data) - first) // size * size]
    words = np.frombuffer(raw.tobytes(), f"{byte_order}u{size}").astype(np.uint64)
    if not len(words):
        return
    # padding behind the addresses is zero; the step down to it must not end the order
    index = np.arange(len(words))
    real = np.maximum.accumulate(np.where(words != 0, index, 0))
    breaks = np.append(0, np.flatnonzero(words[1:] < words[:-1]) + 1)
    since = index - breaks[np.searchsorted(breaks, index, "right") - 1] + 1
    can_be = (words >= LEAST) & (words < MOST)
    can_be[0] = False
    for place in np.flatnonzero(can_be).tolist():
        address = near.start + first + place * size
        if address >= low and since[real[place - 1]] >= LEAST:
            yield address, int(words[place])


def _array(data: NDArray[np.uint8], num_syms: int, count: int, size: int, byte_order: str) -> AddressArray | None:
    """Return the addresses before a count, with only zeros between; None if unordered."""
    end = num_syms
    while end > max(0, num_syms - MAX_PADDING) and not data[end - size : end].any():
        end -= size
    start = end - count * size
    if start < 0:
        return None
    words = np.frombuffer(data[start:end].tobytes(), f"{byte_order}u{size}")
    # the last words are compared first: they suffice to drop what is no array
    held = LEAST
    while ABSOLUTE.order(words[-held:]).all():
        if held >= count:
            words = words.astype(words.dtype.newbyteorder("="))
            return AddressArray(start, ABSOLUTE, words) if ABSOLUTE.fits(words) else None
        held *= 4
    return None


def _listings(data: NDArray[np.uint8], start: int, count: int) -> Iterator[Listing]:
    """Yield the ways to read ``count`` names behind a place.

    Real tables can be read in one way at most. Stems begin with a zero byte, because there is no name before the first,
    and every later number is at most the length of the name before; the letters that strings begin with are larger
    numbers than most names are long.
    """
    zeros = int(np.argmax(np.append(data[start : start + MAX_PADDING + 1], 1) != 0))
    if zeros and (found := _stems(data, start + zeros - 1, count)):
        yield Listing("stems", start + zeros - 1, *found)
    if found := _strings(data, start + zeros, count):
        yield Listing("strings", start + zeros, *found)


def _tables(
    segment: BytesSegment, word_format: tuple[int, str], num_syms: int, array: AddressArray, listing: Listing
) -> Tables:
    """Return the tables of addresses, their number and one reading of the names."""
    size, byte_order = word_format
    texts, form = listing.texts, listing.form
    count = len(texts)
    bounds = np.concatenate(([0], np.cumsum([len(text) + 1 for text in texts]))).astype(np.int64)
    characters = np.frombuffer(b"".join(b"?" + text for text in texts), np.uint8)
    rows = (
        TableExtent("addresses", array.offset, array.size),
        TableExtent("num_syms", num_syms, size),
        TableExtent("names", listing.start, listing.end - listing.start),
    )
    checks = (
        Check.that(CheckId.NUM_SYMS, True, f"the count {count} stands between the addresses and the names"),
        Check.that(CheckId.NAMES, True, f"{count} names of at most {MAX_NAME - 1} characters, stored as {form}"),
        Check(CheckId.TYPE_LETTERS, Outcome.ABSENT, "tables before 2.6.10 have none; each is printed as ?"),
        Check.that(CheckId.ADDRESS_ORDER, True, f"{count} entries never decrease as {array.encoding.name}"),
    )
    return Tables(segment, size, byte_order, in_order(*rows), array, characters, bounds, checks)


def _strings(data: NDArray[np.uint8], start: int, count: int) -> tuple[list[bytes], int] | None:
    """Return ``count`` names that are stored whole, and their end, or None."""
    text = data[start : start + count * MAX_NAME]
    nuls = np.flatnonzero(text == 0)[:count]
    if len(nuls) < count:
        return None
    text = text[: int(nuls[-1]) + 1]
    lengths = np.diff(nuls, prepend=-1) - 1
    if not lengths.all() or lengths.max() >= MAX_NAME or not GRAPHIC[text[text != 0]].all():
        return None
    return text.tobytes().split(b"\0")[:count], start + len(text)


def _stems(data: NDArray[np.uint8], start: int, count: int) -> tuple[list[bytes], int] | None:
    """Return ``count`` names that are stored as stems, and their end, or None.

    Each name stands behind the number of characters that it shares with the name before.
    """
    text = data[start : start + count * (MAX_NAME + 1)].tobytes()
    names: list[bytes] = []
    place, before = 0, b""
    for _ in range(count):
        end = text.find(b"\0", place + 1)
        if end < 0 or text[place] > len(before) or text[place] + end - place > MAX_NAME:
            return None
        before = before[: text[place]] + text[place + 1 : end]
        if not before:
            return None
        names.append(before)
        place = end + 1
    if not GRAPHIC[np.frombuffer(b"".join(names), np.uint8)].all():
        return None
    return names, start + place
