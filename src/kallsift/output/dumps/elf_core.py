"""Write ELF cores of machines, as QEMU's dump-guest-memory does.

The notes come first, then a segment for each range of memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kallsift.memory.formats.elf_headers import (
    COUNT_ELSEWHERE,
    FILE_HEADER,
    LOAD,
    MAGIC,
    NOTE,
    PROGRAM_HEADER,
    SECTION_HEADER,
    TYPE_CORE,
)
from kallsift.memory.memory import Memory
from kallsift.output.dumps.chunks import Piece, Progress, chunks, view
from kallsift.output.dumps.machine_facts import Facts
from kallsift.output.dumps.notes import dump_notes
from kallsift.output.elf.machines import MACHINES, UNKNOWN

ALIGNMENT = 4096
"""Alignment of segments in the file, in bytes.

It lets readers map the segments, and blank pages be holes.
"""


def elf_core_dump(memory: Memory, facts: Facts, progress: Progress | None = None) -> Iterator[Piece]:
    """Yield the pieces of the file, in order.

    The program headers directly follow the file header, because makedumpfile expects them there.
    """
    last = memory.segments[-1].end
    bits = 32 if facts.word_size == 4 and last <= 1 << 32 else 64
    order = facts.byte_order
    header_layout, layout = (table[bits].newbyteorder(order) for table in (FILE_HEADER, PROGRAM_HEADER))
    notes = dump_notes(facts)
    count = len(memory.segments) + 1
    many = count >= COUNT_ELSEWHERE
    table_end = header_layout.itemsize + count * layout.itemsize
    notes_start = table_end + (SECTION_HEADER[bits].itemsize if many else 0)
    sizes = np.array([stretch.size for stretch in memory.segments], np.uint64)
    room = sizes + -sizes % np.uint64(ALIGNMENT)
    start = notes_start + len(notes)
    start += -start % ALIGNMENT
    offsets = np.uint64(start) + np.cumsum(room) - room

    programs = np.zeros(count, layout)
    programs["type"] = LOAD
    programs["physical"][1:] = programs["virtual"][1:] = [stretch.start for stretch in memory.segments]
    programs["offset"][1:] = offsets
    programs["file_size"][1:] = programs["memory_size"][1:] = sizes
    programs["type"][0], programs["offset"][0], programs["alignment"][0] = NOTE, notes_start, 4
    programs["file_size"][0] = programs["memory_size"][0] = len(notes)

    machine = MACHINES.get(facts.architecture or "", UNKNOWN)
    header = np.zeros(1, header_layout)
    ident = MAGIC + bytes([bits // 32, 1 if order == "<" else 2, 1])
    header["ident"] = np.frombuffer(ident.ljust(16, b"\0"), np.uint8)
    header["type"], header["machine"], header["version"] = TYPE_CORE, machine.number, 1
    header["flags"] = machine.little if order == "<" else machine.big
    header["program_offset"], header["header_size"] = header_layout.itemsize, header_layout.itemsize
    header["program_size"], header["program_count"] = layout.itemsize, min(count, COUNT_ELSEWHERE)
    section = b""
    if many:
        record = np.zeros(1, SECTION_HEADER[bits].newbyteorder(order))
        record["info"] = count
        section = record.tobytes()
        header["section_offset"], header["section_size"], header["section_count"] = table_end, len(section), 1
    yield 0, header.tobytes() + programs.tobytes() + section + notes

    for number, address, data in chunks(memory, progress):
        yield int(offsets[number]) + address - memory.segments[number].start, view(data)
