"""The symbol table that each module keeps of itself.

Where ``struct module`` says it is changes with releases and configurations. It is recognised by what must be true: a
symbol table begins with an entry of zeros, and its names are strings of a string table that begins with NUL
(kernel/module/kallsyms.c; include/linux/module.h).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.table import SymbolTable
from kallsift.kernel.virtual import VirtualMemory
from kallsift.modules.module_exports import ExportForm, exported, find_exports
from kallsift.modules.structures import STATES, STRUCT_WORDS, ModulesError, Structures, state_of

MAX_SYMBOLS = 1 << 22
"""Symbols of a module at most."""

MAX_STRINGS = 1 << 26
"""Bytes of a module's string table at most."""

CUT = 127
"""Characters from which on names can be cut (KSYM_NAME_LEN less one, before 6.1): what was cut off can follow them."""

LETTERS = frozenset(b"abdgnrstuvw?ABDGNRSTUVW")
"""What ``elf_type()`` can return."""

_ELF_SYMBOLS = {
    8: [("name", "u4"), ("info", "u1"), ("other", "u1"), ("section", "u2"), ("value", "u8"), ("size", "u8")],
    4: [("name", "u4"), ("value", "u4"), ("size", "u4"), ("info", "u1"), ("other", "u1"), ("section", "u2")],
}
"""Elf64_Sym and Elf32_Sym (System V gABI, "Symbol Table"), by the size of a word."""


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
        exports: how modules export; None where none does.
    """

    memory: VirtualMemory
    place: int
    form: TableForm
    pointer: int | None
    adjoining: bool
    exports: ExportForm | None

    def symbols(self, structures: Structures, number: int, room: int = MAX_STRINGS) -> SymbolTable:
        """The symbols of one of the modules, with ``room`` characters at most.

        Raises:
            KallsiftError: if they cannot be read.
        """
        address, words, memory = int(structures.addresses[number]), structures.words[number], self.memory
        own = address + self.place * memory.words.size
        table = own if self.pointer is None else int(words[self.pointer])
        if table != own and state_of(memory, address) == STATES[0]:
            raise ModulesError(f"it is loaded, but leads to {table:#x} for what it keeps at {own:#x}")
        symbols = _symbols(memory, table, self.form, min(room, MAX_STRINGS), self.adjoining and table == own)
        if self.exports is not None:
            symbols = _capitalised(symbols, exported(memory, address, words, self.exports))
        return symbols


def has_symbol_tables(memory: VirtualMemory, structures: Structures) -> bool:
    """Whether most of what these structures are of, at least one, leads to a symbol table."""
    try:
        _table_place(memory, structures)
    except ModulesError:
        return False
    return True


def symbol_reader(memory: VirtualMemory, structures: Structures) -> SymbolReader:
    """What reads the symbol tables of these modules, at least one.

    Raises:
        ModulesError: if no field of theirs leads to a symbol table.
    """
    place, form = _table_place(memory, structures)
    pointer = _pointer_place(memory, structures, place)
    adjoining = _adjoin(memory, structures, place, form)
    return SymbolReader(memory, place, form, pointer, adjoining, find_exports(memory, structures))


def _table_place(memory: VirtualMemory, listed: Structures) -> tuple[int, TableForm]:
    """Where in the structure the pointer to the symbol table is, in words, and what stands around it.

    The first form that most modules bear out is taken: one that asks for less can be borne out by a few more, which are
    damaged.
    """
    for form in TABLE_FORMS:
        agreeing = np.bincount(_plausible(memory, listed, form), minlength=1)
        place = int(np.argmax(agreeing))
        if agreeing[place] and 2 * int(agreeing[place]) >= len(listed.addresses):
            return place, form
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
        keep(held & np.isin(values, np.array(sorted(LETTERS), np.uint64)))
    return place


def _pointer_place(memory: VirtualMemory, listed: Structures, place: int) -> int | None:
    """Where the structure's pointer to its own `TableForm` is: while a module is loaded, it leads elsewhere."""
    inner = memory.words.wrap(listed.addresses + np.uint64(place * memory.words.size))
    agreeing = np.count_nonzero(listed.words == inner[:, None], axis=0)
    found = int(np.argmax(agreeing))
    return found if 2 * int(agreeing[found]) > len(listed.addresses) else None


def _adjoin(memory: VirtualMemory, listed: Structures, place: int, form: TableForm) -> bool:
    """Whether the strings of most modules stand right behind as many symbols as they say they have."""
    size = memory.words.size
    places = listed.addresses + np.uint64((place + form.count) * size)
    counts = memory.values(places, np.dtype(f"{memory.words.byte_order}u4"))[0]
    behind = listed.words[:, place] + counts * np.uint64(np.dtype(_ELF_SYMBOLS[size]).itemsize)
    return 2 * int(np.count_nonzero(listed.words[:, place + form.strings] == behind)) > len(listed)


