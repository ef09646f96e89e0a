"""Read the entries of one module's symbol table, and judge each entry by itself.

When a module is loaded, the kernel keeps copies of the symbols that have a name. It stores their names one behind the
other, each with its NUL, in the order of the symbols (``add_kallsyms()``, kernel/module/kallsyms.c).
``/proc/kallsyms`` prints a name up to its first NUL, and no line for an empty name (``s_show()``, kernel/kallsyms.c).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import UnmappedError
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.access.virtual_memory import PAGE, VirtualMemory
from kallsift.modules.struct_module import ModulesError

MAX_STRINGS = 1 << 26
"""Highest size of a module's string table in bytes."""

MAX_NAME = 512
"""Highest size of a symbol's name with its NUL in bytes: KSYM_NAME_LEN since 6.1."""

CUT = 127
"""Length from which on the loader may have cut a name (KSYM_NAME_LEN less one, before 6.1); a gap follows then."""

LETTERS = frozenset(b"abdgnrstuvw?ABDGNRSTUVW")
"""Letters that ``elf_type()`` can return."""

_IS_LETTER = np.array([byte in LETTERS for byte in range(256)])

_IN_NO_NAME = np.array([(byte < 0x20 and byte not in (0, 1, 2)) or byte >= 0x7F for byte in range(256)])
"""Bytes that are in no name: control characters, and all beyond ASCII.

Two control characters are allowed, because the assembler puts them into local labels. Blanks are in names: RISC-V's
assembler calls labels ".L0 " (binutils, gas/config/tc-riscv.h, FAKE_LABEL_NAME).
"""

