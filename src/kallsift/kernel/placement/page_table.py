"""Find the page table that maps a kernel's image where it lies, and prove by its lists that this kernel runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.encryption import ARCHITECTURE as ENCRYPTING
from kallsift.arch.encryption import (
    SHARED_MASKS,
    bits_beyond,
    is_shared_bit,
    with_encryption,
    without_encryption,
)
from kallsift.arch.paging import PRESENT, Mapping, PagingMode, translate, walk
from kallsift.arch.registry import ROOT_REGISTERS, ROOT_SYMBOLS, modes, windows
from kallsift.kallsyms.evidence import Check, CheckId
from kallsift.kallsyms.recovered_tables import Tables
from kallsift.kernel.placement.mapped_segments import with_mapped_segments
from kallsift.kernel.placement.placement import CHANCE, LEAST_LISTS, Placement
from kallsift.kernel.placement.pointer_targets import Targets, hits_on_symbols
from kallsift.kernel.placement.pointers import (
    AFTER,
    BEFORE,
    ENOUGH_LISTS,
    LIST_BATCH,
    MAX_POINTERS,
    PAGE,
    Pointers,
    Translation,
    closed_lists,
    list_heads,
    outside_of,
    single_elements,
    words_around,
)
from kallsift.memory.memory import Memory
from kallsift.memory.segments import BytesSegment

LEAST_OWN = 3
"""Lowest number of pointers to functions beside a running kernel's lists, more than by chance."""

LEAST_ELEMENTS = 64
"""Lowest number of lists of one element outside the image that only the image of a kernel that ran has."""

MAX_RIVALS = 64
"""Highest number of page tables, of those that map an image where it lies, that are compared by a sample of lists."""

MAX_FINALISTS = 4
"""Number of the best of them that are compared by all lists."""

DATA_ROOM = 16 << 20
"""Highest distance of data above and below the text, in bytes."""


def _image(tables: Tables, placement: Placement, own: Targets) -> range:
    """Return the virtual addresses that an image covers.

    Where only text is listed, there is room for the data.
    """
    low, high = placement.virtual(tables.places[0][1]), placement.virtual(tables.places[-1][1] + tables.places[-1][2])
    room = 0 if "linux_banner" in placement.symbols else DATA_ROOM
    return range(max(0, min(low, int(own.addresses[0])) - room), max(high, int(own.addresses[-1])) + room + 1)


def with_mapping(
    memory: Memory, tables: Tables, placement: Placement, window: BytesSegment, own: Targets, *, is_running_only: bool
) -> Placement:
    """Return the placement with the mapping of the tables, and the lists that close.

    Args:
        memory: physical memory.
        tables: the placed tables.
        placement: their placement.
        window: the image.
        own: its symbols.
        is_running_only: whether less is to be found out of an image that does not run.
    """
    words, distance, image = placement.words, placement.distance, _image(tables, placement, own)
    places = np.array([place for _, place, _ in tables.places], np.uint64)
    data_listed = "linux_banner" in placement.symbols
    linear = _linear(memory, placement, image)
    # lists are searched only on demand: in most layouts of bare RAM nothing maps the tables
    found_heads = cache(lambda: list_heads(_part(window, image, placement), words, image, linear))
    best: tuple[int, int | None, Mapping, str] | None = None
    candidates = _fitting(memory, tables, placement, places)
    for origin, root, mapping in candidates:
        heads = found_heads()
        closed = closed_lists(memory, heads, words, distance, Translation(mapping, root))
        lists = len(closed.places) if data_listed or _own_lists(memory, closed, placement, own) else 0
        # without lists only a table that a symbol names is reported: others can fit by chance
        if (lists >= LEAST_LISTS or origin in ROOT_SYMBOLS) and (best is None or lists > best[0]):
            best = (lists, root, mapping, origin)
        if lists >= ENOUGH_LISTS:
            origin, root, mapping = _furthest(memory, placement, heads, [(origin, root, mapping), *candidates])
            best = (lists, root, mapping, origin)
            break
    if best is None or best[0] < LEAST_LISTS:
        if is_running_only:
            return placement
        # some pairs of instructions look like addresses
        data = outside_of(found_heads(), placement.code_ranges)
        elements = single_elements(memory, data, words, image, _held(memory, linear, image))
        placement = replace(placement, ran=elements >= LEAST_ELEMENTS)
    if best is None:
        nothing = f"no page table of this image maps its tables where they lie{_history(placement)}"
        return placement.with_checks(Check.that(CheckId.PAGE_TABLE, False, nothing))
    lists, root, mapping, origin = best
    mapping, attributes = _with_attributes(memory, placement, mapping)
    where = origin if root is None else f"{origin} at {root:#x}"
    found = replace(placement, mapping=mapping, root=root, lists=lists)
    checked = found.with_checks(
        Check.that(
            CheckId.PAGE_TABLE,
            True,
            f"{where} ({mapping.architecture}, {mapping.name}) maps all {len(places)} tables where they lie",
        ),
        Check.that(
            CheckId.ALIVE,
            lists >= LEAST_LISTS,
            f"{'at least ' * (lists >= ENOUGH_LISTS)}{lists} lists run from the image through other memory and back"
            + ("" if lists >= LEAST_LISTS else f": this image does not run{_history(placement)}"),
        ),
        *attributes,
    )
    return with_mapped_segments(memory, checked, window) if checked.running else checked


