"""Read the symbol table (``.symtab``) of an ELF file.

Such a file is a vmlinux that is not stripped, or its debug information.

Format: System V gABI, chapter 4 ("Sections", "Symbol Table"). The type letters are those that ``nm`` derives from a
symbol's binding and section. Symbols that the kernel leaves out of its own table (scripts/mksysmap) are left out here
too: files, sections, labels of compilers, checksums.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from kallsift.analysis.listings.listing import Listing, SymbolColumns
from kallsift.errors import SourceError
from kallsift.memory.formats.elf_headers import BYTE_ORDERS, CLASSES, FILE_HEADER, MAGIC, TYPE_EXECUTABLE, TYPE_SHARED
from kallsift.memory.formats.elf_notes import ByteOrder

SECTION_FIELDS = ("name", "type", "flags", "address", "offset", "size", "link", "info", "alignment", "entry_size")
SECTIONS = {
    32: np.dtype([(field, "u4") for field in SECTION_FIELDS]),
    64: np.dtype([(field, "u4" if field in ("name", "type", "link", "info") else "u8") for field in SECTION_FIELDS]),
}
SYMBOLS = {
    32: np.dtype([("name", "u4"), ("value", "u4"), ("size", "u4"), ("info", "u1"), ("other", "u1"), ("section", "u2")]),
    64: np.dtype([("name", "u4"), ("info", "u1"), ("other", "u1"), ("section", "u2"), ("value", "u8"), ("size", "u8")]),
}

SYMBOL_TABLE, NO_BITS = 2, 8
WRITABLE, ALLOCATED, EXECUTABLE = 1, 2, 4
ABSOLUTE, RESERVED = 0xFFF1, 0xFF00
WEAK = 2
OBJECT, SECTION, FILE = 1, 3, 4

MAX_SECTIONS = 1 << 16
MAX_SYMBOLS = 1 << 23
"""Highest number of symbols; a large vmlinux has a million."""

LEAST_SYMBOLS = 256
"""Lowest number of symbols in the table of a kernel."""

LEFT_OUT = re.compile(
    rb"\$|\.L|L0\0|__crc_|__kstrtab|__efistub_|__pi_\$|__kvm_nvhe_\$|__kcfi_typeid_|__mod_device_table__"
)
"""Beginnings of names that no kernel since 6.1 keeps."""


def probe(data: NDArray[np.uint8]) -> bool:
    """Tell whether a file is an ELF program with a symbol table."""
    return data[: len(MAGIC)].tobytes() == MAGIC and _tables(data) is not None


def read(name: str, data: NDArray[np.uint8]) -> Listing:
    """Return the symbols of an ELF file, in the order of their addresses.

    Raises:
        SourceError: if there is no symbol table, or it is broken.
    """
    found = _tables(data)
    if found is None:
        raise SourceError(
            f"{name}: has no symbol table (it is stripped); name a file with symbols, or recover them with "
            "'kallsift symbols'"
        )
    sections, table, bits, byte_order = found
    layout = SYMBOLS[bits].newbyteorder(byte_order)
    offset, size, link = (int(table[field]) for field in ("offset", "size", "link"))
    if size // layout.itemsize > MAX_SYMBOLS or link >= len(sections) or offset + size > len(data):
        raise SourceError(f"{name}: its symbol table is broken or cut short; copy the file again")
    symbols = data[offset : offset + size // layout.itemsize * layout.itemsize].view(layout)
    strings = data[int(sections["offset"][link]) :][: int(sections["size"][link])]
    if not len(strings) or int(strings[-1]) != 0 or (len(symbols) and int(symbols["name"].max()) >= len(strings)):
        raise SourceError(f"{name}: its string table is broken or cut short; copy the file again")
    starts = symbols["name"].astype(np.int64)
    nuls = np.flatnonzero(strings == 0)
    ends = nuls[np.searchsorted(nuls, starts)]
    letters = _letters(symbols, sections)
    kept = (letters != 0) & (ends > starts)
    text = strings.tobytes()
    candidates = np.flatnonzero(kept & np.isin(strings[starts], np.frombuffer(b"$._L", np.uint8)))
    kept[[index for index in candidates.tolist() if LEFT_OUT.match(text, int(starts[index]))]] = False
    chosen = np.flatnonzero(kept)
    values = symbols["value"][chosen].astype(np.uint64)
    known = np.ones(len(chosen), np.bool_)
    columns = SymbolColumns(strings, starts[chosen], ends[chosen], letters[chosen], values, known)
    return Listing(columns.by_address().table(bits // 8))


def _tables(data: NDArray[np.uint8]) -> tuple[NDArray[np.void], np.void, int, ByteOrder] | None:
    """Find the symbol table of an ELF file.

    Returns:
        All section headers, the header of the symbol table, word width in bits, byte order. None if there is no such
        table.
    """
    ident = data[:6].tobytes().ljust(6, b"\0")
    bits, byte_order = CLASSES.get(ident[4]), BYTE_ORDERS.get(ident[5])
    if bits is None or byte_order is None:
        return None
    layout = FILE_HEADER[bits].newbyteorder(byte_order)
    beginning = data[: layout.itemsize]
    if len(beginning) < layout.itemsize:
        return None
    header = beginning.view(layout)[0]
    if int(header["type"]) not in (TYPE_EXECUTABLE, TYPE_SHARED):
        return None
    fields = SECTIONS[bits].newbyteorder(byte_order)
    start, count = int(header["section_offset"]), int(header["section_count"])
    held = data[start : start + count * fields.itemsize]
    if not count or int(header["section_size"]) != fields.itemsize or len(held) < count * fields.itemsize:
        return None
    sections = held.view(fields)
    tables = sections[sections["type"] == SYMBOL_TABLE]
    if not len(tables) or int(tables[0]["size"]) < LEAST_SYMBOLS * SYMBOLS[bits].itemsize:
        return None
    return sections, tables[0], bits, byte_order


def _letters(symbols: NDArray[np.void], sections: NDArray[np.void]) -> NDArray[np.uint8]:
    """Return the letters that ``nm`` prints, shape (n,), uint8.

    0 stands for symbols that are not the kernel's.
    """
    kind, binding, section = symbols["info"] & 15, symbols["info"] >> 4, symbols["section"].astype(np.int64)
    within = (section > 0) & (section < len(sections))
    of = np.where(within, section, 0)
    flags, zeroed = sections["flags"][of].astype(np.uint64), sections["type"][of] == NO_BITS
    letters = np.where(flags & np.uint64(WRITABLE) != 0, ord("D"), ord("R"))
    letters = np.where(zeroed, ord("B"), letters)
    letters = np.where(flags & np.uint64(EXECUTABLE) != 0, ord("T"), letters)
    letters = np.where(binding == 0, letters | 0x20, letters)
    letters = np.where(binding == WEAK, np.where(kind == OBJECT, ord("V"), ord("W")), letters)
    letters = np.where(within & (flags & np.uint64(ALLOCATED) != 0), letters, 0)
    letters = np.where(section == ABSOLUTE, np.where(binding == 0, ord("a"), ord("A")), letters)
    return np.where((kind == SECTION) | (kind == FILE), 0, letters).astype(np.uint8)
