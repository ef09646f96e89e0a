"""Open a module's ELF file by pyelftools, and read its sections and its symbol table."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from elftools.common.utils import struct_parse
from elftools.elf.descriptions import (
    describe_symbol_bind,
    describe_symbol_shndx,
    describe_symbol_type,
    describe_symbol_visibility,
)
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_E_MACHINE
from elftools.elf.sections import Section

from kallsift.image.formats.machine_ids import ELF_MACHINES
from kallsift.modules.insmod.ko_file import ModuleElf, ModuleFileError, ModuleSymbol

MAX_SYMBOLS = 1 << 18
MAX_SECTIONS = 1 << 16
MAX_NAME = 1 << 12


def read_elf(content: bytes) -> ModuleElf:
    """Read an ELF file.

    Raises:
        ModuleFileError: if it is broken or too large to be a module.
    """
    try:
        return _read(content)
    except ModuleFileError:
        raise
    except Exception as error:  # pyelftools raises errors of many kinds for broken files
        raise ModuleFileError(f"is a broken ELF file ({type(error).__name__}: {error})") from error


def _read(content: bytes) -> ModuleElf:
    elf = ELFFile(io.BytesIO(content))
    if elf.num_sections() > MAX_SECTIONS:
        raise ModuleFileError(f"has {elf.num_sections():,} sections")
    sections = list(elf.iter_sections())
    named: dict[str, memoryview] = {}
    for section in sections:
        named.setdefault(section.name, _data(content, section))
    number = ENUM_E_MACHINE.get(elf["e_machine"], elf["e_machine"])
    return ModuleElf(
        architecture=ELF_MACHINES.get((number, elf.elfclass)),
        bits=elf.elfclass,
        byte_order="<" if elf.little_endian else ">",
        relocatable=elf["e_type"] == "ET_REL",
        sections=named,
        symbols=tuple(_symbols(elf, content, sections)),
    )


def _data(content: bytes, section: Section) -> memoryview:
    """Return a section's bytes in the file; none for .bss and its like."""
    if section["sh_type"] in ("SHT_NULL", "SHT_NOBITS"):
        return memoryview(b"")
    start, size = int(section["sh_offset"]), int(section["sh_size"])
    if start + size > len(content):
        raise ModuleFileError(f"is cut short: section {section.name} ends beyond the file")
    return memoryview(content)[start : start + size]


def _symbols(elf: ELFFile, content: bytes, sections: list[Section]) -> Iterator[ModuleSymbol]:
    """Yield the symbols of the first section that is a symbol table."""
    table = next((section for section in sections if section["sh_type"] == "SHT_SYMTAB"), None)
    if table is None:
        return
    size = int(table["sh_entsize"])
    count = int(table["sh_size"]) // size
    if count > MAX_SYMBOLS:
        raise ModuleFileError(f"has {count:,} symbols")
    entries = io.BytesIO(_data(content, table))
    strings = _data(content, sections[int(table["sh_link"])])
    for number in range(count):
        yield _symbol(number, struct_parse(elf.structs.Elf_Sym, entries, number * size), strings, sections)


def _symbol(number: int, entry: Any, strings: memoryview, sections: list[Section]) -> ModuleSymbol:
    place = int(entry["st_name"])
    name = bytes(strings[place : place + MAX_NAME]).partition(b"\0")[0].decode("latin-1")
    kind, index = describe_symbol_type(entry["st_info"]["type"]), entry["st_shndx"]
    where = str(describe_symbol_shndx(index)).strip()
    section = sections[index].name if isinstance(index, int) and index < len(sections) else where
    return ModuleSymbol(
        number=number,
        value=int(entry["st_value"]),
        size=int(entry["st_size"]),
        type=kind,
        bind=describe_symbol_bind(entry["st_info"]["bind"]),
        visibility=describe_symbol_visibility(entry["st_other"]["visibility"]),
        section=section,
        index=where,
        name=section if kind == "SECTION" and not name else name,
    )
