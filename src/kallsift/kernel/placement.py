"""Placement: where a kernel's image is mapped, and whether it is the one that runs.

The candidates for the distance from places in the source to virtual addresses come from the image's own pointers; a
candidate holds if the kernel's own page table, or what its processor maps without one, maps its tables at that
distance. The direct map's alias of the same bytes never does, for nothing in an image points at its alias.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.evidence import Check, Outcome
from kallsift.kallsyms.table import SymbolTable
from kallsift.kallsyms.tables import Tables
from kallsift.kernel.base import with_base
from kallsift.kernel.pointers import (
    AFTER,
    BEFORE,
    ENOUGH_LISTS,
    LIST_BATCH,
    MAX_POINTERS,
    PAGE,
    Pointers,
    Words,
    closed_lists,
    distances,
    hits_on_symbols,
    list_heads,
    pointers_between,
    self_pointers,
    single_elements,
    words_around,
)
from kallsift.machine.model import Mapping, PagingMode, translate, walk
from kallsift.machine.registry import ROOT_REGISTERS, ROOT_SYMBOLS, modes, windows
from kallsift.memory.model import AddressSpace, Memory, Segment

LEAST_HITS = 32
"""Distinct pointers more than by chance that must equal symbols before they prove anything."""

CHANCE = 1.5
"""How many times more of them than by chance."""

LEAST_LISTS = 8
"""Lists through memory outside the image that only a running kernel has."""

LEAST_OWN = 3
"""Pointers to functions that there are at least beside a running kernel's lists, more than by chance."""

LEAST_ELEMENTS = 64
"""Lists of one element outside the image that only the image of a kernel that ran has."""

MAX_RIVALS = 64
"""Page tables that map an image where it lies, of which the best is looked for, by a sample of lists."""

MAX_FINALISTS = 4
"""Those of them that are compared by all lists."""

DATA_ROOM = 16 << 20
"""How far data reach above and below the text, in bytes."""

CODE = (("_stext", "_etext"), ("_sinittext", "_einittext"))
"""Symbols at the beginnings and the ends of machine code."""

FIRST_SYMBOLS = ("_text", "_stext", "stext", "_start")
"""What names the first byte of a flat image."""


@dataclass(frozen=True, eq=False)
class Placement:
    """A kernel's symbols with their addresses, and what is known of its mapping.

    Attributes:
        symbols: the table with its addresses.
        distance: virtual address less place in the source of each byte of the image, modulo 2^64.
        words: how the kernel's words are read.
        mapping: what maps the image; None if nothing is known to.
        root: physical address of the page table that does; None if none does.
        lists: lists that run through memory outside the image and close.
        ran: whether the image's data show that it ran, looked for only where it does not.
        checks: evidence for all of it.
        hits: distinct words of the image that equal symbols.
    """

    symbols: SymbolTable
    distance: int
    words: Words
    checks: tuple[Check, ...]
    mapping: Mapping | None = None
    root: int | None = None
    lists: int = 0
    ran: bool = False
    hits: int = 0

    @property
    def running(self) -> bool:
        """Whether the image is mapped and its lists close."""
        return self.mapping is not None and self.lists >= LEAST_LISTS

    def physical(self, virtual: int) -> int:
        """The place of a byte of the image."""
        return virtual - self.distance & self.words.mask

    def virtual(self, physical: int) -> int:
        """The virtual address of a byte of the image."""
        return physical + self.distance & self.words.mask


def placements(memory: Memory, tables: Tables) -> Iterator[Placement]:
    """The ways in which a kernel's image can be mapped, the likeliest first.

    Yields:
        One placement for each distance that the pointers in the image confirm: none, rather than a guess, where they
        confirm none.
    """
    words = Words(tables.word_size, tables.byte_order)
    window = memory.around(tables.array_address, BEFORE, AFTER)
    if tables.array.adrift:
        for based, found in with_base(memory, tables, window, words):
            for placement in placements(memory, based):
                yield _with(placement, found)
        return
    for distance, why in _distances(memory, tables, window, words):
        symbols = _symbols(tables, tables.array_address + distance & words.mask)
        own = near(symbols.addresses, words, tables.array_address + distance)
        if 2 * len(own) < len(symbols):
            continue
        hits, confirmed = _confirmed(window, words, own, tables, why, essential=memory.image is None)
        if confirmed is None:
            continue
        placement = Placement(symbols, distance, words, (why, confirmed), hits=hits)
        if memory.image is not None:
            absent = "not looked for: the source is a kernel image, which nothing has run yet"
            yield _with(placement, *(Check(name, Outcome.ABSENT, absent) for name in ("page table", "alive")))
        elif memory.space is AddressSpace.VIRTUAL:
            yield _with(placement, Check("page table", Outcome.ABSENT, "not looked for: the source's are used already"))
        else:
            yield _mapped(memory, tables, placement, window, own)