ELF_SYMBOLS = {
    8: [("name", "u4"), ("info", "u1"), ("other", "u1"), ("section", "u2"), ("value", "u8"), ("size", "u8")],
    4: [("name", "u4"), ("value", "u4"), ("size", "u4"), ("info", "u1"), ("other", "u1"), ("section", "u2")],
}
"""Fields of Elf64_Sym and Elf32_Sym (System V gABI, "Symbol Table"), by the size of a word."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SymbolPlaces:
    """Addresses of one module's symbol table.

    Attributes:
        entries: virtual address of the array of symbols.
        count: number of symbols, with the first one, which is all zeros.
        strings: virtual address of the string table.
        letters: virtual address of the type letters; None if these stand in the symbols.
        is_in_order: True if the names stand behind each other in the order of the symbols.
    """

    entries: int
    count: int
    strings: int
    letters: int | None
    is_in_order: bool


@dataclass(frozen=True, eq=False)
class ModuleSymbols:
    """The symbols that were read of one module.

    Attributes:
        table: the symbols as ``/proc/kallsyms`` prints them.
        remarks: parts that are unknown, or not as the loader left them, one line each.
    """

    table: SymbolTable
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _SymbolStrings:
    """A string table, as far as it can be read.

    Attributes:
        characters: bytes, shape (n,), uint8; 0 where the memory does not hold them, and at the end.
        is_held: mask of the bytes that the memory holds, shape (n,).
    """

    characters: NDArray[np.uint8]
    is_held: Mask

    def no_characters(self) -> NDArray[np.intp]:
        """Return the offsets of bytes that no name can have, ascending.

        A NUL is not among them: it ends a name.
        """
        # one comparison excludes most bytes
        places = np.flatnonzero((self.characters - np.uint8(0x20) >= 0x7F - 0x20) | ~self.is_held)
        return places[_IN_NO_NAME[self.characters[places]] | ~self.is_held[places]]


def entry_layout(memory: VirtualMemory) -> np.dtype[np.void]:
    """Return the dtype of one symbol."""
    return np.dtype([(name, memory.words.byte_order + kind) for name, kind in ELF_SYMBOLS[memory.words.size]])


def read_symbols(memory: VirtualMemory, places: SymbolPlaces, room: int) -> ModuleSymbols:
    """Read one module's symbols, without those that have no name.

    The kernel prints no symbol without a name either. An entry that contradicts the loader's arrangement is left out
    and counted. A name that a NUL cuts short is printed as the kernel prints it, and counted.

    Args:
        memory: the kernel's memory.
        places: addresses of the module's tables.
        room: highest number of characters of all names together.

    Raises:
        KallsiftError: if there is no symbol table, or most of its entries are not symbols.
    """
    layout = entry_layout(memory)
    data, is_held = _read(memory, places.entries, places.count * layout.itemsize)
    entries = data.view(layout)
    if not is_held[: layout.itemsize].all() or data[: layout.itemsize].any():
        raise ModulesError("its first symbol is not all zeros")
    known = is_held.reshape(places.count, layout.itemsize).all(axis=1)
    starts = entries["name"].astype(np.int64)
    known &= _has_place(starts) if places.is_in_order else starts < MAX_STRINGS
    starts[~known] = 0
    strings = _strings(memory, places.strings, int(starts.max()))
    nuls = np.flatnonzero(strings.characters == 0)
    ends = nuls[np.searchsorted(nuls, starts)]
    letters = entries["info"].copy()
    if places.letters is not None:
        letters, letters_held = _read(memory, places.letters, places.count)
        known &= letters_held
    known &= _IS_LETTER[letters] | (ends == starts)
    known &= ~_holds_any(strings.no_characters(), starts, ends)
    cut = np.zeros(places.count, np.bool_)
    if places.is_in_order:
        following = np.append(starts[1:], 0)
        known &= (strings.characters[starts - 1] == 0) & ((following <= starts) | (ends < following))
        known &= _is_linked(starts, ends)
        cut = known & np.append(known[1:], False) & (starts != 0) & (ends - starts < CUT) & (ends + 1 != following)
    # the first symbol is never printed
    empty = known & (ends == starts)
    empty[0], known[0] = False, True
    return _judged(memory, places, entries, _Names(strings.characters, starts, ends, letters, known, empty, cut), room)


@dataclass(frozen=True, eq=False)
class _Names:
    """Facts about each symbol's name, shape (n,) each except for the characters.

    Attributes:
        characters: the string table.
        starts: offsets of the names in the string table.
        ends: offsets of their NULs.
        letters: types of the symbols.
        known: mask of the symbols that contradict nothing.
        empty: mask of the known symbols without a name.
        cut: mask of the known symbols that end before the next one's name begins.
    """

    characters: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    letters: NDArray[np.uint8]
    known: Mask
    empty: Mask
    cut: Mask


def _judged(
    memory: VirtualMemory, places: SymbolPlaces, entries: NDArray[np.void], names: _Names, room: int
) -> ModuleSymbols:
    """Return the table of the known symbols, and remarks on the others.

    Raises:
        ModulesError: if most symbols are not known.
    """
    kept = np.flatnonzero(names.known & (names.ends > names.starts))
    count = places.count - 1
    unknown = int(np.count_nonzero(~names.known))
    if count and not len(kept):
        raise ModulesError("none of its symbols has a name")
    if 2 * unknown > count:
        raise ModulesError(f"{unknown:,} of its {count:,} symbols are invalid")
    starts, sizes = names.starts[kept], (names.ends - names.starts)[kept]
    if int(sizes.sum()) + len(kept) > room:
        raise ModulesError("its names are larger than those of any module")
    bounds = np.concatenate(([0], np.cumsum(sizes + 1)))
    if len(kept) and starts[0] > 0 and (starts[1:] == names.ends[kept][:-1] + 1).all():
        # the names stand one behind the other, so the NUL before each gives room for its letter
        characters = names.characters[starts[0] - 1 :][: bounds[-1]].copy()
    else:
        # source index of each character of the result: a letter, then those of the name
        source = np.arange(bounds[-1]) - np.repeat(bounds[:-1] + 1 - starts, sizes + 1)
        source[bounds[:-1]] = 0
        characters = names.characters[source]
    characters[bounds[:-1]] = names.letters[kept]
    remarks = []
    if unknown:
        remarks.append(f"{unknown:,} of {count:,} are damaged and left out")
    if places.is_in_order and (cut := int(np.count_nonzero(names.cut | names.empty))):
        remarks.append(f"{cut:,} of {count:,} names are cut short by a NUL, as the kernel prints them too")
    table = SymbolTable(entries["value"][kept].astype(np.uint64), characters, bounds, memory.words.size)
    return ModuleSymbols(table, tuple(remarks))


def is_in_order(memory: VirtualMemory, entries: int, count: int, strings: int) -> bool:
    """Tell whether most names of a symbol table stand in the order of the symbols.

    Args:
        memory: the kernel's memory.
        entries: virtual address of the symbols.
        count: number of symbols.
        strings: virtual address of the string table.
    """
    layout = entry_layout(memory)
    data, _ = _read(memory, entries, count * layout.itemsize)
    starts = data.view(layout)["name"].astype(np.int64)
    found = _strings(memory, strings, int(starts[_has_place(starts)].max(initial=0)))
    behind = starts[:-1]
    behind = np.where(behind < len(found.characters), behind, 0)
    nuls = np.flatnonzero(found.characters == 0)
    good = nuls[np.searchsorted(nuls, behind)] + 1 == starts[1:]
    return 2 * int(np.count_nonzero(good)) > len(good)


def _has_place(starts: NDArray[np.int64]) -> Mask:
    """Return which names, shape (n,), are close to the one before or behind.

    A damaged offset is close to neither.
    """
    near = (np.diff(starts) > 0) & (np.diff(starts) <= 2 * MAX_NAME)
    return np.asarray((np.append(True, near) | np.append(near, False)) & (starts < MAX_STRINGS))


def _is_linked(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Mask:
    """Return which names adjoin a neighbour, or begin between both neighbours.

    The mask has shape (n,). There can be a gap behind a name that the loader cut.
    """
    gap = starts[1:] - ends[:-1]
    adjoins = (gap == 1) | ((gap > 1) & ((ends - starts)[:-1] >= CUT))
    ascends = np.diff(starts) > 0
    before, behind = np.append(False, ascends), np.append(ascends, True)
    return np.asarray(np.append(False, adjoins) | np.append(adjoins, False) | (before & behind))


def _holds_any(places: NDArray[np.intp], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Mask:
    """Return which ranges, from a start to an end inclusive, contain any place.

    The places must ascend; the result has shape (n,).
    """
    if not len(places):
        return np.zeros(len(starts), np.bool_)
    return np.asarray(np.searchsorted(places, ends, "right") > np.searchsorted(places, starts))


def _strings(memory: VirtualMemory, start: int, last: int) -> _SymbolStrings:
    """Read a string table up to the end of the string at offset ``last``.

    Raises:
        ModulesError: if it does not begin with NUL.
    """
    try:
        size = last + len(memory.string(start + last, MAX_NAME)) + 1
    except UnmappedError:
        size = last + MAX_NAME
    characters, is_held = _read(memory, start, size)
    if not is_held[0] or characters[0]:
        raise ModulesError("its names do not begin with NUL")
    if characters[-1]:
        # the last string's end is not readable: mark the added NUL as not held
        characters, is_held = np.append(characters, np.uint8(0)), np.append(is_held, False)
    return _SymbolStrings(characters, is_held)


def _read(memory: VirtualMemory, address: int, size: int) -> tuple[NDArray[np.uint8], Mask]:
    """Read bytes, and tell which of them the memory holds; the others are 0.

    Returns:
        The bytes and the mask, shape (size,) each.

    Raises:
        UnmappedError: if the memory holds none of them.
    """
    try:
        return memory.read(address, size), np.ones(size, np.bool_)
    except UnmappedError:
        if not size or size > MAX_STRINGS + MAX_NAME:
            raise
    data, is_held = np.zeros(size, np.uint8), np.zeros(size, np.bool_)
    for begin in range(-(address % PAGE), size, PAGE):
        part = slice(max(begin, 0), min(begin + PAGE, size))
        try:
            data[part] = memory.read(address + part.start, part.stop - part.start)
        except UnmappedError:
            continue
        is_held[part] = True
    if not is_held.any():
        raise UnmappedError(address, size)
    return data, is_held
