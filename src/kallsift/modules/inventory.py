"""All modules that are loaded, those that the kernel's list lacks among them, with all that the kernel knows of each.

Which facts these are is what ``/proc/modules`` and ``/sys/module`` show. What takes more reading (sections, parameters,
symbols) is read when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np

from kallsift.errors import KallsiftError
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.access.virtual_memory import virtual_memory
from kallsift.kernel.kernel import Kernel
from kallsift.modules.field_inference import solved_fields
from kallsift.modules.field_offsets import typed_fields
from kallsift.modules.hidden_modules import witnessed
from kallsift.modules.memory_regions import Region
from kallsift.modules.module_list import listed_structures
from kallsift.modules.module_reader import FactReader
from kallsift.modules.parameters import GETTERS, Parameter
from kallsift.modules.sections import Section
from kallsift.modules.struct_module import structures_at

LIST = "list"
"""The witness that ``/proc/modules`` and ``/proc/kallsyms`` go by."""

CODE = ("core", "text")
"""What the part of a module's memory is called that its address in ``/proc/modules`` is of."""

Fact = TypeVar("Fact")


@dataclass(frozen=True, eq=False)
class LoadedModule:
    """A module in memory; its facts are read when they are asked for.

    The source must be open then. A fact is None where the kernel does not keep it, or nothing tells where
    (`Inventory.unknown`), or it cannot be read (``gaps``).

    Attributes:
        address: of its ``struct module``.
        found_by: what knows it: ``"list"``, and names of `module_witnesses.WITNESSES`.
        facts: what reads of it.
        gaps: names of the facts that could not be read so far, and why.
    """

    address: int
    found_by: tuple[str, ...]
    facts: FactReader
    gaps: dict[str, str] = field(default_factory=dict, repr=False)

    def _read(self, read: Callable[[int], Fact | None]) -> Fact | None:
        try:
            return read(self.address)
        except KallsiftError as error:
            self.gaps[read.__name__] = str(error)
            return None

    @property
    def listed(self) -> bool:
        """Whether the kernel's list has it, so that ``/proc/modules`` and ``/proc/kallsyms`` show it."""
        return LIST in self.found_by

    @cached_property
    def name(self) -> str | None:
        """As ``/proc/modules`` prints it."""
        return self._read(self.facts.name)

    @cached_property
    def state(self) -> str | None:
        """``"Live"``, ``"Loading"``, ``"Unloading"`` or ``"Unformed"``."""
        return self._read(self.facts.state)

    @cached_property
    def regions(self) -> tuple[Region, ...] | None:
        """The parts of its memory, also those of no size."""
        return self._read(self.facts.regions)

    @cached_property
    def refcount(self) -> int | None:
        """How often it is used; -1 while it is unloaded."""
        return self._read(self.facts.refcount)

    @cached_property
    def users(self) -> tuple[str, ...] | None:
        """Names of the modules that use it, in the kernel's order."""
        return self._read(self.facts.users)

    @cached_property
    def permanent(self) -> bool | None:
        """Whether it cannot be unloaded."""
        return self._read(self.facts.permanent)

    @cached_property
    def taints(self) -> str | None:
        """Letters of the flags that it has set."""
        return self._read(self.facts.taints)

    @cached_property
    def version(self) -> str | None:
        """As its author calls it; empty where it says none."""
        return self._read(self.facts.version)

    @cached_property
    def srcversion(self) -> str | None:
        """Checksum of its source; empty where it has none."""
        return self._read(self.facts.srcversion)

    @cached_property
    def arguments(self) -> str | None:
        """What it was loaded with."""
        return self._read(self.facts.arguments)

    @cached_property
    def sections(self) -> tuple[Section, ...] | None:
        """Its sections, in the order of its file; none where ``/sys/module`` shows none."""
        return self._read(self.facts.sections)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...] | None:
        """Its parameters, in its own order."""
        return self._read(self.facts.parameters)

    @cached_property
    def symbols(self) -> SymbolTable | None:
        """Its symbols, as ``/proc/kallsyms`` prints those of listed modules; what is amiss with some is a gap."""
        found = self._read(self.facts.symbols)
        if found is None:
            return None
        if found.remarks:
            self.gaps["symbols"] = "; ".join(found.remarks)
        return found.table

    @cached_property
    def build_id(self) -> str | None:
        """The build ID of its file, as hexadecimal digits; empty where it has none."""
        return self._read(self.facts.build_id)

    @property
    def base(self) -> int | None:
        """Where its code begins, 0 where it has none."""
        return next((region.base for region in self.regions or () if region.name in CODE), None)

    @property
    def size(self) -> int | None:
        """Bytes of all its memory."""
        return None if self.regions is None else sum(region.size for region in self.regions)

    def holds(self, address: int) -> bool:
        """Whether an address is in its memory."""
        return any(0 <= address - region.base < region.size for region in self.regions or ())


