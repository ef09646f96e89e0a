"""The per-CPU areas: where each processor has its own copy of the static per-CPU data (mm/percpu.c)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kallsift.errors import UnmappedError
from kallsift.kallsyms.evidence import Check
from kallsift.kernel.model import Kernel
from kallsift.kernel.sections import Section
from kallsift.kernel.virtual import VirtualMemory

BASE, UNIT_SIZE, UNITS = "pcpu_base_addr", "pcpu_unit_size", "pcpu_nr_units"
"""Variables: the address of the first chunk, bytes for each processor, and their number; the latter are of type int."""

OFFSETS, TEMPLATE = "__per_cpu_offset", "__per_cpu_start"
"""What is added to a per-CPU symbol's address for each processor, and the first such address."""

MAX_UNITS, MAX_SIZE = 1 << 14, 1 << 36


def per_cpu_areas(kernel: Kernel, memory: VirtualMemory) -> Iterator[tuple[Section, Check]]:
    """The areas, and whether the processors' offsets lead into them; nothing where the table has no data symbols."""
    symbols, words = kernel.symbols, memory.words
    if not all(name in symbols for name in (BASE, UNIT_SIZE, UNITS, OFFSETS, TEMPLATE)):
        return
    try:
        base = memory.value(symbols[BASE].address)
        unit, count = (memory.value(symbols[name].address, 4) for name in (UNIT_SIZE, UNITS))
    except UnmappedError:
        return
    end = base + unit * count
    if not 0 < count <= MAX_UNITS or not 0 < unit * count <= MAX_SIZE or end > words.mask + 1:
        return
    places = np.uint64(symbols[OFFSETS].address) + np.arange(count, dtype=np.uint64) * np.uint64(words.size)
    offsets, held = memory.values(places)
    own = words.wrap(offsets[held] + np.uint64(symbols[TEMPLATE].address))
    inside = int(np.count_nonzero((own >= np.uint64(base)) & (own < np.uint64(end))))
    detail = f"{inside} processors have their data in it"
    yield Section("per-CPU areas", base, end, BASE), Check.that(OFFSETS, inside > 0, detail)
