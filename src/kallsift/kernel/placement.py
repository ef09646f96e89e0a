"""Placement: where a kernel's image is mapped, and whether it is the one that runs.

The candidates for the distance from physical to virtual addresses come from the image's own pointers; a candidate
holds if the kernel's own page table maps its tables at that distance. The direct map's alias of the same bytes never
does, for nothing in an image points at its alias.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.evidence import Check, Outcome
from kallsift.kallsyms.table import SymbolTable
from kallsift.kallsyms.tables import Tables
from kallsift.kernel.pointers import (
    AFTER,
    BEFORE,
    KERNEL_HALF,
    Pointers,
    closed_lists,
    distances,
    find_pointers,
    hits_on_symbols,
)
from kallsift.machine.model import PagingMode, translate, walk
from kallsift.machine.registry import MODES, ROOT_SYMBOLS
from kallsift.memory.model import Memory

LEAST_HITS = 32
"""Distinct pointers more than by chance that must equal symbols before they prove anything."""

CHANCE = 1.5
"""How many times more of them than by chance."""

LEAST_LISTS = 8
"""Lists through memory outside the image that only a running kernel has."""

PAGE = 4096
WORD = (1 << 64) - 1


@dataclass(frozen=True, eq=False)
class Placement:
    """A kernel's symbols with their addresses, and what is known of its mapping.

    Attributes:
        symbols: the table with its addresses.
        distance: virtual less physical address of the image, modulo 2^64.
        root: physical address of the page table that maps the image; None if none does.
        mode: how that table is read.
        lists: lists that run through memory outside the image and close.
        checks: evidence for all of it.
    """

    symbols: SymbolTable
    distance: int
    root: int | None
    mode: PagingMode | None
    lists: int
    checks: tuple[Check, ...]

    @property
    def running(self) -> bool:
        """Whether the page table maps the image and its lists close."""
        return self.root is not None and self.lists >= LEAST_LISTS

    def physical(self, virtual: int) -> int:
        """The physical address of a byte of the image."""
        return virtual - self.distance & WORD

    def virtual(self, physical: int) -> int:
        """The virtual address of a byte of the image."""
        return physical + self.distance & WORD


def placements(memory: Memory, tables: Tables) -> Iterator[Placement]:
    """The ways in which a kernel's image can be mapped, the most frequent self-pointers' first.

    Yields:
        One placement for each distance that the pointers in the image confirm: none, rather than a guess, where they
        confirm none.
    """
    pointers = find_pointers(memory, tables.array_address, tables.byte_order)
    for distance, votes in distances(pointers):
        symbols = _symbols(tables, tables.array_address + distance & WORD)
        if not _near(symbols.addresses, distance, tables.array_address):
            continue
        hits, chance, inside = hits_on_symbols(pointers, symbols.addresses)
        if hits < LEAST_HITS + CHANCE * chance:
            continue
        checks = [
            Check.that("self-pointers", True, f"{votes} words point at themselves at a distance of {distance:#x}"),
            Check.that(
                "pointers to symbols",
                True,
                f"{hits} of {inside} distinct pointers equal a symbol's address, against {chance:.0f} by chance",
            ),
        ]
        root, mode, lists, mapping = _mapping(memory, tables, symbols, distance, pointers)
        yield Placement(symbols, distance, root, mode, lists, (*checks, *mapping))


def _near(addresses: NDArray[np.uint64], distance: int, array: int) -> bool:
    """Whether the symbols of the image would lie around its tables at this distance.

    Objects that a kernel allocates point at themselves too, through the direct map: far from the image's addresses.
    """
    own = addresses[addresses >= np.uint64(KERNEL_HALF)] - np.uint64(distance)
    return bool(len(own)) and max(0, array - BEFORE) <= int(own[len(own) // 2]) <= array + AFTER


def _symbols(tables: Tables, array_virtual: int) -> SymbolTable:
    addresses = tables.array.addresses(array_virtual)
    return SymbolTable(addresses, tables.characters, tables.bounds, tables.word_size)


def _mapping(
    memory: Memory, tables: Tables, symbols: SymbolTable, distance: int, pointers: Pointers
) -> tuple[int | None, PagingMode | None, int, list[Check]]:
    """The kernel's own page table, if it maps the tables where they lie, and the lists that close through it."""
    image = _image(symbols.addresses, distance, tables)
    places = np.array([place for _, place, _ in tables.places], np.uint64)
    best: tuple[int, int, PagingMode, str] | None = None
    for origin, root, mode in _roots(memory, symbols, distance, tables.array_address):
        physical, mapped = translate(memory, mode, root, places + np.uint64(distance))
        if not mapped.all() or not np.array_equal(physical, places):
            continue
        lists = closed_lists(memory, pointers, distance, mode, root, image)
        if best is None or lists > best[0]:
            best = (lists, root, mode, origin)
        if lists >= LEAST_LISTS:
            break
    if best is None:
        return None, None, 0, [
            Check.that("page table", False, "no page table of this image maps its tables where they lie"),
        ]  # fmt: skip
    lists, root, mode, origin = best
    return root, mode, lists, [
        Check.that(
            "page table",
            True,
            f"{origin} at {root:#x} ({mode.architecture}, {mode.name}) maps all {len(places)} tables where they lie",
        ),
        Check.that(
            "alive",
            lists >= LEAST_LISTS,
            f"{lists} lists run from the image through other memory and back"
            + ("" if lists >= LEAST_LISTS else ": the image is not one that runs"),
        ),
    ]  # fmt: skip


