"""Make kernels of tables that are whole, but of which nothing tells where they are mapped: tables alone.

Tables hold their addresses (absolute, or as base and offsets), or, since 7.0, only the distances between them. In the
latter case, and if the base is lost, addresses are counted from where the architecture's linker puts ``_text``. Such a
kernel is never proven, and none of its addresses leads to a byte of the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from kallsift.addresses import PhysicalAddress, VirtualAddress
from kallsift.arch.registry import NAME_MARKS, TEXT_BASES, word_sizes_of
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kallsyms.recovered_tables import Layout, Tables
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.checks.landmarks import nearest_banner
from kallsift.kernel.kernel import Kernel, State, TableLocation
from kallsift.kernel.placement.distances import FIRST_SYMBOLS, is_self_relative, unplaced_symbols
from kallsift.kernel.placement.given_base import given_base
from kallsift.kernel.placement.pointers import Words
from kallsift.kernel.placement.word_size import named_word_size
from kallsift.memory.memory import Memory

MIN_MARKS = 4
"""Number of names with an architecture's mark that tell the architecture; real kernels have some hundreds."""

WORD = 8
"""Highest alignment in bytes of tables between which no page fits."""

MAX_EQUAL = 512
"""Number of equal words at the beginning of an array of addresses that can be a lost page."""

FAR = 1 << 60
"""A number above all physical addresses and offsets of files."""


def unplaced_kernel(memory: Memory, readings: Sequence[Tables]) -> Kernel | None:
    """Return the kernel of tables that nothing places, or None.

    Args:
        memory: the memory in which the tables were found.
        readings: the ways to read them; the best one is taken, and others with other results are counted.
    """
    given = memory.hints.word_size
    whole = [
        tables
        for tables in readings
        if tables.layout is Layout.ADJACENT and not tables.damage and given in (None, tables.word_size)
    ]
    if not whole:
        return None
    best = max(whole, key=lambda tables: _rank(memory, tables))
    symbols, origin = _symbols(memory, best)
    words = Words(best.word_size, best.byte_order)
    first = _first_symbol(symbols)
    low = int(symbols.addresses.min()) if first is None else int(symbols.addresses[first])
    guessed = low - memory.segments[0].start
    checks = [Check.that(CheckId.PLACEMENT, False, f"nothing confirms these addresses: {origin}", is_quoted=True)]
    as_good = [tables for tables in whole if _rank(memory, tables)[:-1] == _rank(memory, best)[:-1]]
    others = {_signature(memory, tables) for tables in as_good} - {_signature(memory, best)}
    if others:
        checks.append(
            Check.that(
                CheckId.ONLY_READING, False, f"{len(others)} other interpretations of the tables fit equally well"
            )
        )
    return Kernel(
        symbols=symbols,
        evidence=(*best.checks, *checks),
        state=State.IMAGE if memory.image is not None else State.TABLES,
        byte_order=best.byte_order,
        architecture=memory.image.architecture if memory.image else None,
        banner=nearest_banner(memory, best.array_address),
        encoding=best.array.encoding.name,
        tables=tuple(
            TableLocation(name, PhysicalAddress(place), VirtualAddress(place + guessed & words.mask), size)
            for name, place, size in best.places
        ),
        virtual_base=None if first is None else VirtualAddress(low),
        physical_base=None,
        kaslr_slide=None,
        page_table_root=None,
        mapping=None,
        memory=memory,
        distance=low - FAR & (1 << 64) - 1,
        is_placed=False,
    )


def is_seamless(tables: Tables) -> bool:
    """Tell whether no page of some tables can be lost.

    Each table begins where the one before it ends, so each has its size and its place. Then a lost page breaks the
    order of addresses, or what markers, index and counts must say of the names; only zeros before the first address do
    not.
    """
    passed = {check.name for check in tables.checks if check.outcome is Outcome.PASSED}
    is_tight = all(0 <= after.offset - before.end < WORD for before, after in pairwise(tables.rows))
    first = tables.array.words[:MAX_EQUAL]
    return (
        is_tight
        and CheckId.NUM_SYMS in passed
        and not tables.array.needs_base
        and not tables.damage
        and (len(first) < MAX_EQUAL or bool((first != first[0]).any()))
    )


