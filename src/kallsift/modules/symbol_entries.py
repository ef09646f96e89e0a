"""The entries of one module's symbol table, each judged for itself.

When it has loaded a module, the kernel keeps copies of the symbols that have a name, and of their names one behind the
other, each with its NUL, in the order of the symbols (``add_kallsyms()``, kernel/module/kallsyms.c).
``/proc/kallsyms`` prints what stands there: a name as far as its first NUL, and no line for an empty one
(``s_show()``, kernel/kallsyms.c).
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
"""Bytes of a module's string table at most."""

MAX_NAME = 512
"""Bytes of a symbol's name with its NUL at most: KSYM_NAME_LEN since 6.1."""

CUT = 127
"""Characters from which on the loader can have cut a name (KSYM_NAME_LEN less one, before 6.1): a gap follows then."""

LETTERS = frozenset(b"abdgnrstuvw?ABDGNRSTUVW")
"""What ``elf_type()`` can return."""

_IS_LETTER = np.array([byte in LETTERS for byte in range(256)])

_IN_NO_NAME = np.array([(byte < 0x20 and byte not in (0, 1, 2)) or byte >= 0x7F for byte in range(256)])
"""Control characters, but for the two that the assembler puts into local labels, and all beyond ASCII.

Blanks are in names: RISC-V's assembler calls labels ".L0 " (binutils, gas/config/tc-riscv.h, FAKE_LABEL_NAME).
"""

ELF_SYMBOLS = {
    8: [("name", "u4"), ("info", "u1"), ("other", "u1"), ("section", "u2"), ("value", "u8"), ("size", "u8")],
    4: [("name", "u4"), ("value", "u4"), ("size", "u4"), ("info", "u1"), ("other", "u1"), ("section", "u2")],
}
"""Elf64_Sym and Elf32_Sym (System V gABI, "Symbol Table"), by the size of a word."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SymbolPlaces:
    """Where one module's symbols are.

    Attributes:
        entries: virtual address of the array of symbols.
        count: how many these are, the first one of zeros among them.
        strings: virtual address of the string table.
        letters: virtual address of the type letters; None where these stand in the symbols.
        is_in_order: whether the names stand behind each other in the order of the symbols.
    """

    entries: int
    count: int
    strings: int
    letters: int | None
    is_in_order: bool


@dataclass(frozen=True, eq=False)
class ModuleSymbols:
    """What was read of one module's symbols.

    Attributes:
        table: as ``/proc/kallsyms`` prints them.
        remarks: what is unknown, or not as the loader left it, one line each.
    """

    table: SymbolTable
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Strings:
    """A string table as far as it can be read.

    Attributes:
        characters: shape (n,), uint8; 0 where nothing is held, and at the end.
        is_held: which of them the memory holds, shape (n,).
    """

    characters: NDArray[np.uint8]
    is_held: Mask

    def no_characters(self) -> NDArray[np.intp]:
        """Return where no character of a name stands, ascending; NULs end names."""
        # most bytes are dismissed by one comparison
        places = np.flatnonzero((self.characters - np.uint8(0x20) >= 0x7F - 0x20) | ~self.is_held)
        return places[_IN_NO_NAME[self.characters[places]] | ~self.is_held[places]]


def entry_layout(memory: VirtualMemory) -> np.dtype[np.void]:
    """The dtype of one symbol."""
    return np.dtype([(name, memory.words.byte_order + kind) for name, kind in ELF_SYMBOLS[memory.words.size]])


def read_symbols(memory: VirtualMemory, places: SymbolPlaces, room: int) -> ModuleSymbols:
    """Read one module's symbols; those without a name are left out, as the kernel does when it prints them.

    An entry that contradicts what the loader made of all is left out and counted. A name that a NUL cuts short is
    printed as the kernel prints it, and counted.

    Args:
        memory: the kernel's.
        places: of the module's tables.
        room: characters of all names together at most.

    Raises:
        KallsiftError: if there is no symbol table, or most of its entries are not those of one.
    """
    layout = entry_layout(memory)
    data, is_held = _read(memory, places.entries, places.count * layout.itemsize)
    entries = data.view(layout)
    if not is_held[: layout.itemsize].all() or data[: layout.itemsize].any():
        raise ModulesError("its first symbol is not one of zeros")
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
    # the first one is not printed anywhere
    empty = known & (ends == starts)
    empty[0], known[0] = False, True
    return _judged(memory, places, entries, _Names(strings.characters, starts, ends, letters, known, empty, cut), room)


@dataclass(frozen=True, eq=False)
class _Names:
    """What was found out of each symbol, shape (n,) each but for the characters.

    Attributes:
        characters: the string table.
        starts: where in it names begin.
        ends: where their NULs are.
        letters: their types.
        known: which contradict nothing.
        empty: which of these have no name.
        cut: which of these end before the next one's name begins.
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
    """The table of what is known, and what is to be said of the rest.

    Raises:
        ModulesError: if that is most of it.
    """
    kept = np.flatnonzero(names.known & (names.ends > names.starts))
    count = places.count - 1
    unknown = int(np.count_nonzero(~names.known))
    if count and not len(kept):
        raise ModulesError("none of its symbols has a name")
    if 2 * unknown > count:
        raise ModulesError(f"{unknown:,} of its {count:,} symbols are none")
    starts, sizes = names.starts[kept], (names.ends - names.starts)[kept]
    if int(sizes.sum()) + len(kept) > room:
        raise ModulesError("there are more names than any machine has")
    bounds = np.concatenate(([0], np.cumsum(sizes + 1)))
    if len(kept) and starts[0] > 0 and (starts[1:] == names.ends[kept][:-1] + 1).all():
        # one behind the other: the NUL before each makes room for its letter
        characters = names.characters[starts[0] - 1 :][: bounds[-1]].copy()
    else:
        # where each character of the result comes from: a letter, then the name's own
        source = np.arange(bounds[-1]) - np.repeat(bounds[:-1] + 1 - starts, sizes + 1)
        source[bounds[:-1]] = 0
        characters = names.characters[source]
    characters[bounds[:-1]] = names.letters[kept]
    remarks = []
    if unknown:
        remarks.append(f"{unknown:,} of {count:,} are damaged and left out")
    if places.is_in_order and (cut := int(np.count_nonzero(names.cut | names.empty))):
        remarks.append(f"a NUL cuts {cut:,} of {count:,} names short, which are printed as the kernel prints them")
    table = SymbolTable(entries["value"][kept].astype(np.uint64), characters, bounds, memory.words.size)
    return ModuleSymbols(table, tuple(remarks))