def _symbols(memory: VirtualMemory, table: int, form: TableForm, room: int, adjoining: bool) -> SymbolTable:
    """A module's symbols; those without a name are left out, as the kernel does when it prints them.

    Raises:
        KallsiftError: if they cannot be read, or what stands there is no table of symbols.
    """
    size, order = memory.words.size, memory.words.byte_order
    count = memory.value(table + form.count * size, 4)
    if not 0 < count < MAX_SYMBOLS:
        raise ModulesError(f"at {table:#x} it has no number that symbols can have")
    layout = np.dtype([(name, order + kind) for name, kind in _ELF_SYMBOLS[size]])
    first, texts = memory.value(table), memory.value(table + form.strings * size)
    if adjoining and first + count * layout.itemsize != texts:
        raise ModulesError(f"{count:,} symbols at {first:#x} do not end where their names begin, at {texts:#x}")
    entries = memory.read(first, count * layout.itemsize).view(layout)
    starts = entries["name"].astype(np.int64)
    strings = _strings(memory, texts, int(starts.max()))
    nuls = np.flatnonzero(strings == 0)
    ends = nuls[np.searchsorted(nuls, starts)]
    letters = entries["info"]
    if form.letters is not None:
        letters = memory.read(memory.value(table + form.letters * size), count)
    kept = np.flatnonzero(ends > starts)
    _refuse_damaged(entries, starts, ends, letters[kept])
    if int((ends - starts).sum()) + len(kept) > room:
        raise ModulesError("there are more names than any machine has")
    starts, sizes = starts[kept], ends[kept] - starts[kept]
    bounds = np.concatenate(([0], np.cumsum(sizes + 1)))
    # where each character of the result comes from: a letter, then the name's own
    characters = np.empty(int(bounds[-1]), np.uint8)
    source = np.arange(len(characters)) - np.repeat(bounds[:-1] + 1 - starts, sizes + 1)
    source[bounds[:-1]] = 0
    characters[:] = strings[source]
    characters[bounds[:-1]] = letters[kept]
    return SymbolTable(entries["value"][kept].astype(np.uint64), characters, bounds, size)


def _refuse_damaged(
    entries: NDArray[np.void], starts: NDArray[np.int64], ends: NDArray[np.int64], letters: NDArray[np.uint8]
) -> None:
    """Raises ModulesError unless a module's table is one of symbols, as far as that can be told.

    Args:
        entries: of the table, the first of which is one of zeros.
        starts: of their names among the strings.
        ends: of these.
        letters: of those that have a name.
    """
    if entries[0].tobytes().strip(b"\0"):
        raise ModulesError("its first symbol is not one of zeros")
    if len(entries) > 1 and not len(letters):
        raise ModulesError("none of its symbols has a name")
    if not np.isin(letters, np.array(sorted(LETTERS), np.uint8)).all():
        raise ModulesError("it has types that no symbol has")
    # once a module is loaded, its names stand behind each other in the order of its symbols; none is as long as CUT
    apart = (starts[1:] != ends[:-1] + 1) & (ends - starts < CUT)[:-1]
    if 0 < 2 * int(np.count_nonzero(apart)) < len(apart):
        raise ModulesError(f"{int(np.count_nonzero(apart)):,} of its names do not stand behind the one before")


def _strings(memory: VirtualMemory, start: int, last: int) -> NDArray[np.uint8]:
    """A string table, which begins with NUL, as far as the end of the string at offset ``last``."""
    if last >= MAX_STRINGS:
        raise ModulesError("its names are farther than any")
    strings = memory.read(start, last + len(memory.string(start + last)) + 1)
    if strings[0] or strings[-1]:
        raise ModulesError("its names do not begin and end with NUL")
    return strings


def _capitalised(symbols: SymbolTable, exported: frozenset[tuple[int, bytes]]) -> SymbolTable:
    """The table with upper-case letters for those symbols that are exported."""
    characters = symbols.characters.copy()
    text = characters.tobytes()
    addresses = {address for address, _ in exported}
    wanted = np.flatnonzero(np.isin(symbols.addresses, np.array(sorted(addresses), np.uint64)))
    for index in wanted.tolist():
        low, high = int(symbols.bounds[index]), int(symbols.bounds[index + 1])
        if (int(symbols.addresses[index]), text[low + 1 : high]) in exported:
            characters[low] = ord(text[low : low + 1].upper())
    return SymbolTable(symbols.addresses, characters, symbols.bounds, symbols.word_size)