def likely_architecture(symbols: SymbolTable) -> str | None:
    """Return the architecture that many names tell, such as those of system calls.

    None if none do.
    """
    text = symbols.characters.tobytes()
    counts = {name: text.count(mark) for name, mark in NAME_MARKS.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] >= MIN_MARKS else None


def _rank(memory: Memory, tables: Tables) -> tuple[bool, bool, bool, bool, int]:
    """Return the rank of a reading; the best one has the highest.

    The criteria are: its words are as wide as those of the architecture, its base is known, its tables do not overlap,
    its addresses are plausible, and few bytes are left over.
    """
    sizes = word_sizes_of(memory.image.architecture if memory.image else None)
    named = named_word_size(unplaced_symbols(tables))
    fits = tables.word_size in sizes if sizes else named in (None, tables.word_size)
    is_apart = all(before.end <= after.offset for before, after in pairwise(tables.rows))
    return fits, not tables.array.needs_base, is_apart, _is_plausible(tables), -_loose_bytes(tables)


def _is_plausible(tables: Tables) -> bool:
    """Tell whether most addresses lie within the reach of one image, at a usual place.

    Per-CPU symbols and absolute values may lie elsewhere.
    """
    addresses = np.sort(unplaced_symbols(tables).addresses)
    middle = int(addresses[len(addresses) // 2])
    near = np.abs((addresses - np.uint64(middle)).view(np.int64)) < 1 << 30
    # 64-bit kernels lie above 4 GiB, except big-endian ones (s390x, sparc64)
    is_high = tables.word_size == 4 or is_self_relative(tables) or tables.byte_order == ">" or middle >> 32 != 0
    # kernels lie at either end of the address space, or low in a region that the upper byte chooses
    usual = tables.word_size == 4 or middle >> 48 in (0, 0xFFFF) or (middle >> 32) & 0xFF_FFFF < 0x100
    return bool(near.mean() > 0.5) and is_high and usual


def _loose_bytes(tables: Tables) -> int:
    """Count bytes behind the array and its base that are neither zero nor a table's.

    The bytes of one word are compared.
    """
    end = max(row.end for row in tables.rows if row.name in ("addresses", "offsets", "relative_base"))
    if any(row.offset <= end < row.end for row in tables.rows):
        return 0
    return int(np.count_nonzero(tables.segment.data[end : end + tables.word_size]))


def _first_symbol(symbols: SymbolTable) -> int | None:
    """Return the index of the symbol at the beginning of the text, or None."""
    return next((index for name in FIRST_SYMBOLS if (index := symbols.find(name)) is not None), None)


def _symbols(memory: Memory, tables: Tables) -> tuple[SymbolTable, str]:
    """Return the symbols at the best addresses that are known, and their origin.

    The origin is a clause for a message.
    """
    if not is_self_relative(tables) and not tables.array.needs_base:
        return unplaced_symbols(tables), f"they are those in the table ({tables.array.encoding.name})"
    relative = unplaced_symbols(tables)
    given = given_base(memory, relative)
    if given is None and is_self_relative(tables) and memory.segments[0].start:
        found = unplaced_symbols(tables, tables.array_address)
        return found, f"they are right if the tables are mapped at {tables.array_address:#x}, as the source says"
    architecture = (memory.image.architecture if memory.image else None) or likely_architecture(relative)
    default = TEXT_BASES.get(architecture or "", 0)
    index = _first_symbol(relative)
    lowest = int(relative.addresses.view(np.int64).min() if index is None else relative.addresses[index])
    base = default - lowest & (1 << 64) - 1 if given is None else given.base
    name = "the first symbol" if index is None else relative.symbol(index).name
    if is_self_relative(tables):
        symbols = unplaced_symbols(tables, base)
    else:
        symbols = unplaced_symbols(replace(tables, array=replace(tables.array, relative_base=base)))
    if given is not None:
        return symbols, f"they are right if {given.reason}"
    if architecture is None:
        return symbols, f"they are relative to {name}; give its address as --base"
    return (
        symbols,
        f"they are right if {name} is at {default:#x}, as kernels of {architecture} are linked; else give --base",
    )


def _signature(memory: Memory, tables: Tables) -> int:
    """Return a number that two readings share if they have the same symbols.

    These are the same names at the same addresses.
    """
    symbols, _ = _symbols(memory, tables)
    return hash((tables.word_size, symbols.addresses.tobytes(), symbols.characters.tobytes(), symbols.bounds.tobytes()))