def is_near(addresses: NDArray[np.uint64], words: Words, anchor: int) -> NDArray[np.bool_]:
    """Whether addresses can be of the image that ``anchor`` is in.

    Others are absolute values or offsets into the per-CPU area. And objects that a kernel allocates point at
    themselves too, through the direct map: far from the image's addresses.
    """
    low = np.uint64(anchor - BEFORE & words.mask)
    return np.asarray(words.wrap(addresses - low) < np.uint64(BEFORE + AFTER))


def near(addresses: NDArray[np.uint64], words: Words, anchor: int) -> NDArray[np.uint64]:
    """Those addresses that can be of the image that ``anchor`` is in, ascending."""
    return np.sort(addresses[is_near(addresses, words, anchor)])


def _with(placement: Placement, *checks: Check) -> Placement:
    return replace(placement, checks=(*placement.checks, *checks))


def _distances(memory: Memory, tables: Tables, window: Segment, words: Words) -> Iterator[tuple[int, Check]]:
    """Distances from place to address, each with the reason to try it."""
    if memory.space is AddressSpace.VIRTUAL:
        given = "the image's headers give" if memory.image is not None else "the source has"
        yield 0, Check.that("virtual addresses", True, f"{given} virtual addresses")
        return
    found = distances(self_pointers(window, words), words)
    for distance, votes in found:
        detail = f"{votes} words point at themselves at a distance of {distance:#x}"
        yield distance, Check.that("self-pointers", True, detail)
    if memory.image is None:
        return
    tried = {distance for distance, _ in found}
    if (
        memory.image.base is not None
        and (base := memory.image.base - memory.segments[0].start & words.mask) not in tried
    ):
        tried.add(base)
        yield base, Check.that("base", True, f"a header of the image gives the base {memory.image.base:#x}")
    if tables.array.encoding.anchor != "place":
        symbols = _symbols(tables, 0)
        for name in FIRST_SYMBOLS:
            for symbol in symbols.all(name):
                distance = symbol.address - memory.segments[0].start & words.mask
                if distance not in tried:
                    tried.add(distance)
                    detail = f"it is taken to be at {symbol.address:#x}, the address of {name}"
                    yield distance, Check.that("first byte", True, detail)


def _symbols(tables: Tables, array_virtual: int) -> SymbolTable:
    words = Words(tables.word_size, tables.byte_order)
    addresses = words.wrap(tables.array.addresses(array_virtual))
    return SymbolTable(addresses, tables.characters, tables.bounds, tables.word_size, tables.known_addresses)


def _confirmed(
    window: Segment, words: Words, own: NDArray[np.uint64], tables: Tables, why: Check, *, essential: bool
) -> tuple[int, Check | None]:
    """How many words of the image equal symbols, and whether they do; None if they do not, and must.

    Args:
        window: the image.
        words: how to read it.
        own: addresses of the image's symbols, ascending.
        tables: where the symbols are from.
        why: the reason to have placed them so.
        essential: whether an image without such words is out of the question: one that ran has them.
    """
    found = pointers_between(window, words, int(own[0]), int(own[-1]))
    # the table of addresses would confirm itself
    foreign = found.places - np.uint64(tables.array_address) >= np.uint64(tables.array.size)
    hits, chance, inside = hits_on_symbols(found.values[foreign], own)
    if hits >= LEAST_HITS + CHANCE * chance:
        detail = f"{hits} of {inside} distinct pointers equal a symbol's address, against {chance:.0f} by chance"
        return hits, Check.that("pointers to symbols", True, detail)
    if essential or inside > LEAST_HITS:
        return hits, None
    detail = f"only {inside} words are addresses of the image: they are filled in when it boots"
    if why.name == "first byte":  # which is but a guess
        return hits, Check.that("pointers to symbols", False, detail)
    return hits, Check("pointers to symbols", Outcome.ABSENT, detail)


