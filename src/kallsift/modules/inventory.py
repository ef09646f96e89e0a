"""Gather all loaded modules, listed or hidden, with all facts that the kernel keeps of each.

The facts are those that ``/proc/modules`` and ``/sys/module`` show. Those that take more reading (sections, parameters,
symbols) are read on first access.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np

from kallsift.by_name import ByName
from kallsift.errors import KallsiftError
from kallsift.kallsyms.escapes import escaped
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.access.virtual_memory import virtual_memory
from kallsift.kernel.kernel import Kernel
from kallsift.modules.field_inference import infer_layout
from kallsift.modules.field_offsets import layout_from_btf
from kallsift.modules.hidden_modules import found_elsewhere
from kallsift.modules.memory_regions import ModuleRegion
from kallsift.modules.module_list import listed_structures
from kallsift.modules.module_reader import FactReader
from kallsift.modules.parameters import GETTERS, ModuleParameter
from kallsift.modules.sections import ModuleSection
from kallsift.modules.struct_module import structures_at

LIST = "list"
"""Witness for modules in the kernel's list, which ``/proc/modules`` and ``/proc/kallsyms`` show."""

CODE = ("core", "text")
"""Names of the part of memory whose address ``/proc/modules`` shows."""

Fact = TypeVar("Fact")


@dataclass(frozen=True, eq=False, repr=False)
class LoadedModule:
    """A module in memory, whose facts are read on first access.

    The source must be open at that time. A fact is None where the kernel does not keep it, where its field's offset is
    unknown (`Inventory.unknown`), or where it cannot be read (``gaps``).

    Attributes:
        address: address of its ``struct module``.
        found_by: data that refer to it: ``"list"``, and names in `hidden_modules.CROSS_VIEWS`.
        facts: reader of its facts.
        gaps: names of the facts that could not be read so far, and the reasons.
    """

    address: int
    found_by: tuple[str, ...]
    facts: FactReader
    gaps: dict[str, str] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        name = "?" if self.name is None else escaped(self.name)
        return f"<LoadedModule {name}: struct module at {self.address:#x}, found by {', '.join(self.found_by)}>"

    def _read(self, read: Callable[[int], Fact | None]) -> Fact | None:
        try:
            return read(self.address)
        except KallsiftError as error:
            self.gaps[read.__name__] = str(error)
            return None

    @property
    def listed(self) -> bool:
        """True if the module is in the kernel's list, so that ``/proc/modules`` shows it."""
        return LIST in self.found_by

    @cached_property
    def name(self) -> str | None:
        """Name as ``/proc/modules`` prints it."""
        return self._read(self.facts.name)

    @cached_property
    def state(self) -> str | None:
        """State: ``"Live"``, ``"Loading"``, ``"Unloading"``, ``"Unformed"``, or a number that is none of them."""
        return self._read(self.facts.state)

    @cached_property
    def regions(self) -> tuple[ModuleRegion, ...] | None:
        """Parts of its memory, also those of size 0."""
        return self._read(self.facts.regions)

    @cached_property
    def refcount(self) -> int | None:
        """Number of references; -1 while the module is unloaded."""
        return self._read(self.facts.refcount)

    @cached_property
    def users(self) -> tuple[str, ...] | None:
        """Names of the modules that use it, in the kernel's order."""
        return self._read(self.facts.users)

    @cached_property
    def permanent(self) -> bool | None:
        """True if it cannot be unloaded."""
        return self._read(self.facts.permanent)

    @cached_property
    def taints(self) -> str | None:
        """Letters of its set taint flags."""
        return self._read(self.facts.taints)

    @cached_property
    def version(self) -> str | None:
        """Version that its author gave; empty if there is none."""
        return self._read(self.facts.version)

    @cached_property
    def srcversion(self) -> str | None:
        """Checksum of its source; empty if there is none."""
        return self._read(self.facts.srcversion)

    @cached_property
    def arguments(self) -> str | None:
        """Arguments that it was loaded with."""
        return self._read(self.facts.arguments)

    @cached_property
    def sections(self) -> tuple[ModuleSection, ...] | None:
        """Sections in the order of its file; none if ``/sys/module`` shows none."""
        return self._read(self.facts.sections)

    @cached_property
    def parameters(self) -> tuple[ModuleParameter, ...] | None:
        """Parameters in its own order."""
        return self._read(self.facts.parameters)

    @cached_property
    def symbols(self) -> SymbolTable | None:
        """Symbols as ``/proc/kallsyms`` prints those of listed modules; problems with some of them become a gap."""
        found = self._read(self.facts.symbols)
        if found is None:
            return None
        if found.remarks:
            self.gaps["symbols"] = "; ".join(found.remarks)
        return found.table

    @cached_property
    def build_id(self) -> str | None:
        """Build ID of its file in hexadecimal; empty if there is none."""
        return self._read(self.facts.build_id)

    @property
    def base(self) -> int | None:
        """Address of its code; 0 if it has none."""
        return next((region.base for region in self.regions or () if region.name in CODE), None)

    @property
    def size(self) -> int | None:
        """Size of all its memory in bytes."""
        return None if self.regions is None else sum(region.size for region in self.regions)

    def holds(self, address: int) -> bool:
        """Tell whether an address is in the module's memory."""
        return any(0 <= address - region.base < region.size for region in self.regions or ())


