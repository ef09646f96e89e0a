"""Files that list a kernel's symbols instead of holding a kernel, recognised by their content."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from kallsift.errors import SourceError
from kallsift.memory.containers import mapped
from kallsift.memory.model import printable
from kallsift.questions import listing_elf, listing_text
from kallsift.questions.listing import Listing


def listed(source: str | os.PathLike[str], *, elf: bool = False) -> Listing | None:
    """What a file lists; None if it is none that does, or does not exist.

    ``/proc/kallsyms`` itself is such a file.

    Args:
        source: the file.
        elf: whether an ELF program with a symbol table counts as well, though it may hold a kernel.

    Raises:
        SourceError: if it is one, but cannot be read.
    """
    path = Path(source)
    name = printable(os.fspath(source))
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            beginning = np.frombuffer(file.read(listing_text.BEGINNING), np.uint8)
            if listing_text.probe(beginning):
                file.seek(0)
                # files of /proc have no size, and cannot be mapped
                return listing_text.read(name, np.frombuffer(file.read(listing_text.LARGEST + 1), np.uint8))
    except (OSError, ValueError) as error:
        raise SourceError(f"{name}: cannot be read ({printable(str(error))}); check the path") from error
    if elf and beginning[:4].tobytes() == b"\x7fELF":
        _, view = mapped(source)
        if listing_elf.probe(view):
            return listing_elf.read(name, view)
    return None
