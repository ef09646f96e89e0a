"""Open the core of a process that is a kernel itself: user-mode Linux, which runs at the addresses of its ELF file.

Format: as of every core (System V gABI, chapter 5); PT_LOAD gives the virtual addresses of the process, which are the
kernel's own (Linux, arch/um/kernel/uml.lds.S).
"""

from __future__ import annotations

from kallsift.arrays import Bytes
from kallsift.image import kernel_signature
from kallsift.memory.formats.elf_headers import LOAD, read_headers
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment, sorted_segments


def open(name: str, view: Bytes) -> Memory | None:
    """Return the memory of a process that has a token table.

    The result is None if it has none, as with other programs.

    Args:
        name: name of the source in messages.
        view: the whole core, shape (size,), uint8.

    Raises:
        SourceError: if headers are broken.
    """
    if not kernel_signature.holds_token_table(view):
        return None
    programs = read_headers(name, view).programs
    loads = programs[(programs["type"] == LOAD) & (programs["file_size"] > 0)]
    columns = (loads[field].tolist() for field in ("virtual", "offset", "file_size"))
    segments: list[BytesSegment] = []
    for start, offset, size in sorted(zip(*columns, strict=True)):
        # overlapping segments are an error of the program that wrote the core: the first one wins
        skipped = max(0, segments[-1].end - start) if segments else 0
        data = view[offset : offset + size][skipped:]
        if len(data) and start + size <= 1 << 64:
            segments.append(BytesSegment(start + skipped, data))
    if not segments:
        return None
    return Memory(name, "ELF core of a process", AddressSpace.VIRTUAL, sorted_segments(segments))
