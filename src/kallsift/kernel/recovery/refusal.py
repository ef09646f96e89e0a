"""Describe a source in which no symbol table was found."""

from __future__ import annotations

import re

from kallsift.memory.memory import Memory, printable
from kallsift.memory.segments import BytesSegment

MARK = b"kallsyms_"
"""Beginning of strings in every kernel with a symbol table: names of functions and of exports."""

_VERSION = re.compile(rb"Linux version [0-9][!-~]{0,63}")
"""Pattern of the beginning of linux_banner (init/version.c)."""


def recognised(memory: Memory) -> str | None:
    """Return the kernel that a file holds, and why it has no table, as a text.

    None if there is no banner.

    Args:
        memory: an image that was unpacked, or a file without a header.
    """
    parts = [segment.read() for segment in memory.segments if isinstance(segment, BytesSegment)]
    found = next((match for data in parts if (match := _VERSION.search(data.data))), None)
    if found is None:
        return None
    architecture = memory.image.architecture if memory.image else None
    packaging = memory.image.packaging if memory.image else ()
    kernel = printable(found.group().decode("ascii"))
    kernel += f" ({architecture})" if architecture else ""
    kernel += f", unpacked from {', '.join(packaging)}" if packaging else ""
    mark = re.compile(re.escape(MARK))
    if any(mark.search(data.data) for data in parts):
        return f"{kernel}; it names functions of kallsyms, but its token table is lost, or in no form that is known"
    return f'{kernel}; it was built without kallsyms: no token table, no "{MARK.decode()}" string'
