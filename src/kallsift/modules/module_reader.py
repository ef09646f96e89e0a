"""Reads facts about single modules out of their structures, once it is known where these stand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kallsift.kernel.access.list_head import members
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.modules.field_offsets import Fields
from kallsift.modules.memory_regions import Region, read_regions
from kallsift.modules.parameters import Parameter, parameters
from kallsift.modules.sections import Section, SectionForm, build_id, find_form, sections
from kallsift.modules.struct_module import Structures, name_of, state_of, structures_at
from kallsift.modules.symbol_entries import ModuleSymbols
from kallsift.modules.symbol_tables import SymbolReader, symbol_reader

TAINTS = "PFSRMBUDAWCIOELKXTNJ"
"""The letters of the flags, from the lowest bit on (kernel/panic.c)."""

MAX_USERS = 1 << 12
"""Users of a module at most."""

MAX_TEXT = 1024
"""Characters of a version, or of what a module was loaded with, that are read."""


@dataclass(frozen=True, eq=False)
class FactReader:
    """Reads what is known of any module of one kernel, by the address of its structure.

    All that it reads is None where the fields have no place for it, and raises UnmappedError or ListError where they
    have one, but cannot be read.

    Attributes:
        memory: the kernel's.
        fields: where things stand.
        learned: modules that are used to find out how the kernel keeps sections and symbols, at least one.
        getters: addresses of the kernel's functions that print parameters, and the types they are for.
    """

    memory: VirtualMemory
    fields: Fields
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
        """As ``/proc/modules`` prints it."""
        return name_of(self.memory, address)

    def state(self, address: int) -> str | None:
        """One of `module_structures.STATES`."""
        return state_of(self.memory, address)

    def regions(self, address: int) -> tuple[Region, ...] | None:
        """All parts of its memory, also those that there are none of."""
        return read_regions(self.memory, address, self.fields.regions) or None

    def refcount(self, address: int) -> int | None:
        """How often it is used; -1 while it is unloaded."""
        if self.fields.refcount is None:
            return None
        count = self.memory.value(address + self.fields.refcount, 4)
        return (count ^ 1 << 31) - (1 << 31) - 1

    def users(self, address: int) -> tuple[str, ...] | None:
        """Names of the modules that use it, in the kernel's order."""
        if self.fields.users is None:
            return None
        size = self.memory.words.size
        records = members(self.memory, address + self.fields.users, MAX_USERS).tolist()
        return tuple(name_of(self.memory, self.memory.value(record + 4 * size)) for record in records)

    def permanent(self, address: int) -> bool | None:
        """Whether it has an initial function, and none that undoes it."""
        if self.fields.exit is None:
            return None
        if self.memory.value(address + self.fields.exit):
            return False
        return None if self.fields.init is None else self.memory.value(address + self.fields.init) != 0

    def taints(self, address: int) -> str | None:
        """Letters of the flags that it has set, in the order of their bits."""
        if self.fields.taints is None:
            return None
        flags = self.memory.value(address + self.fields.taints)
        return "".join(letter for bit, letter in enumerate(TAINTS) if flags >> bit & 1)

    def version(self, address: int) -> str | None:
        """As its author calls it; empty where it says none."""
        return self._text(address, self.fields.version)

    def srcversion(self, address: int) -> str | None:
        """Checksum of its source; empty where it has none."""
        return self._text(address, self.fields.srcversion)

    def arguments(self, address: int) -> str | None:
        """What it was loaded with."""
        return self._text(address, self.fields.arguments)

    def _text(self, address: int, offset: int | None) -> str | None:
        if offset is None:
            return None
        place = self.memory.value(address + offset)
        return self.memory.string(place, MAX_TEXT).decode("latin-1") if place else ""

    def sections(self, address: int) -> tuple[Section, ...] | None:
        """Its sections, in the order of its file; none where ``/sys/module`` shows none."""
        if self.fields.sections is None or self._section_form is None:
            return None
        group = self.memory.value(address + self.fields.sections)
        return sections(self.memory, group, self._section_form) if group else ()

    def build_id(self, address: int) -> str | None:
        """The build ID of its file, as hexadecimal digits; empty where it has none."""
        found = self.sections(address)
        return None if found is None else build_id(self.memory, found) or ""

    def parameters(self, address: int) -> tuple[Parameter, ...] | None:
        """Its parameters, in its own order."""
        if self.fields.parameters is None or self.fields.parameter_count is None:
            return None
        start = self.memory.value(address + self.fields.parameters)
        count = self.memory.value(address + self.fields.parameter_count, 4)
        return parameters(self.memory, start, count, self.getters.get)

    def symbols(self, address: int) -> ModuleSymbols:
        """Its symbols, as ``/proc/kallsyms`` prints those of listed modules.

        Raises:
            KallsiftError: if they cannot be read.
        """
        return self._symbol_reader.symbols(structures_at(self.memory, np.array([address], np.uint64)), 0)
