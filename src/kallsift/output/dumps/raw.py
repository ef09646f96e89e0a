"""Raw memory: every byte at the offset that its physical address says."""

from __future__ import annotations

from collections.abc import Iterator

from kallsift.errors import KallsiftError
from kallsift.memory.memory import Memory
from kallsift.output.dumps.chunks import Piece, Progress, chunks, view
from kallsift.output.dumps.machine_facts import Facts

MAX_FILE_SIZE = (1 << 63) - 1
"""Bytes of a file at most: ``off_t`` is signed (lseek(2))."""


def raw_dump(memory: Memory, _facts: Facts, progress: Progress | None = None) -> Iterator[Piece]:
    """The pieces of the file; what is not mapped stays a hole.

    Raises:
        KallsiftError: if no file can be so long.
    """
    if memory.segments and memory.segments[-1].end > MAX_FILE_SIZE:
        highest = memory.segments[-1].end - 1
        raise KallsiftError(f"a raw file with memory at {highest:#x} is longer than files can be; use lime or elf")
    for _, address, data in chunks(memory, progress):
        yield address, view(data)
