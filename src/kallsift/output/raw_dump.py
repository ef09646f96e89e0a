"""Raw memory: every byte at the offset that its physical address says."""

from __future__ import annotations

from collections.abc import Iterator

from kallsift.memory.model import Memory
from kallsift.output.dump_pieces import Piece, Progress, chunks, view
from kallsift.output.memory_facts import Facts


def raw_dump(memory: Memory, _facts: Facts, progress: Progress | None = None) -> Iterator[Piece]:
    """The pieces of the file; what is not mapped stays a hole."""
    for _, address, data in chunks(memory, progress):
        yield address, view(data)
