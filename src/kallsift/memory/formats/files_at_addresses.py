"""Open files without a header at addresses from the user: ramdumps of phones (``DDRCS0.BIN``), parts of a board's RAM.

They are written as ``FILE@ADDRESS``, with commas between several:
``DDRCS0.BIN@0x80000000,DDRCS1.BIN@0x100000000``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment, sorted_segments

Part = tuple[str | os.PathLike[str], int]
"""A file, and the physical address of its first byte."""

PART_LIMIT = 1 << 10
ADDRESS_LIMIT = 1 << 64

_PART = re.compile(r"(?P<path>.+?)@(?P<address>0[xX][0-9a-fA-F]+|[0-9]+)(?:,|\Z)", re.DOTALL)


def parts(source: str | os.PathLike[str] | Sequence[Part | str]) -> tuple[Part, ...] | None:
    """Return the files and addresses that a source names.

    The result is None if the source is the name of one file.

    Raises:
        SourceError: if only some of several have an address.
    """
    if isinstance(source, str | os.PathLike):
        text = os.fspath(source)
        return None if not text or Path(text).exists() else _split(text)
    found: list[Part] = []
    for each in source:
        if isinstance(each, str):
            named = _split(each)
            if named is None:
                raise SourceError(f"{each!r}: has no address; write it as FILE@ADDRESS")
            found += named
        else:
            found.append(each)
    return tuple(found)


def _split(text: str) -> tuple[Part, ...] | None:
    found: list[Part] = []
    position = 0
    while position < len(text):
        match = _PART.match(text, position)
        if not match:
            return None
        found.append((match["path"], int(match["address"], 0)))
        position = match.end()
    return tuple(found)


def open_placed(views: Sequence[tuple[str, NDArray[np.uint8], int]]) -> Memory:
    """Open the memory that files hold at their addresses.

    Args:
        views: for each file its name in messages, all of its bytes, and the address of the first byte.

    Raises:
        SourceError: if they overlap, or an address is invalid.
    """
    name = ", ".join(f"{each}@{address:#x}" for each, _, address in views)
    if not views or len(views) > PART_LIMIT:
        raise SourceError(f"{len(views)} files with addresses were given; give between 1 and {PART_LIMIT}")
    for each, view, address in views:
        if address < 0 or address + len(view) > ADDRESS_LIMIT:
            raise SourceError(f"{each}: does not fit at address {address:#x}; give the address of its first byte")
    segments = sorted_segments(BytesSegment(address, view) for _, view, address in views)
    return Memory(name, "files at addresses", AddressSpace.PHYSICAL, segments)
