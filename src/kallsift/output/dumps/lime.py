"""Write LiME dumps: each range of memory behind a header with its addresses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kallsift.memory.formats.lime import MAGIC, VERSION
from kallsift.memory.formats.range_headers import RANGE_HEADER
from kallsift.memory.memory import Memory
from kallsift.output.dumps.chunks import Piece, Progress, chunks, view
from kallsift.output.dumps.machine_facts import Facts


def lime_dump(memory: Memory, facts: Facts, progress: Progress | None = None) -> Iterator[Piece]:
    """Yield the pieces of the file, in order."""
    layout = RANGE_HEADER.newbyteorder(facts.byte_order)
    position, begun = 0, -1
    for number, address, data in chunks(memory, progress):
        stretch = memory.segments[number]
        if number != begun:
            begun = number
            header = np.array([(MAGIC, VERSION, stretch.start, stretch.end - 1, 0)], layout)
            yield position, header.tobytes()
            position += layout.itemsize + stretch.size
        yield position + address - stretch.end, view(data)
