"""The symbol table that each module keeps of itself.

Where ``struct module`` says it is changes with releases and configurations. It is recognised by what must be true: a
symbol table begins with an entry of zeros, and its names are strings of a string table that begins with NUL
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
"""Symbols of a module at most."""

VOTERS = 16
"""Modules that are asked how their names are arranged."""


@dataclass(frozen=True)
class TableForm:
    """How a module says where its symbol table is: places in words from that of the pointer to it.

    Attributes:
        count: of the number of symbols, 32 bits.
        strings: of the pointer to the string table.
        letters: of the pointer to the type letters; None where these stand in the symbols.
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
    """Reads the symbol tables of modules.

    Attributes:
        memory: the kernel's.
        place: where in ``struct module`` the pointer to the symbol table is, in words.
        form: what stands around it.
        pointer: where the structure's pointer to its own `TableForm` is, in words; None where it has none.
        adjoining: whether loaded modules have their strings right behind their symbols (``layout_symtab()``).
        is_in_order: whether these strings stand in the order of the symbols, as since 3.3.
        exports: how modules export; None where none does.
    """

    memory: VirtualMemory
    place: int
    form: TableForm
    pointer: int | None
    adjoining: bool
    is_in_order: bool
    exports: ExportForm | None

    def symbols(self, structures: Structures, number: int, room: int = MAX_STRINGS) -> ModuleSymbols:
        """The symbols of one of the modules, with ``room`` characters at most.

        Raises:
            KallsiftError: if they cannot be read.
        """
        address, words, memory = int(structures.addresses[number]), structures.words[number], self.memory
        own = address + self.place * memory.words.size
        table = own if self.pointer is None else int(words[self.pointer])
        if table != own and state_of(memory, address) == STATES[0]:
            raise ModulesError(f"it is loaded, but leads to {table:#x} for what it keeps at {own:#x}")
        places = _places(memory, table, self.form)
        if table == own and self.adjoining:
            behind = places.entries + places.count * entry_layout(memory).itemsize
            if behind != places.strings:
                raise ModulesError(
                    f"{places.count:,} symbols at {places.entries:#x} do not end where their names begin, "
                    f"at {places.strings:#x}"
                )
            places = replace(places, is_in_order=self.is_in_order)
        found = read_symbols(memory, places, min(room, MAX_STRINGS))
        if self.exports is None:
            return found
        return replace(found, table=_capitalised(found.table, exported(memory, address, words, self.exports)))


def has_symbol_tables(memory: VirtualMemory, structures: Structures) -> bool:
    """Whether most of what these structures are of, at least one, lead to a table of symbols that have names."""
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
    """What reads the symbol tables of these modules, at least one.

    Raises:
        ModulesError: if no field of theirs leads to a symbol table.
    """
    place, form = _table_place(memory, structures)
    pointer = _pointer_place(memory, structures, place)
    adjoining = 2 * _adjoining(memory, structures, place, form) > len(structures)
    in_order = adjoining and _are_in_order(memory, structures, place, form)
    return SymbolReader(memory, place, form, pointer, adjoining, in_order, find_exports(memory, structures))


def _table_place(memory: VirtualMemory, listed: Structures) -> tuple[int, TableForm]:
    """Where in the structure the pointer to the symbol table is, in words, and what stands around it.

    The first form that most modules bear out is taken: one that asks for less can be borne out by a few more, which are
    damaged. Of several places the one where most modules have their strings right behind their symbols.
    """
    for form in TABLE_FORMS:
        agreeing = np.bincount(_plausible(memory, listed, form), minlength=1)
        places = np.flatnonzero((agreeing > 0) & (2 * agreeing >= len(listed.addresses))).tolist()
        if places:
            return max(places, key=lambda at: (_adjoining(memory, listed, at, form), int(agreeing[at]), -at)), form
    raise ModulesError("no field of the modules' structures leads to a symbol table")


def _plausible(memory: VirtualMemory, listed: Structures, form: TableForm) -> NDArray[np.intp]:
    """The places, once for each module, where a word can be the pointer to its symbol table."""
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
    # the first symbol is one of zeros, and has no name
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
    """Where the structure's pointer to its own `TableForm` is: while a module is loaded, it leads elsewhere."""
    inner = memory.words.wrap(listed.addresses + np.uint64(place * memory.words.size))
    agreeing = np.count_nonzero(listed.words == inner[:, None], axis=0)
    found = int(np.argmax(agreeing))
    return found if 2 * int(agreeing[found]) > len(listed.addresses) else None


def _adjoining(memory: VirtualMemory, listed: Structures, place: int, form: TableForm) -> int:
    """How many modules have their strings right behind as many symbols as they say they have."""
    size = memory.words.size
    places = listed.addresses + np.uint64((place + form.count) * size)
    counts = memory.values(places, memory.words.int_dtype)[0]
    behind = memory.words.wrap(listed.words[:, place] + counts * np.uint64(entry_layout(memory).itemsize))
    return int(np.count_nonzero(listed.words[:, place + form.strings] == behind))


def _are_in_order(memory: VirtualMemory, listed: Structures, place: int, form: TableForm) -> bool:
    """Whether most of the first modules, of those that can be read, have their names in the order of their symbols."""
    votes = []
    for address in listed.addresses[:VOTERS].tolist():
        try:
            places = _places(memory, address + place * memory.words.size, form)
            votes.append(is_in_order(memory, places.entries, places.count, places.strings))
        except KallsiftError:
            continue
    return 2 * sum(votes) > len(votes)


def _places(memory: VirtualMemory, table: int, form: TableForm) -> SymbolPlaces:
    """Where a module's symbols are, as what stands at ``table`` says.

    Raises:
        KallsiftError: if that cannot be read, or is no number that symbols can have.
    """
    size = memory.words.size
    count = memory.value(table + form.count * size, 4)
    if not 0 < count < MAX_SYMBOLS:
        raise ModulesError(f"at {table:#x} it has no number that symbols can have")
    letters = None if form.letters is None else memory.value(table + form.letters * size)
    return SymbolPlaces(memory.value(table), count, memory.value(table + form.strings * size), letters, False)


def _capitalised(symbols: SymbolTable, exported: frozenset[tuple[int, bytes]]) -> SymbolTable:
    """The table with upper-case letters for those symbols that are exported."""
    characters = symbols.characters.copy()
    text = characters.tobytes()
    addresses = {address for address, _ in exported}
    wanted = np.flatnonzero(is_in(symbols.addresses, np.array(sorted(addresses), np.uint64)))
    for index in wanted.tolist():
        low, high = int(symbols.bounds[index]), int(symbols.bounds[index + 1])
        if (int(symbols.addresses[index]), text[low + 1 : high]) in exported:
            characters[low] = ord(text[low : low + 1].upper())
    return SymbolTable(symbols.addresses, characters, symbols.bounds, symbols.word_size)