def _with_attributes(memory: Memory, placement: Placement, mapping: Mapping) -> tuple[Mapping, tuple[Check, ...]]:
    """Return the mapping with the attribute bits of its entries, and their checks.

    Attribute bits are bits of entries that are no part of an address.
    """
    if not isinstance(mapping, PagingMode):
        return mapping, ()
    notes: list[str] = []
    if mapping.attribute_bits:
        bit = mapping.attribute_bits.bit_length() - 1
        notes.append(
            f"bit {bit} is set in all entries of the kernel's half: it marks encrypted memory (AMD SME or SEV)"
        )
    variables = placement.symbols.all(SHARED_MASKS.get(mapping.architecture, ""))[:1]
    places = np.array([placement.physical(symbol.address) for symbol in variables], np.uint64)
    for value in memory.words(places, placement.words.dtype)[0].tolist():
        if is_shared_bit(value, memory.segments[-1].end) and not mapping.attribute_bits & value:
            mapping = mapping.with_attributes(value)
            notes.append(f"bit {value.bit_length() - 1} marks memory shared with the host, as {variables[0].name} says")
    return mapping, tuple(
        Check.that(CheckId.ATTRIBUTE_BITS, True, f"{line}, and is no part of addresses") for line in notes
    )


def _fitting(
    memory: Memory, tables: Tables, placement: Placement, places: NDArray[np.uint64]
) -> Iterator[tuple[str, int | None, Mapping]]:
    """Yield those of the candidates that map all tables where they lie."""
    virtual = placement.words.wrap(places + np.uint64(placement.distance))
    end = memory.segments[-1].end
    for origin, root, mapping in _mappings(memory, tables, placement):
        if root is not None and isinstance(mapping, PagingMode):
            mapping = with_encryption(memory, end, mapping, root)
        physical, mapped = translate(memory, mapping, root, virtual)
        if mapped.all() and np.array_equal(physical, places):
            yield origin, root, mapping