def _image(addresses: NDArray[np.uint64], distance: int, tables: Tables) -> tuple[int, int]:
    """Lowest and highest physical address that the symbols and tables of an image cover."""
    own = addresses[addresses >= np.uint64(KERNEL_HALF)] - np.uint64(distance)
    low, high = tables.places[0][1], tables.places[-1][1] + tables.places[-1][2]
    near = own[(own >= np.uint64(max(0, low - BEFORE))) & (own <= np.uint64(high + AFTER))]
    return (min(low, int(near.min())), max(high, int(near.max()))) if len(near) else (low, high)


def _roots(memory: Memory, symbols: SymbolTable, distance: int, array: int) -> Iterator[tuple[str, int, PagingMode]]:
    """Top-level tables that can be the kernel's own: the one that a symbol names, else any page of the image."""
    named = False
    for name in ROOT_SYMBOLS:
        for symbol in symbols.all(name):
            named = True
            for mode in MODES:
                yield name, symbol.address - distance & WORD, mode
    if named:
        return
    low = max(0, array - BEFORE) // PAGE * PAGE
    pages = np.arange(low, array + AFTER, PAGE, dtype=np.uint64)
    for mode in MODES:
        wanted = np.full(len(pages), array + distance & WORD, np.uint64)
        physical, mapped = walk(memory, mode, pages, wanted)
        for page in pages[mapped & (physical == np.uint64(array))]:
            yield "a page table in the image", int(page), mode


def cpu_checks(memory: Memory, tables: Tables, placement: Placement) -> Iterator[Check]:
    """Whether the processors' CR3 registers, where the container recorded them, map the image at the same place."""
    roots = {cpu.number: cpu.registers["cr3"] for cpu in memory.hints.cpus if cpu.registers.get("cr3")}
    if not roots or placement.mode is None or placement.mode.architecture != "x86-64":
        yield Check("CR3", Outcome.ABSENT, "the source records no CR3")
        return
    place = np.array([tables.array_address], np.uint64)
    agreeing = []
    for number, value in roots.items():
        # with page-table isolation the user's half lies one page above the kernel's
        for root in (value & ~0xFFF, value & ~0x1FFF):
            physical, mapped = translate(memory, placement.mode, root, place + np.uint64(placement.distance))
            if mapped[0] and physical[0] == place[0]:
                agreeing.append(number)
                break
    yield Check.that(
        "CR3",
        bool(agreeing),
        f"{len(agreeing)} of {len(roots)} processors' page tables map the tables at the same address",
    )
