"""Find and read the symbol table that each module keeps of itself.

The offset of the pointers to it in ``struct module`` changes with releases and configurations. The table is recognised
by what must be true: it begins with an entry of zeros, and its names are strings in a string table that begins with NUL
(kernel/module/kallsyms.c; include/linux/module.h).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import is_in
from kallsift.errors import KallsiftError
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.modules.exports.modules import ExportForm, exported, find_exports
from kallsift.modules.struct_module import STATES, STRUCT_WORDS, ModulesError, Structures, state_of
from kallsift.modules.symbol_entries import (
    LETTERS,
    MAX_STRINGS,
    ModuleSymbols,
    SymbolPlaces,
    entry_layout,
    is_in_order,
    read_symbols,
)

MAX_SYMBOLS = 1 << 22
"""Highest number of symbols of a module."""

VOTERS = 16
"""Number of modules that show how names are arranged."""


@dataclass(frozen=True)
class TableForm:
    """Offsets of a symbol table's fields, in words from the pointer to the symbols.

    Attributes:
        count: offset of the number of symbols, 32 bits.
        strings: offset of the pointer to the string table.
        letters: offset of the pointer to the type letters; None if these stand in the symbols.
    """

    count: int
    strings: int
    letters: int | None


TABLE_FORMS = (
    TableForm(1, 2, 3),  # struct mod_kallsyms since 5.2
    TableForm(1, 2, None),  # since 4.5; and struct module up to 2.6.31
    TableForm(2, 3, None),  # struct module 2.6.32 to 4.4: each pointer and count twice
)


@dataclass(frozen=True, eq=False)
class SymbolReader:
    """A reader of modules' symbol tables.

    Attributes:
        memory: the kernel's memory.
        place: offset of the pointer to the symbol table in ``struct module``, in words.
        form: fields around that pointer.
        pointer: offset of the structure's pointer to its own `TableForm`, in words; None if it has none.
        adjoining: True if loaded modules have their strings right behind their symbols (``layout_symtab()``).
        is_in_order: True if these strings stand in the order of the symbols, as since 3.3.
        exports: fields that describe the exports; None if no module exports anything.
    """

    memory: VirtualMemory
    place: int
    form: TableForm
    pointer: int | None
    adjoining: bool
    is_in_order: bool
    exports: ExportForm | None

    def symbols(self, structures: Structures, number: int, room: int = MAX_STRINGS) -> ModuleSymbols:
        """Return the symbols of one module, with at most ``room`` characters.

        Raises:
            KallsiftError: if they cannot be read.
        """
        address, words, memory = int(structures.addresses[number]), structures.words[number], self.memory
        own = address + self.place * memory.words.size
        table = own if self.pointer is None else int(words[self.pointer])
        if table != own and state_of(memory, address) == STATES[0]:
            raise ModulesError(f"it is loaded, but points to a table at {table:#x} instead of its own at {own:#x}")
        places = _places(memory, table, self.form)
        if table == own and self.adjoining:
            behind = places.entries + places.count * entry_layout(memory).itemsize
            if behind != places.strings:
                raise ModulesError(
                    f"its {places.count:,} symbols at {places.entries:#x} do not end where their names "
                    f"begin, at {places.strings:#x}"
                )
            places = replace(places, is_in_order=self.is_in_order)
        found = read_symbols(memory, places, min(room, MAX_STRINGS))
        if self.exports is None:
            return found
        return replace(found, table=_capitalised(found.table, exported(memory, address, words, self.exports)))


def has_symbol_tables(memory: VirtualMemory, structures: Structures) -> bool:
    """Tell whether most of these structures lead to a table of symbols with names.

    There must be at least one structure.
    """
    try:
        place, form = _table_place(memory, structures)
    except ModulesError:
        return False
    good, some = 0, False
    for address in structures.addresses[:VOTERS].tolist():
        try:
            found = read_symbols(memory, _places(memory, address + place * memory.words.size, form), MAX_STRINGS)
        except KallsiftError:
            continue
        good, some = good + 1, some or len(found.table) > 0
    return some and 2 * good > len(structures.addresses[:VOTERS])


def symbol_reader(memory: VirtualMemory, structures: Structures) -> SymbolReader:
    """Return a reader for the symbol tables of these modules, at least one.

    Raises:
        ModulesError: if no field of theirs leads to a symbol table.
    """
    place, form = _table_place(memory, structures)
    pointer = _pointer_place(memory, structures, place)
    adjoining = 2 * _adjoining(memory, structures, place, form) > len(structures)
    in_order = adjoining and _are_in_order(memory, structures, place, form)
    return SymbolReader(memory, place, form, pointer, adjoining, in_order, find_exports(memory, structures))


def _table_place(memory: VirtualMemory, listed: Structures) -> tuple[int, TableForm]:
    """Return the offset of the pointer to the symbol table in words, and its form.

    The first form that at least half of the modules confirm is taken: a form with fewer conditions may be confirmed by
    a few more modules that are damaged. Of several offsets, the one is taken where most modules have their strings
    right behind their symbols.
    """
    for form in TABLE_FORMS:
        agreeing = np.bincount(_plausible(memory, listed, form), minlength=1)
        places = np.flatnonzero((agreeing > 0) & (2 * agreeing >= len(listed.addresses))).tolist()
        if places:
            return max(places, key=lambda at: (_adjoining(memory, listed, at, form), int(agreeing[at]), -at)), form
    raise ModulesError("no field of the modules' structures points to a symbol table")


def _plausible(memory: VirtualMemory, listed: Structures, form: TableForm) -> NDArray[np.intp]:
    """Return the columns of words that can be the pointer to a symbol table.

    A column is repeated once for each module where this is so.
    """
    size = memory.words.size
    last = STRUCT_WORDS - max(form.count, form.strings, form.letters or 0)
    symbols, strings = listed.words[:, :last], listed.words[:, form.strings :][:, :last]
    owner, place = np.nonzero((symbols != 0) & (strings != 0) & (symbols & np.uint64(size - 1) == 0))

    def keep(chosen: NDArray[np.bool_]) -> None:
        nonlocal owner, place
        owner, place = owner[chosen], place[chosen]

    at = listed.addresses[owner] + ((place + form.count) * size).astype(np.uint64)
    counts, held = memory.values(at, memory.words.int_dtype)
    keep(held & (counts > 0) & (counts < MAX_SYMBOLS))
    # the first symbol is all zeros and has no name
    for word in range(2):
        values, held = memory.values(symbols[owner, place] + np.uint64(word * size))
        keep(held & (values == 0))
    values, held = memory.values(strings[owner, place], np.dtype("u1"))
    keep(held & (values == 0))
    if form.letters is not None:
        values, held = memory.values(listed.words[owner, place + form.letters], np.dtype("u1"))
        keep(held & is_in(values, np.array(sorted(LETTERS), np.uint64)))
    return place


def _pointer_place(memory: VirtualMemory, listed: Structures, place: int) -> int | None:
    """Return the offset in words of the structure's pointer to its own `TableForm`.

    While a module is being loaded, this pointer leads elsewhere. The result is None if most modules have no such
    pointer.
    """
    inner = memory.words.wrap(listed.addresses + np.uint64(place * memory.words.size))
    agreeing = np.count_nonzero(listed.words == inner[:, None], axis=0)
    found = int(np.argmax(agreeing))
    return found if 2 * int(agreeing[found]) > len(listed.addresses) else None


def _adjoining(memory: VirtualMemory, listed: Structures, place: int, form: TableForm) -> int:
    """Count the modules whose strings stand right behind their symbols."""
    size = memory.words.size
    places = listed.addresses + np.uint64((place + form.count) * size)
    counts = memory.values(places, memory.words.int_dtype)[0]
    behind = memory.words.wrap(listed.words[:, place] + counts * np.uint64(entry_layout(memory).itemsize))
    return int(np.count_nonzero(listed.words[:, place + form.strings] == behind))


def _are_in_order(memory: VirtualMemory, listed: Structures, place: int, form: TableForm) -> bool:
    """Tell whether most of the first modules keep their names in the symbols' order.

    Modules that cannot be read have no vote.
    """
    votes = []
    for address in listed.addresses[:VOTERS].tolist():
        try:
            places = _places(memory, address + place * memory.words.size, form)
            votes.append(is_in_order(memory, places.entries, places.count, places.strings))
        except KallsiftError:
            continue
    return 2 * sum(votes) > len(votes)


def _places(memory: VirtualMemory, table: int, form: TableForm) -> SymbolPlaces:
    """Return the addresses of a module's symbols, from the fields at ``table``.

    Raises:
        KallsiftError: if they cannot be read, or the number of symbols is impossible.
    """
    size = memory.words.size
    count = memory.value(table + form.count * size, 4)
    if not 0 < count < MAX_SYMBOLS:
        raise ModulesError(f"the number of its symbols at {table:#x} is impossible")
    letters = None if form.letters is None else memory.value(table + form.letters * size)
    return SymbolPlaces(memory.value(table), count, memory.value(table + form.strings * size), letters, False)


def _capitalised(symbols: SymbolTable, exported: frozenset[tuple[int, bytes]]) -> SymbolTable:
    """Return the table with upper-case letters for the exported symbols."""
    characters = symbols.characters.copy()
    text = characters.tobytes()
    addresses = {address for address, _ in exported}
    wanted = np.flatnonzero(is_in(symbols.addresses, np.array(sorted(addresses), np.uint64)))
    for index in wanted.tolist():
        low, high = int(symbols.bounds[index]), int(symbols.bounds[index + 1])
        if (int(symbols.addresses[index]), text[low + 1 : high]) in exported:
            characters[low] = ord(text[low : low + 1].upper())
    return SymbolTable(symbols.addresses, characters, symbols.bounds, symbols.word_size)
