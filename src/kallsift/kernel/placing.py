"""Finds where a kernel's image is mapped.

The candidates for the distance from places in the source to virtual addresses come from the image's own pointers; a
candidate holds if the kernel's own page table, or what its processor maps without one, maps its tables at that
distance. The direct map's alias of the same bytes never does, for nothing in an image points at its alias.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kallsift.kallsyms.evidence import Check, Outcome
from kallsift.kallsyms.table import SymbolTable
from kallsift.kallsyms.tables import Tables
from kallsift.kernel.base import with_base
from kallsift.kernel.image_mapping import with_mapping
from kallsift.kernel.placement import CHANCE, Placement, is_near
from kallsift.kernel.pointer_targets import Hits, Targets, hits_on_symbols, targets
from kallsift.kernel.pointers import (
    AFTER,
    BEFORE,
    Words,
    distances,
    pointers_between,
    self_pointers,
)
from kallsift.memory.model import AddressSpace, Memory, Segment

LEAST_HITS = 32
"""Distinct pointers more than by chance that must equal symbols before they prove anything."""

FIRST_SYMBOLS = ("_text", "_stext", "stext", "_start")
"""What names the first byte of a flat image."""


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
                yield placement.with_checks(found)
        return
    for distance, why in _distances(memory, tables, window, words):
        symbols = _symbols(tables, tables.array_address + distance & words.mask)
        own = targets(symbols, is_near(symbols.addresses, words, tables.array_address + distance))
        if 2 * len(own) < len(symbols):
            continue
        hits, confirmed = _confirmed(window, words, own, tables, why, essential=memory.image is None)
        if confirmed is None:
            continue
        placement = Placement(symbols, distance, words, (why, confirmed), hits=hits.count, code_bit=hits.code_bit)
        if memory.image is not None:
            absent = "not looked for: the source is a kernel image, which nothing has run yet"
            yield placement.with_checks(*(Check(name, Outcome.ABSENT, absent) for name in ("page table", "alive")))
        elif memory.space is AddressSpace.VIRTUAL:
            yield placement.with_checks(
                Check("page table", Outcome.ABSENT, "not looked for: the source's are used already")
            )
        else:
            yield with_mapping(memory, tables, placement, window, own)


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
    window: Segment, words: Words, own: Targets, tables: Tables, why: Check, *, essential: bool
) -> tuple[Hits, Check | None]:
    """How many words of the image equal symbols, and whether they do; None if they do not, and must.

    Args:
        window: the image.
        words: how to read it.
        own: the image's symbols.
        tables: where the symbols are from.
        why: the reason to have placed them so.
        essential: whether an image without such words is out of the question: one that ran has them.
    """
    found = pointers_between(window, words, int(own.addresses[0]), min(int(own.addresses[-1]) + 1, words.mask))
    # the table of addresses would confirm itself
    foreign = found.places - np.uint64(tables.array_address) >= np.uint64(tables.array.size)
    hits = hits_on_symbols(found.values[foreign], own)
    inside = hits.distinct
    if hits.count >= LEAST_HITS + CHANCE * hits.by_chance:
        marked = ", those to code but for bit 0, which is set" if hits.code_bit else ""
        detail = (
            f"{hits.count} of {inside} distinct pointers equal a symbol's address{marked}, "
            f"against {hits.by_chance:.0f} by chance"
        )
        return hits, Check.that("pointers to symbols", True, detail)
    if essential or inside > LEAST_HITS:
        return hits, None
    detail = f"only {inside} words are addresses of the image: they are filled in when it boots"
    if why.name == "first byte":  # which is but a guess
        return hits, Check.that("pointers to symbols", False, detail)
    return hits, Check("pointers to symbols", Outcome.ABSENT, detail)
