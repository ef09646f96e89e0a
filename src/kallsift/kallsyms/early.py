"""Tables from before 2.6.10: addresses, their number, and names with a NUL behind each.

Since 2.5.54 a name is a byte that says how many characters it shares with the one before, and the rest of it; before
that it is whole (kernel/kallsyms.c, scripts/kallsyms.c of those releases). No letters are stored: what these kernels
printed in their place they found out from sections and exports. They are unknown, and printed as ``?``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.encodings import ENCODINGS, AddressArray
from kallsift.kallsyms.evidence import Check, Outcome
from kallsift.kallsyms.name_regions import BLOCK
from kallsift.kallsyms.recover import blank_page
from kallsift.kallsyms.tables import Attempt, Row, Tables, in_order
from kallsift.kallsyms.tokens import MAX_PADDING
from kallsift.memory.model import Segment

LEAST, MOST = 256, 1 << 18
"""Symbols of a table at least and at most; kernels of that time had some ten thousand."""

MAX_NAME = 128
"""Characters of a name at most, the NUL included (KSYM_NAME_LEN)."""

AROUND = 2 * BLOCK + MAX_PADDING
"""Bytes before and behind the beginning of a region of names in which they can begin."""

ABSOLUTE = next(encoding for encoding in ENCODINGS if encoding.name == "absolute")
GRAPHIC = (np.arange(256) > ord(" ")) & (np.arange(256) < 0x7F)
"""Which bytes names can have."""


def recover_early(segment: Segment, low: int, word_sizes: Sequence[int], attempt: Attempt) -> Iterator[Tables]:
    """All tables whose names begin near ``segment.data[low]``, where a region of names does.

    Args:
        segment: the memory around the region.
        low: where the region begins.
        word_sizes: bytes of an address, those to try in this order.
        attempt: is told how far it came.
    """
    for size in word_sizes:
        for byte_order in "<>":
            for num_syms, count in _counts(segment, low, size, byte_order):
                for gap in _gaps(segment.data, num_syms + size):
                    yield from _tables(segment, num_syms, count, num_syms + size + gap, size, byte_order, attempt)


def _counts(segment: Segment, low: int, size: int, byte_order: str) -> Iterator[tuple[int, int]]:
    """Words that can be the number of symbols: so many words in order stand before it. Each with its offset."""
    first = max(0, low - AROUND)
    first += -(segment.start + first) % size
    raw = segment.data[first : low + AROUND]
    words = np.frombuffer(raw[: len(raw) // size * size].tobytes(), f"{byte_order}u{size}").astype(np.uint64)
    for index in np.flatnonzero((words >= LEAST) & (words < MOST)).tolist():
        yield first + index * size, int(words[index])


def _gaps(data: NDArray[np.uint8], start: int) -> Iterator[int]:
    """Bytes of padding that can stand at a place: none, or all zeros up to a place where a table can begin."""
    yield 0
    zeros = int(np.argmax(np.append(data[start : start + MAX_PADDING], 1) != 0))
    # a name that shares nothing with the one before it begins with a zero itself
    yield from (gap for gap in (zeros, zeros - 1) if gap > 0)


def _tables(
    segment: Segment, num_syms: int, count: int, names: int, size: int, byte_order: str, attempt: Attempt
) -> Iterator[Tables]:
    array = _array(segment.data, num_syms, count, size, byte_order)
    if array is None or blank_page(segment, array.offset, array.size) is not None:
        return
    here = f"{count} words in order at {segment.start + array.offset:#x} and their number"
    attempt.reached(1, "names", f"{here}, but not as many names behind it")
    for form, found in (
        ("stems", _stems(segment.data, names, count)),
        ("strings", _strings(segment.data, names, count)),
    ):
        if found is None:
            continue
        texts, end = found
        bounds = np.concatenate(([0], np.cumsum([len(text) + 1 for text in texts]))).astype(np.int64)
        characters = np.frombuffer(b"".join(b"?" + text for text in texts), np.uint8)
        rows = (
            Row("addresses", array.offset, array.size),
            Row("num_syms", num_syms, size),
            Row("names", names, end - names),
        )
        checks = (
            Check.that("num_syms", True, f"the count {count} stands between the addresses and the names"),
            Check.that("names", True, f"{count} names of at most {MAX_NAME - 1} characters, stored as {form}"),
            Check("type letters", Outcome.ABSENT, "tables before 2.6.10 have none; each is printed as ?"),
            Check.that("address order", True, f"{count} entries never decrease as {array.encoding.name}"),
        )
        yield Tables(segment, size, byte_order, in_order(*rows), array, characters, bounds, checks)
        return


def _array(data: NDArray[np.uint8], num_syms: int, count: int, size: int, byte_order: str) -> AddressArray | None:
    """The addresses before a count, with nothing but zeros between; None if they are not in order."""
    end = num_syms
    while end > max(0, num_syms - MAX_PADDING) and not data[end - size : end].any():
        end -= size
    start = end - count * size
    if start < 0:
        return None
    words = np.frombuffer(data[start:end].tobytes(), f"{byte_order}u{size}")
    words = words.astype(words.dtype.newbyteorder("="))
    if not ABSOLUTE.order(words).all() or not ABSOLUTE.typical(words):
        return None
    return AddressArray(start, ABSOLUTE, words)


def _strings(data: NDArray[np.uint8], start: int, count: int) -> tuple[list[bytes], int] | None:
    """So many names, each whole, and where they end; None if there are not."""
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
    """So many names, each behind the number of characters it shares with the one before; None if there are not."""
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
