"""Find the per-CPU areas, with each processor's copy of the static per-CPU data.

Source: mm/percpu.c.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kallsift.errors import UnmappedError
from kallsift.kallsyms.evidence import Check, CheckId
from kallsift.kernel.access.image_sections import ImagePart, address_of
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.kernel import Kernel

BASE, UNIT_SIZE, UNITS = "pcpu_base_addr", "pcpu_unit_size", "pcpu_nr_units"
"""Variables with the bounds of the first chunk.

They are its address, the bytes for each processor, and the number of processors. The latter two are of type int.
"""

OFFSETS, TEMPLATE = "__per_cpu_offset", "__per_cpu_start"
"""The array of each processor's offset, and the first address of a per-CPU symbol.

A processor's copy lies at the symbol's address plus the offset.
"""

MAX_UNITS, MAX_SIZE = 1 << 14, 1 << 36


def per_cpu_areas(kernel: Kernel, memory: VirtualMemory) -> Iterator[tuple[ImagePart, Check]]:
    """Yield the per-CPU areas, and whether the processors' offsets lead into them.

    Nothing is yielded if the symbol table has no data symbols.
    """
    words = memory.words
    places = [address_of(kernel, name) for name in (BASE, UNIT_SIZE, UNITS, OFFSETS, TEMPLATE)]
    known = [place for place in places if place is not None]
    if len(known) < len(places):
        return
    base_place, unit_place, count_place, offsets_place, template = known
    try:
        base = memory.value(base_place)
        unit, count = memory.value(unit_place, 4), memory.value(count_place, 4)
    except UnmappedError:
        return
    end = base + unit * count
    if not 0 < count <= MAX_UNITS or not 0 < unit * count <= MAX_SIZE or end > words.mask + 1:
        return
    steps = np.arange(count, dtype=np.uint64) * np.uint64(words.size)
    offsets, held = memory.values(np.uint64(offsets_place) + steps)
    own = words.wrap(offsets[held] + np.uint64(template))
    inside = int(np.count_nonzero(own - np.uint64(base) < np.uint64(end - base)))
    detail = f"{inside} processors have their per-CPU data in it"
    yield ImagePart("per-CPU areas", base, end, BASE), Check.that(CheckId.PER_CPU_OFFSET, inside > 0, detail)
