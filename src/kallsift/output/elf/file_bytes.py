"""Lay out the bytes of an ELF executable of a kernel: headers, image, tables and section headers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kernel.access.image_sections import PER_CPU, address_of
from kallsift.kernel.kernel import Kernel
from kallsift.memory.memory import AddressSpace
from kallsift.output.elf.layout import PAGE, PER_CPU_NAME, WORD, Layout
from kallsift.output.elf.machines import MACHINES, UNKNOWN
from kallsift.output.elf.sections import NOTE_NAME, Kind, Section
from kallsift.output.elf.structures import (
    ET_EXEC,
    HEADER,
    PF_R,
    PF_W,
    PF_X,
    PT_LOAD,
    PT_NOTE,
    SECTION,
    SEGMENT,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_WRITE,
    SHT_NOBITS,
    SHT_NOTE,
    SHT_PROGBITS,
    SHT_STRTAB,
    SHT_SYMTAB,
    SYMBOL,
    identification,
    record_type,
)
from kallsift.output.elf.symbols import ElfSymbols
from kallsift.output.symbols.system_map import linked_addresses

CHUNK = 1 << 20
"""Highest number of bytes of a table in one piece."""


@dataclass(frozen=True)
class _Load:
    """Sections that are loaded alike, and the offset of their bytes in the file."""

    start: int
    end: int
    flags: int
    held: bool
    offset: int


class FileBytes:
    """The bytes of one file: its layout is computed first, then they are yielded."""

    def __init__(
        self, kernel: Kernel, layout: Layout, symbols: ElfSymbols, architecture: str | None, unslid: bool
    ) -> None:
        self.kernel, self.layout, self.symbols = kernel, layout, symbols
        self.machine = MACHINES.get(architecture or "", UNKNOWN)
        self.unslid = unslid
        self.debug: dict[str, NDArray[np.uint8]] = {}
        self.slide = (kernel.kaslr_slide or 0) if unslid else 0
        self.width, self.order = kernel.symbols.word_size, kernel.byte_order
        self.header = record_type(self.order, HEADER.format(w=self.width))
        self.section = record_type(self.order, SECTION.format(w=self.width))
        self.segment = record_type(self.order, SEGMENT[self.width])
        self.symbol = record_type(self.order, SYMBOL[self.width])
        self.groups = tuple(_groups(layout.sections))
        self.segments = len(self.groups) + (layout.per_cpu is not None) + (layout.build_id is not None)
        self.loads = tuple(self._loads())

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield the file's bytes: headers, image, tables, section headers."""
        tables, sections, shoff = self._tables()
        yield (
            identification(self.width, self.order)
            + self._header(len(sections), shoff).tobytes()
            + self._segments().tobytes()
        )
        position = self._headers_size
        for load in self.loads:
            if load.held:
                yield bytes(load.offset - position)
                yield from self._image(load)
                position = load.offset + load.end - load.start
        yield bytes(-position % 8)
        for table in tables:
            for start in range(0, len(table), CHUNK):
                yield table[start : start + CHUNK].data
        yield sections.tobytes()

    @property
    def _headers_size(self) -> int:
        return 16 + self.header.itemsize + self.segments * self.segment.itemsize

    def _loads(self) -> Iterator[_Load]:
        """Yield segments in the order of their addresses.

        The sections of a segment are adjacent, and are loaded and held alike.
        """
        position = self._headers_size
        for start, end, flags, held in self.groups:
            offset = position + (start - position) % PAGE
            yield _Load(start, end, flags, held, offset)
            if held:
                position = offset + end - start

    def _image(self, load: _Load) -> Iterator[memoryview]:
        """Yield the bytes of a segment.

        They are views of the source wherever it has them in one piece.
        """
        for piece in self.layout.read(self.kernel, load.start, load.end - load.start):
            yield np.ascontiguousarray(piece).data

    def _linked(self, address: int) -> int:
        return address - self.slide & (1 << 8 * self.width) - 1

    def _header(self, sections: int, shoff: int) -> NDArray[np.void]:
        record = np.zeros(1, self.header)
        record["type"], record["machine"], record["version"] = ET_EXEC, self.machine.number, 1
        record["flags"] = self.machine.little if self.order == "<" else self.machine.big
        record["entry"] = self._linked(self.layout.start)
        record["phoff"], record["shoff"] = 16 + self.header.itemsize, shoff
        record["ehsize"], record["phentsize"] = 16 + self.header.itemsize, self.segment.itemsize
        record["shentsize"], record["shnum"] = self.section.itemsize, sections
        record["phnum"], record["shstrndx"] = self.segments, sections - 1
        return record

    def _physical(self, address: int) -> int:
        """Return the physical address of a byte.

        For an image file, whose physical address is unknown, it is the address in the file.
        """
        if self.kernel.memory.space is AddressSpace.PHYSICAL:
            return address - self.kernel.distance & WORD
        return self._linked(address)

    def _segments(self) -> NDArray[np.void]:
        records = np.zeros(self.segments, self.segment)
        mask = (1 << 8 * self.width) - 1
        indices = list(range(len(records)))
        if area := self.layout.per_cpu:
            # drgn takes the image's bounds from the first and the last segment; in vmlinux this one is between them
            record, header = records[indices.pop(max(0, len(self.loads) - 1))], self._of_per_cpu(area)
            record["type"], record["flags"], record["align"] = PT_LOAD, PF_R | PF_W, PAGE
            record["offset"], record["vaddr"], record["memsz"] = header["offset"], area.start, len(area)
            record["filesz"] = len(area) if header["type"] == SHT_PROGBITS else 0
        for index, load in zip(indices, self.loads, strict=False):
            record = records[index]
            record["type"], record["flags"], record["align"] = PT_LOAD, load.flags, PAGE
            record["offset"], record["vaddr"] = load.offset, self._linked(load.start)
            record["paddr"] = self._physical(load.start) & mask
            record["memsz"] = load.end - load.start
            record["filesz"] = load.end - load.start if load.held else 0
        if note := self.layout.build_id:
            record = records[-1]
            record["type"], record["flags"], record["align"] = PT_NOTE, PF_R, 4
            record["filesz"] = len(note.data)
            if note.address is None:
                record["offset"] = self._image_end
            else:
                record["offset"], record["memsz"] = self._offset(note.address), len(note.data)
                record["vaddr"] = self._linked(note.address)
                record["paddr"] = self._physical(note.address) & mask
        return records

    def _offset(self, address: int) -> int:
        """Return the offset in the file of the byte at a running address."""
        load = next(load for load in self.loads if load.start <= address < load.end)
        return load.offset + address - load.start if load.held else load.offset

    @property
    def _image_end(self) -> int:
        """Offset behind the image, where the tables begin."""
        end = max((load.offset + load.end - load.start for load in self.loads if load.held), default=self._headers_size)
        return end + -end % 8

    def _tables(self) -> tuple[list[NDArray[np.uint8]], NDArray[np.void], int]:
        """Return the contents behind the image, the section headers, and their offset."""
        rows: list[tuple[str, dict[str, int]]] = [("", {})]
        rows += [(section.name, self._of_image(section)) for section in self.layout.sections]
        rows += [
            (
                f"{'' if kind is None else kind.section_name}.elsewhere",
                _stray(kind, self._linked(address), self._headers_size),
            )
            for kind, address in self.symbols.strays
        ]
        if area := self.layout.per_cpu:
            rows.append((PER_CPU_NAME, self._of_per_cpu(area)))
        tables: list[NDArray[np.uint8]] = []
        position = self._image_end

        def add(name: str, content: NDArray[np.uint8], **fields: int) -> None:
            nonlocal position
            rows.append((name, {"offset": position, "size": len(content), **fields}))
            tables.append(np.append(content, np.zeros(-len(content) % 8, np.uint8)))
            position += len(tables[-1])

        note = self.layout.build_id
        if note and note.address is None:
            add(NOTE_NAME, np.frombuffer(note.data, np.uint8), type=SHT_NOTE, addralign=4)
        add(
            ".symtab",
            self._symbols(),
            type=SHT_SYMTAB,
            link=len(rows) + 1,
            info=self.symbols.locals + 1,
            addralign=8,
            entsize=self.symbol.itemsize,
        )
        add(".strtab", self.symbols.text, type=SHT_STRTAB, addralign=1)
        for name, content in self.debug.items():
            add(name, content, type=SHT_PROGBITS, addralign=1)
        names = b"".join(name.encode() + b"\0" for name, _ in rows) + b".shstrtab\0"
        add(".shstrtab", np.frombuffer(names, np.uint8), type=SHT_STRTAB, addralign=1)
        records = np.zeros(len(rows), self.section)
        at = 0
        for record, (name, fields) in zip(records, rows, strict=True):
            record["name"] = at
            at += len(name) + 1
            for field, value in fields.items():
                record[field] = value
        return tables, records, position

    def _of_image(self, section: Section) -> dict[str, int]:
        """Return the header of a section of the image."""
        return {
            "type": SHT_NOTE if section.note else SHT_PROGBITS if section.has_content else SHT_NOBITS,
            "flags": SHF_ALLOC | SHF_WRITE * section.writable | SHF_EXECINSTR * (section.kind is Kind.CODE),
            "addr": self._linked(section.start),
            "offset": self._offset(section.start),
            "size": section.end - section.start,
            "addralign": 4 if section.note else 1,
        }

    def _of_per_cpu(self, area: range) -> dict[str, int]:
        """Return the header of the section of per-CPU symbols, whose content is the template in the image."""
        template = address_of(self.kernel, PER_CPU[2]) or 0
        held = any(load.held and load.start <= template <= load.end - len(area) for load in self.loads)
        kind, offset = (Kind.DATA, self._offset(template)) if held else (Kind.ZEROED, self._headers_size)
        return _stray(kind, area.start, offset) | {"size": len(area)}

    def _symbols(self) -> NDArray[np.uint8]:
        """Return the symbol table's bytes, with the null symbol."""
        symbols, records = self.symbols, np.zeros(len(self.symbols.rows) + 1, self.symbol)
        values = symbols.values
        if self.unslid:
            linked = linked_addresses(self.kernel)[symbols.rows]
            moved = (values - np.uint64(self.slide % (1 << 64))) & np.uint64((1 << 8 * self.width) - 1)
            values = np.where(symbols.moved, moved, linked)
        columns = {
            "name": symbols.names,
            "info": symbols.info,
            "shndx": symbols.sections,
            "value": values,
            "size": symbols.sizes,
        }
        for name, column in columns.items():
            records[name][1:] = column
        return records.view(np.uint8)


def _stray(kind: Kind | None, address: int, offset: int) -> dict[str, int]:
    """Return the header of an empty section, for symbols that fit in no other section.

    For unknown letters it is a section that is writable, has content and is never loaded: ``nm`` has no letter for it.
    """
    write = SHF_WRITE * (kind is None or kind > Kind.CONSTANT)
    return {
        "type": SHT_NOBITS if kind is not None and kind.is_zeroed else SHT_PROGBITS,
        "flags": SHF_ALLOC * (kind is not None) | write | SHF_EXECINSTR * (kind is Kind.CODE),
        "addr": address,
        "offset": offset,
        "addralign": 1,
    }


def _groups(sections: tuple[Section, ...]) -> Iterator[tuple[int, int, int, bool]]:
    """Yield start, end, flags and presence of the segments of a file's sections."""
    before: tuple[int, int, int, bool] | None = None
    for section in sections:
        flags = PF_R | PF_W * section.writable | PF_X * (section.kind is Kind.CODE)
        if before and before[2:] == (flags, section.held):
            before = (before[0], section.end, flags, section.held)
            continue
        if before:
            yield before
        before = (section.start, section.end, flags, section.held)
    if before:
        yield before
