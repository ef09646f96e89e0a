"""Read single facts about a module out of its structure, once the fields' offsets are known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kallsift.kernel.access.list_head import members
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.modules.field_offsets import ModuleLayout
from kallsift.modules.memory_regions import ModuleRegion, read_regions
from kallsift.modules.parameters import ModuleParameter, parameters
from kallsift.modules.sections import ModuleSection, SectionForm, build_id, find_form, sections
from kallsift.modules.struct_module import Structures, name_of, state_of, structures_at
from kallsift.modules.symbol_entries import ModuleSymbols
from kallsift.modules.symbol_tables import SymbolReader, symbol_reader

TAINTS = "PFSRMBUDAWCIOELKXTNJ"
"""Letters of the taint flags, from the lowest bit on (kernel/panic.c)."""

MAX_USERS = 1 << 12
"""Highest number of users of a module."""

MAX_TEXT = 1024
"""Highest number of characters that are read of a version, or of the arguments that a module was loaded with."""


@dataclass(frozen=True, eq=False)
class FactReader:
    """A reader of the facts about any module, by the address of its structure.

    A fact is None where its field's offset is unknown. Where the field is known but cannot be read, the methods raise
    UnmappedError or ListError.

    Attributes:
        memory: the kernel's memory.
        fields: offsets of the fields.
        learned: modules that show how the kernel keeps sections and symbols, at least one.
        getters: addresses of the kernel's functions that print parameters, and the types that they print.
    """

    memory: VirtualMemory
    fields: ModuleLayout
    learned: Structures
    getters: dict[int, str]

    @cached_property
    def _section_form(self) -> SectionForm | None:
        if self.fields.sections is None:
            return None
        addresses = self.learned.addresses
        groups = self.memory.values(addresses + np.uint64(self.fields.sections))[0]
        known = zip(addresses[groups != 0].tolist(), groups[groups != 0].tolist(), strict=True)
        return find_form(self.memory, known)

    @cached_property
    def _symbol_reader(self) -> SymbolReader:
        return symbol_reader(self.memory, self.learned)

    def name(self, address: int) -> str | None:
        """Return the name as ``/proc/modules`` prints it."""
        return name_of(self.memory, address)

    def state(self, address: int) -> str | None:
        """Return one of `struct_module.STATES`, or a number that is none of them."""
        return state_of(self.memory, address)

    def regions(self, address: int) -> tuple[ModuleRegion, ...] | None:
        """Return all parts of the module's memory, also those of size 0."""
        return read_regions(self.memory, address, self.fields.regions) or None

    def refcount(self, address: int) -> int | None:
        """Return the number of references; -1 while the module is unloaded."""
        if self.fields.refcount is None:
            return None
        count = self.memory.value(address + self.fields.refcount, 4)
        return (count ^ 1 << 31) - (1 << 31) - 1

    def users(self, address: int) -> tuple[str, ...] | None:
        """Return the names of the modules that use this one, in the kernel's order."""
        if self.fields.users is None:
            return None
        size = self.memory.words.size
        records = members(self.memory, address + self.fields.users, MAX_USERS).tolist()
        return tuple(name_of(self.memory, self.memory.value(record + 4 * size)) for record in records)

    def permanent(self, address: int) -> bool | None:
        """Tell whether the module has an init function and no exit function."""
        if self.fields.exit is None:
            return None
        if self.memory.value(address + self.fields.exit):
            return False
        return None if self.fields.init is None else self.memory.value(address + self.fields.init) != 0

    def taints(self, address: int) -> str | None:
        """Return the letters of the set taint flags, in the order of their bits."""
        if self.fields.taints is None:
            return None
        flags = self.memory.value(address + self.fields.taints)
        return "".join(letter for bit, letter in enumerate(TAINTS) if flags >> bit & 1)

    def version(self, address: int) -> str | None:
        """Return the version that the author gave; empty if there is none."""
        return self._text(address, self.fields.version)

    def srcversion(self, address: int) -> str | None:
        """Return the checksum of the module's source; empty if there is none."""
        return self._text(address, self.fields.srcversion)

    def arguments(self, address: int) -> str | None:
        """Return the arguments that the module was loaded with."""
        return self._text(address, self.fields.arguments)

    def _text(self, address: int, offset: int | None) -> str | None:
        if offset is None:
            return None
        place = self.memory.value(address + offset)
        return self.memory.string(place, MAX_TEXT).decode("latin-1") if place else ""

    def sections(self, address: int) -> tuple[ModuleSection, ...] | None:
        """Return the sections in the file's order; none if ``/sys/module`` shows none."""
        if self.fields.sections is None or self._section_form is None:
            return None
        group = self.memory.value(address + self.fields.sections)
        return sections(self.memory, group, self._section_form) if group else ()

    def build_id(self, address: int) -> str | None:
        """Return the build ID of the module's file in hexadecimal; empty if there is none."""
        found = self.sections(address)
        return None if found is None else build_id(self.memory, found) or ""

    def parameters(self, address: int) -> tuple[ModuleParameter, ...] | None:
        """Return the parameters in the module's own order."""
        if self.fields.parameters is None or self.fields.parameter_count is None:
            return None
        start = self.memory.value(address + self.fields.parameters)
        count = self.memory.value(address + self.fields.parameter_count, 4)
        return parameters(self.memory, start, count, self.getters.get)

    def symbols(self, address: int) -> ModuleSymbols:
        """Return the symbols as ``/proc/kallsyms`` prints those of listed modules.

        Raises:
            KallsiftError: if they cannot be read.
        """
        return self._symbol_reader.symbols(structures_at(self.memory, np.array([address], np.uint64)), 0)
