"""Open files that list a kernel's symbols instead of holding a kernel.

Their kind is recognised by their content.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kallsift.analysis.listings import text as listing_text
from kallsift.analysis.listings.lines import begins_listing
from kallsift.analysis.listings.listing import Listing
from kallsift.budget import WorkBudget
from kallsift.errors import SourceError
from kallsift.memory.formats.registry import CONTAINERS, ELF, STANDARD_INPUT, mapped, system_reason
from kallsift.memory.input_files import open_input
from kallsift.memory.memory import printable

BEGINNING = 4096
"""Number of bytes at the beginning of a file from which its kind is recognised."""

COMPRESSED = CONTAINERS["compressed"]
"""The magic bytes of compressed files."""


def listed(source: str | os.PathLike[str], *, elf: bool = False) -> Listing | None:
    """Return the listing in a file; None if it has none, or does not exist.

    ``/proc/kallsyms`` itself is such a file.

    Args:
        source: the file.
        elf: whether to accept an ELF program with a symbol table, though it may hold a kernel.

    Raises:
        SourceError: if the file has a listing, but cannot be read.
    """
    if os.fspath(source) == STANDARD_INPUT:
        name, view = mapped(source)
        return _read(name, view, elf)
    path, name = Path(source), printable(os.fspath(source))
    try:
        if not path.is_file():
            return None
        with open_input(path) as file:
            beginning = file.read(BEGINNING)
            if begins_listing(beginning):
                # files of /proc have no size, and cannot be mapped
                rest = file.read(listing_text.MAX_SIZE + 1 - len(beginning))
                return listing_text.read(name, np.frombuffer(beginning + rest, np.uint8))
    except (OSError, ValueError) as error:
        raise SourceError(f"{name}: cannot be read ({system_reason(error)}); check the path") from error
    if not beginning.startswith(COMPRESSED) and not (elf and beginning.startswith(ELF)):
        return None
    return _read(name, mapped(source)[1], elf)


def _read(name: str, view: NDArray[np.uint8], elf: bool) -> Listing | None:
    """Return the listing in the bytes of a file; None if they are something else."""
    beginning = view[:BEGINNING].tobytes()
    if begins_listing(beginning):
        return listing_text.read(name, view)
    if beginning.startswith(COMPRESSED):
        return _unpacked(name, view)
    if not (elf and beginning.startswith(ELF)):
        return None
    from kallsift.analysis.listings import elf as listing_elf

    return listing_elf.read(name, view) if listing_elf.probe(view) else None


def _unpacked(name: str, view: NDArray[np.uint8]) -> Listing | None:
    """Return the listing in a compressed file; None if it holds something else."""
    from kallsift.memory.formats.compressed import compression_of
    from kallsift.memory.spool import STREAMS, DamagedStreamError
    from kallsift.optional_package import MissingPackageError

    compression = compression_of(view[:BEGINNING].tobytes())
    if compression is None:
        return None
    text, problem = bytearray(), None
    try:
        for piece in STREAMS[compression](view.data, WorkBudget.of(len(view))):
            text += piece
            if not begins_listing(bytes(text[:BEGINNING])):
                return None
            if len(text) > listing_text.MAX_SIZE:
                break
    except MissingPackageError:
        return None
    except DamagedStreamError as error:
        problem = f"{name}: the {compression} stream {error}; copy it again"
    if not begins_listing(bytes(text[:BEGINNING])):
        return None
    found = listing_text.read(name, np.frombuffer(bytes(text), np.uint8))
    return found if problem is None else replace(found, missing=(problem, *found.missing))