def _image(tables: Tables, placement: Placement, own: NDArray[np.uint64]) -> range:
    """The virtual addresses that an image covers; where only text is listed, with room for the data."""
    low, high = placement.virtual(tables.places[0][1]), placement.virtual(tables.places[-1][1] + tables.places[-1][2])
    room = 0 if "linux_banner" in placement.symbols else DATA_ROOM
    return range(max(0, min(low, int(own[0])) - room), max(high, int(own[-1])) + room + 1)


def _mapped(
    memory: Memory, tables: Tables, placement: Placement, window: Segment, own: NDArray[np.uint64]
) -> Placement:
    """The placement with what maps the tables where they lie, and the lists that close through it."""
    words, distance, image = placement.words, placement.distance, _image(tables, placement, own)
    places = np.array([place for _, place, _ in tables.places], np.uint64)
    data_listed = "linux_banner" in placement.symbols
    linear = _linear(memory, placement)
    heads = list_heads(_part(window, image, placement), words, image, linear)
    best: tuple[int, int | None, Mapping, str] | None = None
    candidates = _fitting(memory, tables, placement, places)
    for origin, root, mapping in candidates:
        closed = closed_lists(memory, heads, words, distance, mapping, root)
        lists = len(closed.places) if data_listed or _own_lists(memory, closed, words, own) else 0
        # without lists only the table that a symbol names is worth a word: others come about by chance
        if (lists >= LEAST_LISTS or origin in ROOT_SYMBOLS) and (best is None or lists > best[0]):
            best = (lists, root, mapping, origin)
        if lists >= ENOUGH_LISTS:
            origin, root, mapping = _furthest(memory, placement, heads, [(origin, root, mapping), *candidates])
            best = (lists, root, mapping, origin)
            break
    if best is None or best[0] < LEAST_LISTS:
        data = _outside_of_code(heads, placement)
        elements = single_elements(memory, data, words, image, _held(memory, linear, image))
        placement = replace(placement, ran=elements >= LEAST_ELEMENTS)
    if best is None:
        nothing = f"no page table of this image maps its tables where they lie{_history(placement)}"
        return _with(placement, Check.that("page table", False, nothing))
    lists, root, mapping, origin = best
    where = origin if root is None else f"{origin} at {root:#x}"
    found = replace(placement, mapping=mapping, root=root, lists=lists)
    return _with(
        found,
        Check.that(
            "page table",
            True,
            f"{where} ({mapping.architecture}, {mapping.name}) maps all {len(places)} tables where they lie",
        ),
        Check.that(
            "alive",
            lists >= LEAST_LISTS,
            f"{'at least ' * (lists >= ENOUGH_LISTS)}{lists} lists run from the image through other memory and back"
            + ("" if lists >= LEAST_LISTS else f": the image is not one that runs{_history(placement)}"),
        ),
    )


def _fitting(
    memory: Memory, tables: Tables, placement: Placement, places: NDArray[np.uint64]
) -> Iterator[tuple[str, int | None, Mapping]]:
    """Those of the candidates that map all tables where they lie."""
    virtual = placement.words.wrap(places + np.uint64(placement.distance))
    for origin, root, mapping in _mappings(memory, tables, placement):
        physical, mapped = translate(memory, mapping, root, virtual)
        if mapped.all() and np.array_equal(physical, places):
            yield origin, root, mapping


