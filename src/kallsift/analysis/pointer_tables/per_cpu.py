"""The per-CPU areas: where each processor has its own copy of the static per-CPU data (mm/percpu.c)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kallsift.errors import UnmappedError
from kallsift.kallsyms.evidence import Check, CheckId
from kallsift.kernel.access.image_sections import Section, address_of
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.kernel import Kernel

BASE, UNIT_SIZE, UNITS = "pcpu_base_addr", "pcpu_unit_size", "pcpu_nr_units"
"""Variables: the address of the first chunk, bytes for each processor, and their number; the latter are of type int."""

OFFSETS, TEMPLATE = "__per_cpu_offset", "__per_cpu_start"
"""What is added to a per-CPU symbol's address for each processor, and the first such address."""

MAX_UNITS, MAX_SIZE = 1 << 14, 1 << 36


def per_cpu_areas(kernel: Kernel, memory: VirtualMemory) -> Iterator[tuple[Section, Check]]:
    """The areas, and whether the processors' offsets lead into them; nothing where the table has no data symbols."""
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
    detail = f"{inside} processors have their data in it"
    yield Section("per-CPU areas", base, end, BASE), Check.that(CheckId.PER_CPU_OFFSET, inside > 0, detail)
