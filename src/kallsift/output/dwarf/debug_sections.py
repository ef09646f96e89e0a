"""Put the sections of DWARF together: a unit for the kernel, and one for each of its modules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kallsift.analysis.dynamic.dynamic_symbols import SymbolGroup, dynamic_symbols
from kallsift.arrays import distinct
from kallsift.kallsyms.escapes import escaped
from kallsift.kernel.access.btf_blob import BtfError
from kallsift.output.dwarf.blocks import Columns, EntryBlock, Places, Rows, place, write
from kallsift.output.dwarf.entries import DW_LANG_C99, Attribute, DwarfEntry, DwarfTarget, Form, abbreviations
from kallsift.output.dwarf.functions import CodeSymbols, function_blocks
from kallsift.output.dwarf.type_entries import taken, type_block
from kallsift.output.dwarf.type_table import PRINTABLE, TypeTable
from kallsift.output.dwarf.variables import Variable, typed_variables
from kallsift.types.btf import Btf
from kallsift.types.module_types import types_of_modules
from kallsift.types.types import Types

VERSION = 4
HEADER = {"unit_length": 4, "version": 2, "debug_abbrev_offset": 4, "address_size": 1}
"""Header of a unit (section 7.5.1.1): the bytes of each field."""

PRODUCER = "kallsift"
HEADER_SIZE = sum(HEADER.values())
WORD = 1 << 64
SMALL = np.uint8(0x20)
"""Bit that distinguishes a small letter from a capital one."""

MAX_INFO = 1 << 28
"""Highest size of all units, and of all names, in bytes; a kernel and 80 modules take some 10 MB."""

MAX_WORDS = 1 << 23
"""Highest number of 32-bit words of the types of a unit; kernels have 1.1 million."""

MAX_NAMED = 8
"""Highest number of modules that a remark names."""

NO_ROWS = Rows(np.empty(0, np.uint8), {})
NO_OWNERS = np.empty(0, np.int64)


@dataclass(frozen=True)
class DebugSections:
    """The debug sections that are added to a kernel's ELF file.

    Attributes:
        contents: the bytes of each section by its name, shape (n,), uint8.
        remarks: what could not be written, one line each.
    """

    contents: dict[str, NDArray[np.uint8]]
    remarks: tuple[str, ...]


@dataclass
class _Strings:
    """The section .debug_str under construction."""

    parts: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, names: bytes) -> int:
        """Add names, each with a NUL behind it, and return where they lie."""
        self.parts.append(names.translate(PRINTABLE))
        self.size += len(names)
        return self.size - len(names)

    def name(self, text: str) -> int:
        """Add one name, and return where it lies."""
        return self.add(text.encode("latin-1") + b"\0")


@dataclass(frozen=True, eq=False)
class Unit:
    """A kernel's or a module's code.

    Attributes:
        name: what the unit is called.
        start: address of its first byte.
        end: address behind its last one.
        code: its functions.
    """

    name: str
    start: int
    end: int
    code: CodeSymbols


def debug_sections(types: Types, image: Unit, *, slide: int = 0, modules: bool = False) -> DebugSections:
    """Return the sections that describe a kernel.

    Args:
        types: of the kernel.
        image: the kernel's code, at running addresses.
        slide: what is taken off all addresses of the image and of modules.
        modules: whether to describe loaded modules too.
    """
    writer = _UnitWriter(DwarfTarget(types.kernel.byte_order, types.btf.word_size), slide)
    btf, variables = typed_variables(types)
    table = writer.table(btf)
    moved, fixed = list[Variable](), list[Variable]()
    for each in variables:
        (moved if image.start <= each.address < image.end else fixed).append(each)
    blocks = [
        *function_blocks(table, writer.linked(image.code)),
        writer.variables(fixed, table, 0),
        writer.variables(moved, table, slide),
    ]
    offsets = writer.add(image, table, np.zeros(1, np.int64), blocks)
    remarks = [types.remark] if types.remark else []
    if table.left_out:
        remarks.append(f"{table.left_out} types do not end or are of an unknown kind")
    if modules:
        # modules build on the kernel's own types, without those that its variables need besides
        remarks += _add_modules(writer, types, TypeTable(types.btf, None, table.names_at), offsets)
    return DebugSections(writer.contents(), tuple(remarks))


def _add_modules(writer: _UnitWriter, types: Types, base: TypeTable, below: NDArray[np.int64]) -> Iterator[str]:
    """Add a unit for each loaded module that has types of its own, and yield what is missing.

    Functions are described by their prototypes, so those of a module without types are missing.
    """
    below = below[: len(types.btf)]
    dynamic = dynamic_symbols(types.kernel)
    groups = {group.owner: group for group in dynamic.groups if group.regions}
    yield from (line for line in dynamic.missing if line.startswith("modules"))
    without = dict(groups)
    try:
        for name, own in types_of_modules(types):
            without.pop(name, None)
            if isinstance(own, BtfError):
                yield str(own)
                continue
            table = writer.table(own.btf, base)
            unit = _module(name, groups.get(name))
            writer.add(unit, table, below, list(function_blocks(table, writer.linked(unit.code))))
            if own.remark and not types.remark:
                yield f"{escaped(name)}: {own.remark}"
            if table.left_out:
                yield f"{escaped(name)}: {table.left_out} types do not end or are of an unknown kind"
    except BtfError as error:
        yield str(error)
        return
    if without:
        names = ", ".join(map(escaped, list(without)[:MAX_NAMED])) + (", ..." if len(without) > MAX_NAMED else "")
        yield f"{len(without)} of {len(groups)} modules have no types, so their functions are left out: {names}"


def _module(name: str, group: SymbolGroup | None) -> Unit:
    """Return a module's code: the symbols of code in its first region, each up to the next symbol."""
    if group is None:
        return Unit(name, 0, 0, CodeSymbols([], *(np.empty(0, np.uint64),) * 2, np.empty(0, np.bool_)))
    region, symbols = group.regions[0], group.symbols
    letters, addresses = symbols.types(), symbols.addresses
    inside = (addresses >= np.uint64(region.start)) & (addresses < np.uint64(region.stop))
    is_code = inside & symbols.whole & ((letters | SMALL) == ord("t"))
    bounds = np.append(distinct(addresses[inside]), np.uint64(region.stop))
    chosen = addresses[is_code]
    names = symbols.names()
    return Unit(
        name,
        region.start,
        region.stop,
        CodeSymbols(
            [names[index] for index in np.flatnonzero(is_code).tolist()],
            chosen,
            bounds[np.searchsorted(bounds, chosen, "right")] - chosen,
            letters[is_code] == ord("T"),
        ),
    )


