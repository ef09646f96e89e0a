"""Addresses at the very end of the address space, where the next one is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kallsift.analysis.pointer_tables.per_cpu import per_cpu_areas
from kallsift.errors import UnmappedError
from kallsift.kernel.access.virtual_memory import virtual_memory
from kallsift.modules.field_inference import infer_layout
from kallsift.modules.struct_module import STRUCT_WORDS, structures_at
from tests.kernel.made_up import IMAGE, ROWS, WORDS, made_up
from tests.modules.made_modules import Made, made_modules
from tests.output.sample import table

LAST = 1 << 64
PER_CPU = ("pcpu_base_addr", "pcpu_unit_size", "pcpu_nr_units", "__per_cpu_offset")


@pytest.mark.parametrize(
    ("address", "size"), [(LAST - 1, 2), (LAST - 4096, 4097), (LAST - 1, 1), (LAST + 5, 1), (LAST - 8, 1 << 20)]
)
def test_reading_over_the_end(address: int, size: int) -> None:
    memory = virtual_memory(made_up())
    with pytest.raises(UnmappedError):
        memory.read(address, size)
    with pytest.raises(UnmappedError):
        memory.string(address)
    with pytest.raises(UnmappedError):
        memory.value(address)


def test_per_cpu_areas_up_to_the_end() -> None:
    places = {name: IMAGE + 0x1100 + 8 * number for number, name in enumerate(PER_CPU)}
    values = dict(zip(places.values(), (LAST - 4096, 4096, 1, LAST - 64), strict=True))
    rows = [*ROWS, *((place, "D", name) for name, place in places.items()), (0, "A", "__per_cpu_start")]
    kernel = replace(made_up({**WORDS, **values}), symbols=table(sorted(rows)))
    ((section, check),) = per_cpu_areas(kernel, virtual_memory(kernel))
    assert (section.start, section.end) == (LAST - 4096, LAST)
    assert check.detail == "1 processors have their per-CPU data in it"


@pytest.mark.parametrize("word", [STRUCT_WORDS - 1, STRUCT_WORDS - 2])
def test_the_last_words_of_structures(word: int) -> None:
    """Behind what looks like the links of a list, or like a group of sections, nothing is left to look at."""
    made = made_modules(1)
    made.arena.link(made.arena.take(16), [address + 8 * word for address in made.addresses])
    _survives(made)
    made = made_modules(1)
    name = made.arena.text("sections")
    for address in made.addresses:
        made.arena.put(address + (made.fields.sections or 0), 0)
        group = made.arena.take(16)
        made.arena.put(group, name)
        made.arena.put(address + 8 * word, group)
    _survives(made)


def _survives(made: Made) -> None:
    assert infer_layout(made.arena.memory, structures_at(made.arena.memory, np.array(made.addresses, np.uint64)))