def is_in_order(memory: VirtualMemory, entries: int, count: int, strings: int) -> bool:
    """Whether most names of a symbol table stand behind each other in the order of the symbols.

    Args:
        memory: the kernel's.
        entries: virtual address of the symbols.
        count: how many.
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
    """Which names, shape (n,), are near the one before or behind: a damaged number is near neither."""
    near = (np.diff(starts) > 0) & (np.diff(starts) <= 2 * MAX_NAME)
    return np.asarray((np.append(True, near) | np.append(near, False)) & (starts < MAX_STRINGS))


def _is_linked(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Mask:
    """Which names, shape (n,), adjoin a neighbour, or begin between both; behind one that was cut can be a gap."""
    gap = starts[1:] - ends[:-1]
    adjoins = (gap == 1) | ((gap > 1) & ((ends - starts)[:-1] >= CUT))
    ascends = np.diff(starts) > 0
    before, behind = np.append(False, ascends), np.append(ascends, True)
    return np.asarray(np.append(False, adjoins) | np.append(adjoins, False) | (before & behind))


def _holds_any(places: NDArray[np.intp], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Mask:
    """Which stretches, from a start to its end, both included, hold any of some places, ascending; shape (n,)."""
    if not len(places):
        return np.zeros(len(starts), np.bool_)
    return np.asarray(np.searchsorted(places, ends, "right") > np.searchsorted(places, starts))


def _strings(memory: VirtualMemory, start: int, last: int) -> _Strings:
    """A string table, as far as the end of the string at offset ``last``.

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
        # it does not end where it is known, so that what ends it here is not its own
        characters, is_held = np.append(characters, np.uint8(0)), np.append(is_held, False)
    return _Strings(characters, is_held)


def _read(memory: VirtualMemory, address: int, size: int) -> tuple[NDArray[np.uint8], Mask]:
    """Bytes, shape (size,), and which of them the memory holds; the others are 0.

    Raises:
        UnmappedError: if it holds none of them.
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