@dataclass(frozen=True, eq=False)
class Inventory:
    """All modules of a kernel.

    Attributes:
        modules: the listed ones in the list's order, the last that was loaded first; then the others by address.
        unknown: names of facts that are known of no module, since nothing tells where they stand.
        unheard: what could not be asked for modules, one line each.
        word_size: bytes of an address.
    """

    modules: tuple[LoadedModule, ...]
    unknown: tuple[str, ...]
    unheard: tuple[str, ...]
    word_size: int

    @property
    def missing(self) -> tuple[str, ...]:
        """What could not be read of what has been asked for so far, one line each."""
        gaps = ((module.address, *gap) for module in self.modules for gap in module.gaps.items())
        return (*self.unheard, *(f"module at {address:#x}: {fact}: {reason}" for address, fact, reason in gaps))

    @property
    def listed(self) -> tuple[LoadedModule, ...]:
        """Those that the kernel's list has."""
        return tuple(module for module in self.modules if module.listed)

    @property
    def unlisted(self) -> tuple[LoadedModule, ...]:
        """Those that are in memory, but not in the list."""
        return tuple(module for module in self.modules if not module.listed)

    def at(self, address: int) -> LoadedModule | None:
        """The module in whose memory an address lies; None if in no module's."""
        return next((module for module in self.modules if module.holds(address)), None)


def inventory(kernel: Kernel) -> Inventory:
    """All modules of a kernel that runs.

    Raises:
        KallsiftError: if it does not run, or its list of modules is broken or cannot be found.
    """
    if not kernel.has_memory and kernel.memory.image is None:
        raise KallsiftError(f"a kernel that does not run has no modules (its state: {kernel.state.value})")
    memory = virtual_memory(kernel)
    listed = listed_structures(kernel, memory)
    typed = typed_fields(kernel, memory, listed)
    fields = solved_fields(memory, listed) if typed is None else typed
    known_by, unheard = witnessed(kernel, memory, fields, listed)
    unlisted = np.array(sorted(known_by.keys() - set(listed.addresses.tolist())), np.uint64)
    learned = listed if len(listed) else structures_at(memory, unlisted)
    reader = FactReader(memory, fields, learned, _getters(kernel))
    found = [LoadedModule(one, (LIST, *known_by.get(one, ())), reader) for one in listed.addresses.tolist()]
    found += [LoadedModule(one, known_by[one], reader) for one in unlisted.tolist()]
    unknown = fields.unknown if typed is None and found else ()
    return Inventory(tuple(found), unknown, (*listed.missing, *unheard), memory.words.size)


def _getters(kernel: Kernel) -> dict[int, str]:
    """The types of parameters by the address of the kernel's function that prints them."""
    places = ((kernel.symbols.find(name), kind) for name, kind in GETTERS.items())
    return {kernel.symbols.symbol(index).address: kind for index, kind in places if index is not None}