@dataclass(frozen=True, eq=False, repr=False)
class Inventory(ByName[LoadedModule]):
    """All modules of a kernel.

    Attributes:
        modules: first the listed modules in the list's order, the one that was loaded last first; then the others by
            address.
        unknown: names of facts that are known of no module, because the offset of their field is unknown.
        errors: data of the kernel that could not be searched for modules, one line each.
        word_size: size of an address in bytes.
    """

    modules: tuple[LoadedModule, ...]
    unknown: tuple[str, ...]
    errors: tuple[str, ...]
    word_size: int

    def __repr__(self) -> str:
        return f"<Inventory: {len(self.listed)} modules listed, {len(self.unlisted)} not>"

    def __len__(self) -> int:
        return len(self.modules)

    def __iter__(self) -> Iterator[LoadedModule]:
        return iter(self.modules)

    def __contains__(self, what: object) -> bool:
        """Tell whether there is a module of a name, or whether a module is among them."""
        return super().__contains__(what) or what in self.modules

    def get(self, name: str) -> LoadedModule | None:
        """Return the module of a name, a listed one before others, or None."""
        return next((module for module in self.modules if module.name == name), None)

    @property
    def missing(self) -> tuple[str, ...]:
        """Lines about everything that was asked for so far and could not be read."""
        gaps = ((module.address, *gap) for module in self.modules for gap in module.gaps.items())
        return (*self.errors, *(f"module at {address:#x}: {fact}: {reason}" for address, fact, reason in gaps))

    @property
    def listed(self) -> tuple[LoadedModule, ...]:
        """Modules in the kernel's list."""
        return tuple(module for module in self.modules if module.listed)

    @property
    def unlisted(self) -> tuple[LoadedModule, ...]:
        """Modules that are in memory but not in the list."""
        return tuple(module for module in self.modules if not module.listed)

    def at(self, address: int) -> LoadedModule | None:
        """Return the module whose memory contains an address; None if there is none."""
        return next((module for module in self.modules if module.holds(address)), None)


def inventory(kernel: Kernel) -> Inventory:
    """Return all modules of a running kernel.

    Raises:
        KallsiftError: if it does not run, or its list of modules is broken or cannot be found.
    """
    if not kernel.has_memory and kernel.memory.image is None:
        raise KallsiftError(f"this kernel does not run, so it has no modules (its state: {kernel.state.value})")
    memory = virtual_memory(kernel)
    listed = listed_structures(kernel, memory)
    typed = layout_from_btf(kernel, memory, listed)
    fields = infer_layout(memory, listed) if typed is None else typed
    known_by, errors = found_elsewhere(kernel, memory, fields, listed)
    unlisted = np.array(sorted(known_by.keys() - set(listed.addresses.tolist())), np.uint64)
    learned = listed if len(listed) else structures_at(memory, unlisted)
    reader = FactReader(memory, fields, learned, _getters(kernel))
    found = [LoadedModule(one, (LIST, *known_by.get(one, ())), reader) for one in listed.addresses.tolist()]
    found += [LoadedModule(one, known_by[one], reader) for one in unlisted.tolist()]
    unknown = fields.unknown if typed is None and found else ()
    return Inventory(tuple(found), unknown, (*listed.missing, *errors), memory.words.size)


def _getters(kernel: Kernel) -> dict[int, str]:
    """Return the types of parameters, by the address of the function that prints them."""
    places = ((kernel.symbols.find(name), kind) for name, kind in GETTERS.items())
    return {kernel.symbols.symbol(index).address: kind for index, kind in places if index is not None}