def _furthest(
    memory: Memory, placement: Placement, heads: Pointers, candidates: list[tuple[str, int | None, Mapping]]
) -> tuple[str, int | None, Mapping]:
    """The candidate through which most lists close.

    Where the image itself lies is mapped alike by the tables of processes, by those that it booted with, and by those
    of another size of pages at a level that is not needed there.
    """
    if len(candidates) == 1:
        return candidates[0]

    def closed(candidate: tuple[str, int | None, Mapping], heads: Pointers) -> int:
        _, root, mapping = candidate
        found = closed_lists(memory, heads, placement.words, placement.distance, mapping, root, enough=MAX_POINTERS)
        return len(found.places)

    step = -(-len(heads.places) // LIST_BATCH)
    sample = Pointers(heads.places[::step], heads.values[::step])
    rivals = sorted(candidates[:MAX_RIVALS], key=lambda candidate: -closed(candidate, sample))
    return max(rivals[:MAX_FINALISTS], key=lambda candidate: closed(candidate, heads))


def _linear(memory: Memory, placement: Placement) -> range:
    """Virtual addresses of memory that lists can run through; images of 32 bits lie in the linear map of all memory."""
    if placement.words.size == 8:
        return range(0, 1 << 64)
    low = placement.virtual(memory.segments[0].start)
    return range(low, min(1 << 32, low + memory.segments[-1].end - memory.segments[0].start))


def _held(memory: Memory, linear: range, image: range) -> range:
    """The addresses that name memory where no table tells: of images at low addresses, those of the memory itself."""
    return linear if linear.stop <= 1 << 32 or image[-1] >> 56 else range(0, memory.segments[-1].end)


def _outside_of_code(heads: Pointers, placement: Placement) -> Pointers:
    """Those words that are no instructions: some of these come in pairs, and look like addresses."""
    symbols, keep = placement.symbols, np.ones(len(heads.places), np.bool_)
    for first, last in CODE:
        if first in symbols and last in symbols:
            start = placement.physical(symbols[first].address)
            size = symbols[last].address - symbols[first].address
            keep &= heads.places - np.uint64(start) >= np.uint64(max(0, size))
    return Pointers(heads.places[keep], heads.values[keep])


def _history(placement: Placement) -> str:
    return ", though its lists show that it ran" if placement.ran else ""


def _own_lists(memory: Memory, closed: Pointers, words: Words, own: NDArray[np.uint64]) -> bool:
    """Whether structures with lists use functions of this kernel, rather than those of another copy beside it.

    Where only text is listed, nothing tells whose the data are. Kernels of MIPS copy themselves before they run.
    """
    around = words_around(memory, closed.places, words)
    hits, chance, _ = hits_on_symbols(around[(around >= own[0]) & (around <= own[-1])], own)
    return hits >= LEAST_OWN + CHANCE * chance


def _part(window: Segment, image: range, placement: Placement) -> Segment:
    """As much of the image as a window holds."""
    start = placement.virtual(window.start)
    if start > image.stop:  # the window reaches below address 0
        start -= placement.words.mask + 1
    low = max(0, image.start - start)
    high = max(low, image.stop - start)
    return Segment(window.start + low, window.data[low:high])


def _mappings(memory: Memory, tables: Tables, placement: Placement) -> Iterator[tuple[str, int | None, Mapping]]:
    """What can map the image: the table that a symbol names, else any page of the image; and what needs no table."""
    yield from _roots(memory, tables, placement)
    for mapping in windows(tables.word_size, tables.byte_order):
        yield "the processor itself", None, mapping


def _roots(memory: Memory, tables: Tables, placement: Placement) -> Iterator[tuple[str, int, PagingMode]]:
    """Top-level tables that can be the kernel's own."""
    symbols, words, array = placement.symbols, placement.words, tables.array_address
    candidates = modes(tables.word_size, tables.byte_order)
    named = False
    for name in ROOT_SYMBOLS:
        for symbol in symbols.all(name):
            named = True
            for mode in candidates:
                yield name, placement.physical(symbol.address), mode
    for register, bits in ROOT_REGISTERS.items():
        for root in {cpu.registers.get(register, 0) & bits for cpu in memory.hints.cpus} - {0}:
            for mode in candidates:
                yield f"the page table that {register.upper()} gives", root, mode
    if named:
        return
    low = max(0, array - BEFORE) // PAGE * PAGE
    pages = np.arange(low, array + AFTER, PAGE, dtype=np.uint64)
    for mode in candidates:
        wanted = np.full(len(pages), array + placement.distance & words.mask, np.uint64)
        physical, mapped = walk(memory, mode, pages, wanted)
        for page in pages[mapped & (physical == np.uint64(array))]:
            yield "a page table in the image", int(page), mode
