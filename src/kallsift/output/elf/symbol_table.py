"""Write an ELF file that has a symbol table and nothing else, at running addresses.

Its sections have no content: the code from ``_text`` or ``_stext`` to ``_etext``, what is behind it up to ``_end``, and
the area of modules, as far as symbols are in it. gdb needs them to tell functions from data, and to find a symbol by an
address. Symbols elsewhere are absolute.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.access.image_sections import address_of
from kallsift.kernel.kernel import Kernel
from kallsift.output.elf.machines import MACHINES, UNKNOWN
from kallsift.output.elf.structures import (
    ET_EXEC,
    HEADER,
    SECTION,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_WRITE,
    SHT_NOBITS,
    SHT_STRTAB,
    SHT_SYMTAB,
    SYMBOL,
    identification,
    record_type,
)
from kallsift.output.elf.symbols import ABSOLUTE, FUNCTION, GLOBAL, LOCAL, NOTYPE, OBJECT

NAMES = b"\0.text\0.data\0.modules\0.symtab\0.strtab\0.shstrtab\0"
"""Names of the sections."""


def symbol_elf(kernel: Kernel, tables: Sequence[SymbolTable]) -> bytes:
    """Return the file.

    Args:
        kernel: the kernel, for its architecture and the bounds of its image.
        tables: symbols whose names and addresses are known: the built-in ones, then those of modules.
    """
    word, order = kernel.symbols.word_size, kernel.byte_order
    text_start, low, middle, high = (address_of(kernel, name) or 0 for name in ("_text", "_stext", "_etext", "_end"))
    low = text_start or low
    # where only text is listed, nothing tells the end of the image
    high = max(low, middle, high)
    middle = middle if low <= middle else high
    addresses = np.concatenate([table.addresses for table in tables])
    letters = np.concatenate([table.characters[table.bounds[:-1]] for table in tables])
    first, end = _area(addresses[len(tables[0]) :], low, high)
    sections = np.full(len(addresses), ABSOLUTE, np.uint16)
    sections[(addresses >= np.uint64(first)) & (addresses < np.uint64(end))] = 3
    sections[(addresses >= np.uint64(middle)) & (addresses <= np.uint64(high))] = 2
    sections[(addresses >= np.uint64(low)) & (addresses < np.uint64(middle))] = 1
    text, names = _names(tables)
    symbols = np.zeros(len(addresses) + 1, record_type(order, SYMBOL[word]))
    rows = np.argsort(letters & np.uint8(0x20) == 0, kind="stable")
    symbols["name"][1:], symbols["value"][1:] = names[rows], addresses[rows]
    symbols["shndx"][1:], symbols["info"][1:] = sections[rows], _info(letters)[rows]
    count = int((letters & np.uint8(0x20) != 0).sum())
    contents = (symbols.tobytes(), text, NAMES)
    ident, header = identification(word, order), record_type(order, HEADER.format(w=word))
    size = len(ident) + header.itemsize
    offsets = np.cumsum([size, *map(len, contents)]).tolist()
    headers = np.zeros(7, record_type(order, SECTION.format(w=word)))
    starts = (b".text", b".data", b".modules", b".symtab", b".strtab", b".shstrtab")
    headers["name"][1:] = [NAMES.index(b"\0" + name) + 1 for name in starts]
    headers["type"][1:] = SHT_NOBITS, SHT_NOBITS, SHT_NOBITS, SHT_SYMTAB, SHT_STRTAB, SHT_STRTAB
    headers["flags"][1:4] = SHF_ALLOC | SHF_EXECINSTR, SHF_ALLOC | SHF_WRITE, SHF_ALLOC | SHF_EXECINSTR
    headers["addr"][1:4] = low, middle, first
    headers["size"][1:] = middle - low, high - middle, end - first, *map(len, contents)
    headers["offset"][1:] = *[offsets[0]] * 3, *offsets[:3]
    headers["link"][4], headers["info"][4] = 5, count + 1
    headers["addralign"][1:], headers["entsize"][4] = 1, symbols.itemsize
    machine = MACHINES.get(kernel.architecture or "", UNKNOWN)
    file = np.zeros(1, header)
    file["type"], file["machine"], file["version"] = ET_EXEC, machine.number, 1
    file["flags"] = machine.little if order == "<" else machine.big
    file["shoff"], file["ehsize"], file["shentsize"] = offsets[3], size, headers.itemsize
    file["shnum"], file["shstrndx"] = len(headers), 6
    return b"".join((ident, file.tobytes(), *contents, headers.tobytes()))


def _area(addresses: NDArray[np.uint64], low: int, high: int) -> tuple[int, int]:
    """Return the bounds of what modules have; 0 and 0 if there is nothing, or the image is in it."""
    outside = addresses[(addresses != 0) & ((addresses < np.uint64(low)) | (addresses > np.uint64(high)))]
    if not len(outside):
        return 0, 0
    first, last = int(outside.min()), int(outside.max())
    return (0, 0) if first <= high and last >= low else (first, last + 1)


def _names(tables: Sequence[SymbolTable]) -> tuple[bytes, NDArray[np.uint32]]:
    """Return the names, each with a NUL behind it, and the offset of each."""
    parts, offsets, at = [b"\0"], [], 1
    for table in tables:
        characters = np.append(table.characters, np.uint8(0))
        # a NUL instead of the letter ends the name before it
        characters[table.bounds[:-1]] = 0
        offsets.append(table.bounds[:-1] + 1 + at)
        parts.append(characters.tobytes())
        at += len(characters)
    return b"".join(parts), np.concatenate(offsets).astype(np.uint32)


def _info(letters: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return binding and type of each symbol."""
    small = letters | np.uint8(0x20)
    kind = np.where(small == ord("t"), FUNCTION, np.where(small == ord("a"), NOTYPE, OBJECT))
    return (np.where(letters == small, LOCAL, GLOBAL) << 4 | kind).astype(np.uint8)