def _furthest(
    memory: Memory, placement: Placement, heads: Pointers, candidates: list[tuple[str, int | None, Mapping]]
) -> tuple[str, int | None, Mapping]:
    """Return the candidate through which most lists close.

    Several tables map the image itself alike: those of processes, those that it booted with, and the same table read
    with another size of pages at a level that is not needed there.
    """
    if len(candidates) == 1:
        return candidates[0]

    def closed(candidate: tuple[str, int | None, Mapping], heads: Pointers) -> int:
        _, root, mapping = candidate
        by = Translation(mapping, root)
        found = closed_lists(memory, heads, placement.words, placement.distance, by, enough=MAX_POINTERS)
        return len(found.places)

    step = -(-len(heads.places) // LIST_BATCH)
    sample = Pointers(heads.places[::step], heads.values[::step])
    rivals = sorted(candidates[:MAX_RIVALS], key=lambda candidate: -closed(candidate, sample))
    start = placement.virtual(int(heads.places[0]))
    finalists = rivals[:MAX_FINALISTS]
    return max(finalists, key=lambda candidate: (closed(candidate, heads), _entries_from(memory, candidate, start)))


def _entries_from(memory: Memory, candidate: tuple[str, int | None, Mapping], start: int) -> int:
    """Return the number of used entries of a top table, from that of an address on.

    The table that 32-bit kernels boot with lacks what is mapped behind all RAM later, and lists need not run there.
    """
    _, root, mapping = candidate
    if root is None or not isinstance(mapping, PagingMode):
        return 0
    count = 1 << mapping.virtual_bits - mapping.shifts[0]
    first = int(mapping.index(np.array([start], np.uint64), 0)[0])
    places = np.uint64(root) + np.arange(first, count, dtype=np.uint64) * np.uint64(mapping.entry.itemsize)
    entries, held = memory.words(places, mapping.entry)
    return int(np.count_nonzero(held & (mapping.classify(entries, 0) & PRESENT != 0)))


def _linear(memory: Memory, placement: Placement, image: range) -> range:
    """Return the virtual addresses of memory that lists can run through.

    A 64-bit kernel in the upper half of the address space allocates memory in this half only; images of 32-bit kernels
    lie in the linear map of all memory.
    """
    if placement.words.size == 8:
        return range(image.start >> 63 << 63, 1 << 64)
    low = placement.virtual(memory.segments[0].start)
    return range(low, min(1 << 32, low + memory.segments[-1].end - memory.segments[0].start))


def _held(memory: Memory, linear: range, image: range) -> range:
    """Return the addresses that can be those of memory if no page table tells.

    For images at low addresses these are the addresses of the memory itself.
    """
    return linear if linear.stop <= 1 << 32 or image[-1] >> 56 else range(0, memory.segments[-1].end)


def _history(placement: Placement) -> str:
    return ", though its lists show that it ran" if placement.ran else ""


def _own_lists(memory: Memory, closed: Pointers, placement: Placement, own: Targets) -> bool:
    """Tell whether structures with lists use functions of this kernel.

    They may use those of another copy beside it: where only text is listed, nothing else tells whose the data are.
    Kernels of MIPS copy themselves before they run.
    """
    around = words_around(memory, closed.places, placement.words)
    inside = (around >= own.addresses[0]) & (around - np.uint64(1) <= own.addresses[-1])
    hits = hits_on_symbols(around[inside], own, placement.code_bit)
    return hits.count >= LEAST_OWN + CHANCE * hits.by_chance


def _part(window: BytesSegment, image: range, placement: Placement) -> BytesSegment:
    """Return the part of the image that a window holds."""
    start = placement.virtual(window.start)
    if start > image.stop:  # the window reaches below address 0
        start -= placement.words.mask + 1
    low = max(0, image.start - start)
    high = max(low, image.stop - start)
    return BytesSegment(window.start + low, window.data[low:high])


def _mappings(memory: Memory, tables: Tables, placement: Placement) -> Iterator[tuple[str, int | None, Mapping]]:
    """Yield what can map the image.

    These are the table that a symbol names, else any page of the image; then the windows, which need no table.
    """
    yield from _roots(memory, tables, placement)
    for mapping in windows(tables.word_size, tables.byte_order):
        yield "the processor itself", None, mapping


def _roots(memory: Memory, tables: Tables, placement: Placement) -> Iterator[tuple[str, int, PagingMode]]:
    """Yield top-level tables that can be the kernel's own."""
    symbols, words, array = placement.symbols, placement.words, tables.array_address
    candidates = modes(tables.word_size, tables.byte_order)
    named = False
    for name in ROOT_SYMBOLS:
        for symbol in symbols.all(name):
            named = True
            for mode in candidates:
                yield name, placement.physical(symbol.address), mode
    for register, bits in ROOT_REGISTERS.items():
        for value in {cpu.registers.get(register, 0) & bits for cpu in memory.hints.cpus} - {0}:
            root = without_encryption(value, memory.segments[-1].end) if register == "cr3" else value
            for mode in candidates:
                yield f"the page table that {register.upper()} gives", root, mode
    if named:
        return
    low = max(0, array - BEFORE) // PAGE * PAGE
    pages = np.arange(low, array + AFTER, PAGE, dtype=np.uint64)
    for mode in candidates:
        wanted = np.full(len(pages), array + placement.distance & words.mask, np.uint64)
        physical, mapped = walk(memory, mode, pages, wanted)
        if not mapped.any() and mode.architecture == ENCRYPTING:
            # only the table that is searched tells which bit marks encrypted memory, so all possible bits are ignored
            possible = mode.with_attributes(bits_beyond(memory.segments[-1].end))
            physical, mapped = walk(memory, possible, pages, wanted)
        for page in pages[mapped & (physical == np.uint64(array))]:
            yield "a page table in the image", int(page), mode
