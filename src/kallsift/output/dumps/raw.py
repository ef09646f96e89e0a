"""Write raw memory: every byte at the offset that equals its physical address."""

from __future__ import annotations

from collections.abc import Iterator

from kallsift.errors import KallsiftError
from kallsift.memory.memory import Memory
from kallsift.output.dumps.chunks import Piece, Progress, chunks, view
from kallsift.output.dumps.machine_facts import Facts

MAX_FILE_SIZE = (1 << 63) - 1
"""Greatest size of a file in bytes: ``off_t`` is signed (lseek(2))."""


def raw_dump(memory: Memory, _facts: Facts, progress: Progress | None = None) -> Iterator[Piece]:
    """Yield the pieces of the file; addresses without memory stay a hole.

    Raises:
        KallsiftError: if the file would be longer than a file can be.
    """
    if memory.segments and memory.segments[-1].end > MAX_FILE_SIZE:
        highest = memory.segments[-1].end - 1
        raise KallsiftError(
            f"a raw file with memory at {highest:#x} would be longer than files can be; use --format lime or elf"
        )
    for _, address, data in chunks(memory, progress):
        yield address, view(data)
