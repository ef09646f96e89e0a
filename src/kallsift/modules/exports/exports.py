"""List every symbol that the kernel and its loaded modules export, with its owner, condition and checksum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from kallsift.errors import KallsiftError
from kallsift.kernel.access.virtual_memory import VirtualMemory, image_memory, virtual_memory
from kallsift.kernel.kernel import Kernel
from kallsift.memory.memory import printable
from kallsift.modules.exports.kernel import ExportsError, kernel_arrays
from kallsift.modules.exports.ksymtab_entries import Checksums, Export, ExportArray, read_array
from kallsift.modules.exports.modules import module_arrays
from kallsift.modules.module_list import modules
from kallsift.modules.struct_module import structures_at

MAX_ALL = 1 << 18
"""Highest number of exports of all owners; a distribution's kernel with all of its modules has some 30,000."""

KERNEL = "vmlinux"
"""Owner of the kernel's own exports, as Module.symvers calls it."""


@dataclass(frozen=True)
class Loaded:
    """A loaded module: its name, and its state as ``/proc/modules`` calls it."""

    name: str
    state: str


@dataclass(frozen=True, eq=False, repr=False)
class Exports:
    """The exports of a kernel and its modules.

    Attributes:
        symbols: exports in the order in which the kernel searches them: its own, then each module's.
        modules: loaded modules in the order of the kernel's list; none in an image.
        checksums: whether the kernel keeps checksums; None if that is not known.
        missing: parts that could not be read, one line each.
    """

    symbols: tuple[Export, ...]
    modules: tuple[Loaded, ...] = ()
    checksums: bool | None = None
    missing: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Exports: {len(self):,} symbols of {len({export.owner for export in self})} owners>"

    def __len__(self) -> int:
        return len(self.symbols)

    def __iter__(self) -> Iterator[Export]:
        return iter(self.symbols)

    def of(self, owner: str) -> Exports:
        """Return the exports of one owner: ``vmlinux`` or a module."""
        return replace(self, symbols=tuple(export for export in self.symbols if export.owner == owner))

    @property
    def owners(self) -> set[str]:
        """Names of all possible owners: ``vmlinux`` and the loaded modules."""
        return {KERNEL, *(module.name for module in self.modules), *(export.owner for export in self.symbols)}

    def all(self, name: str) -> tuple[Export, ...]:
        """Return every export of a name, in the order in which the kernel finds them.

        The result is empty if there is none.
        """
        return self._by_name.get(name, ())

    @cached_property
    def _by_name(self) -> dict[str, tuple[Export, ...]]:
        found: dict[str, tuple[Export, ...]] = {}
        for export in self.symbols:
            found[export.name] = (*found.get(export.name, ()), export)
        return found


def exports(kernel: Kernel) -> Exports:
    """Return all exports of a kernel and, if it runs, of its modules.

    Raises:
        ExportsError: if no export is found; the message says why.
    """
    runs = kernel.has_memory
    memory = virtual_memory(kernel) if runs else image_memory(kernel)
    gathered = _Gathered(memory)
    own = None
    try:
        own = kernel_arrays(kernel, memory)
    except ExportsError as error:
        gathered.missing.append(f"{KERNEL}: {error}")
    else:
        gathered.missing += (f"{KERNEL}: {line}" for line in own.missing)
        gathered.add(KERNEL, own.arrays, own.checksums)
        if not runs and not any(array.form.relative for array in own.arrays):
            gathered.symbols = [_addressed(kernel, export) for export in gathered.symbols]
    loaded: list[Loaded] = []
    if runs:
        try:
            listed = modules(kernel, symbols=False)
            gathered.missing += (f"modules: {line}" for line in listed.missing)
            loaded += (Loaded(module.name, module.state) for module in listed.modules)
            structures = structures_at(memory, np.array([module.address for module in listed.modules], np.uint64))
            for module, of_module in zip(listed.modules, module_arrays(memory, structures), strict=True):
                gathered.add(module.name, of_module.arrays, own.checksums if own else None)
                if of_module.broken:
                    gathered.missing.append(f"{printable(module.name)}: its structure does not point to exports")
        except KallsiftError as error:
            gathered.missing.append(f"modules: {error}")
    if not gathered.symbols:
        raise ExportsError(
            "; ".join(gathered.missing) or "this kernel exports nothing: it was built without support for modules"
        )
    known = None if own is None or own.missing else own.checksums is not None
    return Exports(tuple(gathered.symbols), tuple(loaded), known, tuple(gathered.missing))


@dataclass
class _Gathered:
    """The exports that have been read so far.

    Attributes:
        memory: the kernel's memory.
        symbols: the exports.
        missing: parts that could not be read, one line each.
    """

    memory: VirtualMemory
    symbols: list[Export] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def add(self, owner: str, arrays: Iterable[ExportArray], checksums: Checksums | None) -> None:
        """Read the arrays of one owner."""
        for array in arrays:
            if len(self.symbols) + array.count > MAX_ALL:
                self.missing.append(f"{printable(owner)}: left out, because the exports exceed {MAX_ALL:,} in all")
                continue
            found, lost = read_array(self.memory, array, owner, checksums)
            self.symbols += found
            if lost:
                self.missing.append(
                    f"{printable(owner)}: {lost:,} of {array.count:,} entries at {array.start:#x} cannot be read"
                )


def _addressed(kernel: Kernel, export: Export) -> Export:
    """Return an export of an image with its address.

    Where a loader has yet to fill in the address, it is taken from the only symbol of that name; it is None if there
    are none or several.
    """
    if export.address:
        return export
    named = kernel.symbols.all(export.name)
    return replace(export, address=named[0].address if len(named) == 1 else None)
