"""Tables of MIPS kernels of many configurations, none of which is told: found and read, or not believed."""

from __future__ import annotations

from dataclasses import replace
from time import process_time

import numpy as np
import pytest

from kallsift.arch.page_table_ranges import mapped_ranges
from kallsift.arch.paging import Segmented, translate
from kallsift.arch.registry import mapping_named, segmented, windows
from kallsift.kallsyms.evidence import Outcome
from kallsift.kernel.placement.mapped_segments import LEAST_LISTS, SYMBOL, with_mapped_segments
from kallsift.kernel.placement.placement import Placement
from kallsift.memory.segments import BytesSegment
from tests.arch.mips_tables import (
    CACHED,
    CONFIGURATIONS,
    KSEG0,
    MODULES,
    RAM,
    SWAPPER,
    VMALLOC,
    Configuration,
    Machine,
)
from tests.output.sample import table

pytestmark = pytest.mark.sampled(4)

IMAGE = 1 << 20
"""Where the image's data are, heads of lists first."""

each = pytest.mark.parametrize("of", CONFIGURATIONS, ids=str)
some = pytest.mark.parametrize("of", [CONFIGURATIONS[0], CONFIGURATIONS[8]], ids=str)


def booted(of: Configuration, lists: int = 3) -> tuple[Machine, dict[int, int]]:
    """A machine with some lists through pages of both areas that are mapped, and which page lies where."""
    machine, size = Machine(of), of.words.size
    pages = [start + page * of.page for start in (VMALLOC[size], MODULES[size]) for page in (0, 1, 2, 5)]
    mapped = {}
    for number, virtual in enumerate(pages):
        mapped[virtual] = machine.take()
        if number % 3 == 0:
            machine.take()  # so that pages do not lie side by side
        machine.map(virtual, mapped[virtual])
    for number in range(lists):
        head, nodes = KSEG0[size] + IMAGE + 64 * number, [pages[number % 8], pages[(number + 5) % 8]]
        ring = [head, *(node + 0x100 + 64 * number for node in nodes)]
        for place, after, before in zip(ring, ring[1:] + ring[:1], ring[-1:] + ring[:-1], strict=True):
            physical = IMAGE + 64 * number if place == head else mapped[place // of.page * of.page] + place % of.page
            machine.put(physical, after, before)
    return machine, mapped


def placed(machine: Machine, *names: tuple[int, str]) -> Placement:
    """What is known before: that the image lies in kseg0."""
    words = machine.of.words
    rows = [
        (KSEG0[words.size] + IMAGE, "T", "_stext"),
        *((KSEG0[words.size] + place, "B", name) for place, name in names),
    ]
    symbols = table(sorted(rows), words.size)
    (mapping,) = (one for one in windows(words.size, words.byte_order) if one.architecture.startswith("mips"))
    known = Placement(symbols, KSEG0[words.size], words, (), mapping=mapping, lists=64)
    return with_mapped_segments(machine.memory, known, BytesSegment(0, machine.data))


@each
def test_pages_lie_where_the_kernel_put_them(of: Configuration) -> None:
    machine, mapped = booted(of)
    found = placed(machine)
    assert isinstance(found.mapping, Segmented)
    assert found.mapping.tables.name.endswith(f"{of.page >> 10} KiB pages, {of.where}")
    assert (found.root, found.checks[-1].outcome) == (SWAPPER, Outcome.PASSED)
    assert mapping_named(found.mapping.architecture, found.mapping.name, of.words.byte_order) is found.mapping
    virtual = np.array(sorted(mapped), np.uint64) + np.uint64(of.page - 1)
    physical, held = translate(machine.memory, found.mapping, found.root, virtual)
    assert held.all()
    assert physical.tolist() == [mapped[page] + of.page - 1 for page in sorted(mapped)]
    size = of.words.size
    others = [VMALLOC[size] + 3 * of.page, MODULES[size] + 6 * of.page, MODULES[size] - 1, 0x1000]
    assert not translate(machine.memory, found.mapping, found.root, np.array(others[:2] + others[3:], np.uint64))[
        1
    ].any()
    windowed, held = translate(machine.memory, found.mapping, found.root, np.array([CACHED[size] + 5], np.uint64))
    assert (windowed.tolist(), held.tolist()) == ([5], [True])


@each
def test_all_that_is_mapped(of: Configuration) -> None:
    """The tables that everything empty shares are no work, however many entries lead to them."""
    machine, mapped = booted(of)
    found = placed(machine)
    assert isinstance(found.mapping, Segmented)
    begin = process_time()
    ranges = mapped_ranges(machine.memory, found.mapping.tables, SWAPPER)
    assert process_time() - begin < 5
    pages = {
        start + step: place + step
        for start, size, place in zip(
            *(part.tolist() for part in (ranges.starts, ranges.sizes, ranges.physical)), strict=True
        )
        for step in range(0, size, of.page)
    }
    assert (ranges.whole, pages) == (True, mapped)


@some
def test_the_table_that_a_symbol_names_is_no_other(of: Configuration) -> None:
    machine, _ = booted(of)
    assert placed(machine, (SWAPPER, SYMBOL)).root == SWAPPER
    assert placed(machine, (2 * SWAPPER, SYMBOL)).root is None


@some
def test_a_process_has_a_table_like_it(of: Configuration) -> None:
    """It lies before the kernel's own and maps something of the process; of 32 bits, all that the kernel's does too."""
    machine, _ = booted(of)
    size = of.entries(0) * of.words.size
    process = SWAPPER - (1 << 20)
    machine.put(process, *[KSEG0[of.words.size] + machine.empty[1]] * of.entries(0))
    if of.words.size == 4:
        machine.data[process : process + size] = machine.data[SWAPPER : SWAPPER + size]
    machine.put(process + 8 * of.words.size, CACHED[of.words.size] + machine.take())
    assert placed(machine).root == SWAPPER


@some
def test_too_few_lists_prove_nothing(of: Configuration) -> None:
    for lists in range(LEAST_LISTS):
        found = placed(booted(of, lists)[0])
        assert not isinstance(found.mapping, Segmented)
        assert (found.root, found.checks[-1].outcome) == (None, Outcome.ABSENT)


@some
def test_lists_that_do_not_come_back(of: Configuration) -> None:
    """Each head's first member leads back to it, but the head takes that for the last one too."""
    machine, _ = booted(of)
    heads = machine.data[IMAGE : IMAGE + 3 * 64].view(of.words.dtype).reshape(3, -1)
    heads[:, 1] = heads[:, 0]
    assert placed(machine).root is None


@some
def test_tables_that_lead_to_themselves(of: Configuration) -> None:
    """All of their entries, or those that something was mapped by."""
    machine, _ = booted(of)
    size = of.words.size
    for place, index in machine.tables:
        machine.put(place + index * size, KSEG0[size] + place)
    assert placed(machine).root is None
    machine.put(SWAPPER, *[KSEG0[size] + SWAPPER] * of.entries(0))
    assert placed(machine).root is None
    shape = segmented(replace(placed(machine)).mapping, of.words.byte_order)[0][0]  # type: ignore[arg-type]
    begin = process_time()
    mapped_ranges(machine.memory, shape.tables, SWAPPER)
    assert process_time() - begin < 60


@pytest.mark.slow
@some
@pytest.mark.parametrize("used", [0, 1])
def test_tables_everywhere(of: Configuration, used: int) -> None:
    """All memory is full of top tables, and of heads of lists through what they seem to map."""
    machine, size = Machine(of), of.words.size
    row = [KSEG0[size] + SWAPPER] * (of.page // size)
    row[-2:] = [MODULES[size]] * 2 if used else row[-2:]
    machine.put(0, *row * (RAM // of.page))
    begin = process_time()
    assert placed(machine).root is None
    assert process_time() - begin < 20


@each
@pytest.mark.parametrize("seed", range(3))
def test_damage_is_no_harm(of: Configuration, seed: int) -> None:
    """Tables and lists with random bytes in them, or memory of nothing else: an answer, soon."""
    machine, _ = booted(of)
    random = np.random.default_rng(seed)
    if seed == 0:
        machine.data[:] = random.integers(0, 256, RAM, np.uint8)
    else:
        low, high = ((SWAPPER, SWAPPER + 8 * of.page), (2 * SWAPPER, machine.top))[seed - 1]
        machine.data[random.integers(low, high, (high - low) // 64)] ^= 0xFF
    begin = process_time()
    placed(machine)
    assert process_time() - begin < 20
