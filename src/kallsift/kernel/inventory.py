"""All modules that are loaded, those that the kernel's list lacks among them, with all that the kernel knows of each.

Which facts these are is what ``/proc/modules`` and ``/sys/module`` show. What takes more reading (sections, parameters,
symbols) is read when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from kallsift.errors import KallsiftError, UnmappedError
from kallsift.kallsyms.table import SymbolTable
from kallsift.kernel.model import Kernel
from kallsift.kernel.module_equations import solved_fields
from kallsift.kernel.module_facts import FactReader, Region
from kallsift.kernel.module_fields import Fields, typed_fields
from kallsift.kernel.module_parameters import GETTERS, Parameter
from kallsift.kernel.module_sections import Section
from kallsift.kernel.module_structures import STATES, Structures, state_of, structures_at
from kallsift.kernel.module_witnesses import witnessed
from kallsift.kernel.modules import listed_structures
from kallsift.kernel.virtual import VirtualMemory, virtual_memory

LIST = "list"
"""The witness that ``/proc/modules`` and ``/proc/kallsyms`` go by."""

CODE = ("core", "text")
"""What the part of a module's memory is called that its address in ``/proc/modules`` is of."""

Fact = TypeVar("Fact")


@dataclass(frozen=True, eq=False)
class LoadedModule:
    """A module in memory. What is None is not known, or the kernel does not keep it: see `Inventory.unknown`.

    Attributes:
        name: as ``/proc/modules`` prints it.
        address: of its ``struct module``.
        state: ``"Live"``, ``"Loading"``, ``"Unloading"`` or ``"Unformed"``.
        found_by: what knows it: ``"list"``, and names of `module_witnesses.WITNESSES`.
        regions: the parts of its memory, also those of no size.
        refcount: how often it is used.
        users: names of the modules that use it, in the kernel's order.
        permanent: whether it cannot be unloaded.
        taints: letters of the flags that it has set.
        version: as its author calls it; empty where it says none.
        srcversion: checksum of its source; empty where it has none.
        arguments: what it was loaded with.
        facts: what reads the rest.
    """

    name: str | None
    address: int
    state: str | None
    found_by: tuple[str, ...]
    regions: tuple[Region, ...] | None
    refcount: int | None
    users: tuple[str, ...] | None
    permanent: bool | None
    taints: str | None
    version: str | None
    srcversion: str | None
    arguments: str | None
    facts: FactReader

    @property
    def listed(self) -> bool:
        """Whether the kernel's list has it, so that ``/proc/modules`` and ``/proc/kallsyms`` show it."""
        return LIST in self.found_by

    @property
    def base(self) -> int | None:
        """Where its code begins, 0 where it has none."""
        return next((region.base for region in self.regions or () if region.name in CODE), None)

    @property
    def size(self) -> int | None:
        """Bytes of all its memory."""
        return None if self.regions is None else sum(region.size for region in self.regions)

    @cached_property
    def sections(self) -> tuple[Section, ...] | None:
        """Its sections, in the order of its file; none where ``/sys/module`` shows none.

        Raises:
            KallsiftError: if they cannot be read.
        """
        return self.facts.sections(self.address)

    @cached_property
    def build_id(self) -> str | None:
        """The build ID of its file, as hexadecimal digits; empty where it has none.

        Raises:
            KallsiftError: if it cannot be read.
        """
        return None if self.sections is None else self.facts.build_id(self.sections)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...] | None:
        """Its parameters, in its own order.

        Raises:
            KallsiftError: if they cannot be read.
        """
        return self.facts.parameters(self.address)

    @cached_property
    def symbols(self) -> SymbolTable:
        """Its symbols, as ``/proc/kallsyms`` prints those of listed modules.

        Raises:
            KallsiftError: if they cannot be read.
        """
        return self.facts.symbols(self.address)

    def holds(self, address: int) -> bool:
        """Whether an address is in its memory."""
        return any(0 <= address - region.base < region.size for region in self.regions or ())


@dataclass(frozen=True, eq=False)
class Inventory:
    """All modules of a kernel.

    Attributes:
        modules: the listed ones in the list's order, the last that was loaded first; then the others by address.
        unknown: names of facts that are known of no module, since nothing tells where they stand.
        missing: what could not be read, one line each.
        word_size: bytes of an address.
    """

    modules: tuple[LoadedModule, ...] = ()
    unknown: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    word_size: int = 8

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
    memory = virtual_memory(kernel)
    listed = listed_structures(kernel, memory)
    typed = typed_fields(kernel, memory)
    fields = typed
    if fields is None:
        live = [number for number, address in enumerate(listed.addresses.tolist()) if _is_live(memory, address)]
        whole = Structures(listed.addresses[live], listed.words[live])
        fields = solved_fields(memory, whole) if live else Fields()
    known_by, missing = witnessed(kernel, memory, fields, listed)
    unlisted = np.array(sorted(known_by.keys() - set(listed.addresses.tolist())), np.uint64)
    if not len(listed) + len(unlisted):
        return Inventory((), (), missing, memory.words.size)
    learned = listed if len(listed) else structures_at(memory, unlisted)
    reader = FactReader(memory, fields, learned, _getters(kernel))
    gaps = list(missing)
    found = [
        _module(reader, address, (LIST, *known_by.get(address, ())), gaps) for address in listed.addresses.tolist()
    ]
    found += [_module(reader, address, known_by[address], gaps) for address in unlisted.tolist()]
    return Inventory(tuple(found), fields.unknown if typed is None else (), tuple(gaps), memory.words.size)


def _is_live(memory: VirtualMemory, address: int) -> bool:
    """Whether a module is complete; what one that is being loaded keeps need not make sense yet."""
    try:
        return state_of(memory, address) == STATES[0]
    except UnmappedError:
        return False


def _getters(kernel: Kernel) -> dict[int, str]:
    """The types of parameters by the address of the kernel's function that prints them."""
    places = ((kernel.symbols.find(name), kind) for name, kind in GETTERS.items())
    return {kernel.symbols.symbol(index).address: kind for index, kind in places if index is not None}


def _module(reader: FactReader, address: int, found_by: tuple[str, ...], gaps: list[str]) -> LoadedModule:
    """One module; what cannot be read of it is None, and a line in ``gaps`` says why."""

    def fact(read: Callable[[int], Fact | None]) -> Fact | None:
        try:
            return read(address)
        except KallsiftError as error:
            gaps.append(f"the module at {address:#x}: {read.__name__}: {error}")
            return None

    return LoadedModule(
        fact(reader.name),
        address,
        fact(reader.state),
        found_by,
        fact(reader.regions),
        fact(reader.refcount),
        fact(reader.users),
        fact(reader.permanent),
        fact(reader.taints),
        fact(reader.version),
        fact(reader.srcversion),
        fact(reader.arguments),
        reader,
    )
