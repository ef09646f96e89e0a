"""Search for strings in a kernel's image."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from kallsift.memory.segments import BytesSegment

TEXT_PART = 1 << 20
"""Bytes that are searched for a string at once."""


def places_of(window: BytesSegment, wanted: bytes, most: int) -> Iterator[int]:
    """Yield the addresses of a string, at most ``most``.

    The window is searched in parts, because it is large.
    """
    return islice(_places(window, wanted), most)


def _places(window: BytesSegment, wanted: bytes) -> Iterator[int]:
    # most of a window is zeros: a search for a string that begins or ends with NUL would stop there at every byte
    core = wanted.strip(b"\0")
    before = wanted.index(core)
    for start in range(0, len(window.data), TEXT_PART):
        text = window.data[start : start + TEXT_PART + len(wanted) - 1].tobytes()
        place = text.find(core)
        while place >= 0:
            if place >= before and text.startswith(wanted, place - before):
                yield window.start + start + place - before
            place = text.find(core, place + 1)
