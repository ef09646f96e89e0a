"""Walks between lost pages end where what they walk on ends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.damaged.page_map import PAGE, Pages
from kallsift.kallsyms.damaged.stream_walk import following_entries, walks_adrift
from kallsift.kallsyms.format.markers import MAX_ENTRY
from kallsift.memory.segments import BytesSegment

ENTRY = bytes((10, *b"tsymbolsof"))
"""The last one of a page has its letter still on that."""

LETTERS = np.isin(np.arange(256), list(b"tT"))


def walks_of(*pages: bytes) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """The walks on these pages between two blank ones, and where the entry at each byte ends."""
    data = np.frombuffer(b"".join((bytes(PAGE), *pages, bytes(PAGE))), np.uint8)
    lost = Pages.blank(BytesSegment(0, data), 0, len(data))
    following = following_entries(data, lost, 0, LETTERS, two_byte_lengths=True)
    return list(walks_adrift(following, lost, 0, np.empty(0, np.int64), len(data))), following


def entries(pages: int) -> list[bytes]:
    stream = ENTRY * (pages * PAGE // len(ENTRY) + 1)
    return [stream[number * PAGE : (number + 1) * PAGE] for number in range(pages)]


def test_a_walk_ends_at_the_entry_that_reaches_into_a_lost_page() -> None:
    [walk], _ = walks_of(*entries(2))
    assert 3 * PAGE - len(ENTRY) < walk[-1] <= 3 * PAGE
    assert (np.diff(walk) == len(ENTRY)).all()


def test_what_reaches_into_a_foreign_page_is_no_part_of_a_walk() -> None:
    first, _ = entries(2)
    [walk], following = walks_of(first, bytes((10,)) * PAGE)
    assert following[walk[-1]] > 2 * PAGE
    assert 2 * PAGE - len(ENTRY) < walk[-1] <= 2 * PAGE


def test_no_entry_is_longer_than_any_name() -> None:
    """A foreign page can begin with a length that leads behind it."""
    for size, fits in ((MAX_ENTRY, True), (MAX_ENTRY + 1, False)):
        codes = size - 2
        _, following = walks_of(bytes((0x80 | codes & 0x7F, codes >> 7, *b"t" * (PAGE - 2))), b"t" * PAGE)
        assert (following[PAGE] == PAGE + size) == fits