class _UnitWriter:
    """Writer of all units, the kernel's first: its types lie where the others expect them."""

    def __init__(self, target: DwarfTarget, slide: int) -> None:
        self.target, self.slide = target, slide
        self.strings = _Strings()
        self.units: list[NDArray[np.uint8]] = []
        self.size = 0
        self.abbreviations = [abbreviations(target, form) for form in (Form.REF4, Form.REF_ADDR)]

    def table(self, btf: Btf, base: TypeTable | None = None) -> TypeTable:
        """Return the types of a unit as a table whose names are in the section of names.

        Raises:
            BtfError: if there are more than any kernel has.
        """
        if len(btf.blob.words) > MAX_WORDS or self.strings.size + len(btf.blob.strings) > MAX_INFO:
            raise BtfError("there are more types than in any kernel")
        return TypeTable(btf, base, self.strings.add(btf.blob.strings))

    def linked(self, code: CodeSymbols) -> CodeSymbols:
        """Return code at the addresses that the file has."""
        return replace(code, addresses=code.addresses - np.uint64(self.slide % WORD))

    def variables(self, variables: list[Variable], table: TypeTable, slide: int) -> EntryBlock:
        """Return the entries of variables whose addresses a slide is taken off."""
        columns = {
            Attribute.NAME: [self.strings.name(each.name) for each in variables],
            Attribute.TYPE: table.references(np.array([each.number for each in variables], np.int64)).tolist(),
            Attribute.EXTERNAL: [1] * len(variables),
            Attribute.LOCATION: [(each.address - slide) % WORD for each in variables],
        }
        rows = Rows(np.full(len(variables), DwarfEntry.VARIABLE, np.uint8), _columns(columns))
        known = np.flatnonzero(rows.columns[Attribute.TYPE])
        return EntryBlock(taken(rows, known), NO_ROWS, NO_OWNERS)

    def add(
        self, unit: Unit, table: TypeTable, below: NDArray[np.int64], blocks: list[EntryBlock]
    ) -> NDArray[np.int64]:
        """Add a unit, and return where each type lies by its number.

        Args:
            unit: what it says of itself.
            table: its types.
            below: where the types of the base lie, by number.
            blocks: its functions and variables.

        Raises:
            BtfError: if it would be too large.
        """
        written, types = type_block(table)
        parts, places = (self._head(unit), types, *blocks), list[Places]()
        end = HEADER_SIZE
        for part in parts:
            places.append(place(part, end, self.target))
            # the byte that ends the unit's own entries stands behind all of them
            end = places[-1].end - (part is parts[0])
        if self.size + end >= MAX_INFO:
            raise BtfError(f"the types of {escaped(unit.name)} are larger than those of any kernel or module")
        offsets = np.concatenate((below, np.zeros(len(table.btf) - len(below), np.int64)))
        offsets[table.btf.first + written] = self.size + places[1].rows
        data = np.zeros(end + 1, np.uint8)
        data[:HEADER_SIZE] = np.frombuffer(self._header(len(data), table), np.uint8)
        for part, found in zip(parts, places, strict=True):
            write(data, part, found, offsets, self.target)
        self.units.append(data)
        self.size += len(data)
        return offsets

    def _header(self, size: int, table: TypeTable) -> bytes:
        """Return the header of a unit; those behind the first one name types of other units."""
        values = (size - 4, VERSION, 0 if table.base is None else len(self.abbreviations[0]), self.target.width)
        order: Literal["little", "big"] = "little" if self.target.order == "<" else "big"
        return b"".join(value.to_bytes(width, order) for value, width in zip(values, HEADER.values(), strict=True))

    def _head(self, unit: Unit) -> EntryBlock:
        """Return the entry of a unit."""
        columns = {
            Attribute.PRODUCER: [self.strings.name(PRODUCER)],
            Attribute.LANGUAGE: [DW_LANG_C99],
            Attribute.NAME: [self.strings.name(unit.name)],
            Attribute.LOW_PC: [(unit.start - self.slide) % WORD if unit.end else 0],
            Attribute.HIGH_PC: [unit.end - unit.start],
        }
        return EntryBlock(Rows(np.array([DwarfEntry.UNIT], np.uint8), _columns(columns)), NO_ROWS, NO_OWNERS)

    def contents(self) -> dict[str, NDArray[np.uint8]]:
        """Return the sections."""
        return {
            ".debug_info": np.concatenate(self.units),
            ".debug_abbrev": np.frombuffer(b"".join(self.abbreviations), np.uint8),
            ".debug_str": np.frombuffer(b"".join(self.strings.parts), np.uint8),
        }


def _columns(columns: dict[Attribute, list[int]]) -> Columns:
    return {name: np.array(values, np.uint64).view(np.int64) for name, values in columns.items()}
